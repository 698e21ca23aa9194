"""What the methods of two devices take."""

import inspect


def assert_taken_alike(device, reference):
    """Each method of the reference class is one of the device's own, called with the same names in the same order.

    What a kernel takes besides, for tests, it does not need.
    """
    for name, method in inspect.getmembers(reference, inspect.isfunction):
        assert name in vars(device), f"{name} has no kernel of its own"
        wanted = list(inspect.signature(method).parameters)[1:]
        given = [p for p in inspect.signature(getattr(device, name)).parameters.values() if p.name != "self"]
        assert [p.name for p in given[: len(wanted)]] == wanted, name
        assert all(p.default is not inspect.Parameter.empty for p in given[len(wanted):]), name
