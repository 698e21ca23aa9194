"""Errors of the tape: of PyTorch's kind, with a usable state afterwards, and never a crash."""

from __future__ import annotations

import numpy as np
import pytest
from tape_parts import Scale, leaf

import minidl
from minidl._devices.reference import Reference
from minidl._ext import core


def test_backward_twice_through_a_freed_graph():
    a = leaf(1.0, 2.0)
    y = (a * a).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"Trying to backward through the graph a second time.*retain_graph=True"):
        y.backward()
    assert a.grad.tolist() == [2.0, 4.0]


def test_backward_twice_with_retain_graph_adds_up():
    a = leaf(1.0, 2.0)
    y = (a * a).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert a.grad.tolist() == [4.0, 8.0]


def test_backward_twice_through_a_freed_in_place_change_and_function():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    x = a * 1.0
    x[0].mul_(b[0])
    x.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        x.sum().backward()
    y = Scale.apply(a, 2.0).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_backward_of_more_than_one_number_needs_a_gradient():
    with pytest.raises(RuntimeError, match=r"grad can be implicitly created only for scalar outputs.*\[2\]"):
        (leaf(1.0, 2.0) * 2.0).backward()


def test_backward_without_history():
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"):
        minidl.ones(1).backward()


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: a + b,
        lambda a, b: minidl.cat([a, b]),
        lambda a, b: a.add_(b),
        lambda a, b: a.copy_(b) if False else a * b,
        lambda a, b: minidl.where(a > 0, a, b),
        lambda a, b: a @ b.t(),
    ],
)
def test_tensors_of_two_devices_do_not_mix(call):
    a = minidl.ones(2, 2)
    b = core.from_raw(np.ones((2, 2), np.float32), Reference())
    with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
        call(a, b)


def test_a_gradient_of_another_device_is_refused():
    a = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError):
        (a * 2.0).backward(core.from_raw(np.ones(3), Reference()))


def test_what_is_not_a_tensor_is_refused_and_never_crashes():
    a = leaf(1.0)
    y = a * 2.0
    for call in (
        lambda: minidl.autograd.backward([None]),
        lambda: minidl.autograd.backward([y], inputs=[None]),
        lambda: minidl.autograd.grad(y, [None]),
        lambda: minidl.autograd.grad(None, a),
        lambda: y.backward(1.0),
        lambda: minidl.add(None, None),
        lambda: minidl.mul(1, 2),
        lambda: minidl.add("a", a),
        lambda: a.add_(None),
        lambda: a + None,
        lambda: core.inplace(None, None),
        lambda: core.raw_view(None, None),
        lambda: core.attach_output(None, None, 0),
        lambda: core.function_node(None, None, None),
        lambda: a.register_hook(None) and y.backward(),
        lambda: setattr(a, "data", None),
        lambda: setattr(a, "grad", 3),
        lambda: minidl.cat([None]),
        lambda: minidl.stack([a, None]),
        lambda: minidl.Parameter(None),
        lambda: minidl.relu(None),
        lambda: a @ None,
        lambda: minidl.where(None, a, a),
        lambda: a[None, "x"],
        lambda: minidl.matmul(a, None),
        lambda: core.Node().next_functions[0],
        lambda: core.Node().needs(0),
        lambda: core.Node()._saved_tensors(),
    ):
        with pytest.raises((TypeError, RuntimeError, AttributeError, IndexError)):
            call()


def test_a_bare_tensor_is_an_empty_one():
    assert minidl.Tensor().shape == (0,) and minidl.Tensor()._version == 0
    assert minidl.Tensor([1, 2]).dtype == minidl.float32 and minidl.Tensor(2, 3).shape == (2, 3)


def test_a_tensor_without_memory_is_an_error_and_not_a_crash():
    broken = minidl.Tensor.__new__(minidl.Tensor)
    for use in (
        lambda: broken._version,
        lambda: broken + 1,
        lambda: broken.shape,
        lambda: broken.sum(),
        lambda: broken[0],
        lambda: broken.detach().add_(1),
        lambda: broken._bump_version(),
        lambda: repr(broken),
    ):
        with pytest.raises((AttributeError, TypeError, RuntimeError)):
            use()
