"""What the functions of two devices take."""

import inspect


def parameters(function):
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def assert_called_alike(ours, theirs):
    """The same names in the same order; what a kernel takes besides, for tests, it does not need."""
    wanted = [p.name for p in parameters(theirs)]
    given = parameters(ours)
    assert [p.name for p in given[: len(wanted)]] == wanted, theirs.__name__
    assert all(p.default is not inspect.Parameter.empty for p in given[len(wanted):]), theirs.__name__


def assert_taken_alike(device, reference):
    """Each method of the reference class is one of the device's own, and called alike."""
    for name, method in inspect.getmembers(reference, inspect.isfunction):
        assert name in vars(device), f"{name} has no kernel of its own"
        assert_called_alike(getattr(device, name), method)
