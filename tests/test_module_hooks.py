"""Hooks on modules: what they see and change, what they keep alive, and what becomes of them in copies."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest
from nn_twins import assert_close, numbers

import minidl
from minidl import nn


def test_forward_hooks():
    linear, calls = nn.Linear(2, 2), []
    x = minidl.ones(1, 2)
    plain = linear(x)
    first = linear.register_forward_hook(lambda module, args, output: calls.append((module, args, output.tolist())))
    linear.register_forward_hook(lambda module, args, kwargs, output: output * 2, with_kwargs=True)
    before = linear.register_forward_pre_hook(lambda module, args: (args[0] * 0,))
    assert linear(x).tolist() == [[2 * b for b in linear.bias.tolist()]]
    assert calls == [(linear, calls[0][1], [linear.bias.tolist()])]
    before.remove()
    before.remove()
    linear.register_forward_hook(lambda module, args, output: output + 1, prepend=True)
    with linear.register_forward_pre_hook(lambda module, args, kwargs: (args, {**kwargs}), with_kwargs=True):
        got = linear(input=x)
    assert np.allclose(got.tolist(), 2 * (np.array(plain.tolist()) + 1))
    assert len(calls) == 2
    first.remove()
    linear(x)
    assert len(calls) == 2
    linear.register_forward_pre_hook(lambda module, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="forward pre-hook must return None or a tuple of"):
        linear(x)


def test_full_backward_hooks(torch):
    """Gradients in and out, their replacement, and an input that needs no gradient, as PyTorch."""
    results = []
    for library in (minidl, torch):
        library.manual_seed(0)
        net = library.nn.Sequential(library.nn.Linear(3, 4), library.nn.Tanh(), library.nn.Linear(4, 2)).double()
        seen = []
        for layer in net:
            layer.register_full_backward_hook(lambda module, grad_input, grad_output, seen=seen: seen.append(
                (type(module).__name__, [g is None or g.tolist() for g in grad_input], grad_output[0].tolist())))
        net[2].register_full_backward_hook(lambda module, grad_input, grad_output: (grad_input[0] * 10,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's about hooks that fire without an input that requires a gradient
            net(library.tensor(numbers(5, 3))).sum().backward()
        x = library.tensor(numbers(5, 3), requires_grad=True)
        with library.no_grad():
            net(x)
        net(x).sum().backward()
        results.append((seen, [x.grad, *(p.grad for p in net.parameters())]))
    (seen, grads), (expected_seen, expected_grads) = results
    assert [name for name, _, _ in seen] == ["Linear", "Tanh", "Linear"] * 2 == [name for name, _, _ in expected_seen]
    for got, expected in zip(seen, expected_seen, strict=True):
        assert len(got[1]) == len(expected[1])
        for a, b in zip((*got[1], got[2]), (*expected[1], expected[2]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    for got, expected in zip(grads, expected_grads, strict=True):
        assert_close(got, expected, 1e-12)


def doubled(module, args, output):
    return output * 2


class Counting(nn.Module):
    """Counts its calls by a hook that is a method of its own, and keeps the handle."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.handle = self.register_forward_pre_hook(Counting.count)

    def count(self, args):
        self.calls += 1

    def forward(self, x):
        return x


REGISTER = {
    "forward pre": lambda module: module.register_forward_pre_hook(lambda module, args: None),
    "forward": lambda module: module.register_forward_hook(lambda module, args, output: None),
    "full backward": lambda module: module.register_full_backward_hook(lambda module, grad_input, grad_output: None),
}


@pytest.mark.parametrize("kind", REGISTER)
def test_a_module_with_a_hook_is_released_with_its_last_name(kind):
    gc.collect()
    gc.disable()
    try:
        module = nn.Linear(2, 2)
        REGISTER[kind](module)
        module(minidl.ones(1, 2, requires_grad=True)).sum().backward()
        gone = weakref.ref(module)
        del module
        assert gone() is None
        assert gc.collect() == 0  # nor is a hook or a handle left over
    finally:
        gc.enable()


COPIES = pytest.mark.parametrize("how", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
                                 ids=["deep", "pickle"])


@COPIES
@pytest.mark.parametrize("library", ["minidl", "torch"])
def test_a_copy_has_the_hooks(how, library):
    """The same program in PyTorch shows that it is the same there."""
    library = minidl if library == "minidl" else pytest.importorskip("torch")
    net = library.nn.Sequential(library.nn.Linear(2, 2))
    handle = net.register_forward_hook(doubled)
    net[0].register_forward_hook(doubled, prepend=True)
    x = library.ones(1, 2)
    expected = net(x).tolist()
    copied = how(net)
    assert copied(x).tolist() == expected
    handle.remove()  # the original's only
    assert (2 * net(x)).tolist() == expected
    assert copied(x).tolist() == expected
    copied.register_forward_hook(doubled)
    assert copied(x).tolist() == (4 * net(x)).tolist()


@COPIES
def test_a_handle_inside_the_module_belongs_to_the_copy(how):
    net = Counting()
    copied = how(net)
    net(1)
    copied(1)
    assert (net.calls, copied.calls) == (1, 1)
    copied.handle.remove()
    net(1)
    copied(1)
    assert (net.calls, copied.calls) == (2, 1)


@COPIES
def test_a_copied_handle_of_a_module_that_is_gone_does_nothing(how):
    handle = nn.Linear(1, 1).register_forward_hook(doubled)
    how(handle).remove()
    handle.remove()
