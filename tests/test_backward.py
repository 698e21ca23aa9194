"""``backward``: which gradients arrive where, and how they add up."""

from __future__ import annotations

import numpy as np
import pytest
from tape_parts import leaf

import minidl
from minidl.autograd import grad

# ---- backward ------------------------------------------------------------------------------------------------------


def test_backward_with_a_gradient():
    a = leaf(1.0, 2.0)
    (a * a).backward(minidl.tensor([10.0, 100.0], dtype=minidl.float64))
    assert a.grad.tolist() == [20.0, 400.0]


def test_the_gradient_is_cast_to_the_dtype_of_the_output():
    a = leaf(1.0, 2.0)
    (a * a).backward(minidl.ones(2))
    assert a.grad.dtype == minidl.float64


@pytest.mark.parametrize(
    "gradient, error, message",
    [
        (
            minidl.ones(3),
            RuntimeError,
            r"Mismatch in shape: grad_output has a shape of \[3\] and output has a shape of \[2\]",
        ),
        (1.0, TypeError, "gradients can be either Tensors or None, but got float"),
    ],
)
def test_a_gradient_that_does_not_fit(gradient, error, message):
    with pytest.raises(error, match=message):
        (leaf(1.0, 2.0) * 2.0).backward(gradient)


def test_backward_of_several_tensors_at_once():
    a = leaf(1.0, 2.0)
    b = a * 2.0
    minidl.autograd.backward([b.sum(), b], [None, minidl.ones(2)])
    assert a.grad.tolist() == [4.0, 4.0]
    with pytest.raises(RuntimeError, match="got 2 tensors and 1 gradients"):
        minidl.autograd.backward([b.sum(), b], [None])


def test_backward_into_some_inputs_only():
    a, b = leaf(1.0), leaf(2.0)
    h = a * b
    h.sum().backward(inputs=[a])
    assert a.grad.item() == 2.0 and b.grad is None
    h = a * b
    (h * h).backward(inputs=[h, b])
    assert h.grad.item() == 4.0 and b.grad.item() == 4.0 and a.grad.item() == 2.0
    with pytest.raises(RuntimeError, match="'inputs' argument to backward cannot be empty"):
        (a * b).backward(inputs=[])
    with pytest.raises(RuntimeError, match="does not require grad"):
        (a * b).backward(inputs=[minidl.ones(1)])


def test_backward_into_an_input_whose_grad_is_retained_adds_once():
    a = leaf(3.0)
    h = a * 1.0
    h.retain_grad()
    (h * h).backward(inputs=[h])
    assert h.grad.item() == 6.0


def test_backward_on_a_leaf_itself():
    a = leaf(3.0)
    a.backward()
    a.backward(minidl.tensor([2.0]))
    assert a.grad.tolist() == [3.0]


def test_backward_with_create_graph_leaves_gradients_with_a_history():
    a = leaf(3.0)
    (a * a * a).backward(create_graph=True)
    assert a.grad.item() == 27.0 and a.grad.requires_grad
    (second,) = grad(a.grad, a)
    assert second.item() == 18.0
    a.grad = None  # a leaf and the history of its own gradient are a cycle that only the user can open


# ---- accumulation --------------------------------------------------------------------------------------------------


def test_gradients_add_up_in_place():
    a = leaf(1.0, 2.0)
    (a * 2.0).sum().backward()
    first = a.grad
    version = first._version
    (a * 3.0).sum().backward()
    assert a.grad is first and first.tolist() == [5.0, 5.0] and first._version > version


def test_set_gradients_are_added_to():
    a = leaf(1.0, 2.0)
    mine = minidl.tensor([10.0, 20.0], dtype=minidl.float64)
    a.grad = mine
    (a * 2.0).sum().backward()
    assert mine.tolist() == [12.0, 22.0]


def test_what_can_be_set_as_gradient():
    a = leaf(1.0, 2.0)
    for wrong, error, message in (
        (1.0, TypeError, "expected to be a Tensor or None"),
        (minidl.ones(2), RuntimeError, "different type"),
        (minidl.ones(3, dtype=minidl.float64), RuntimeError, "different size"),
        (a, RuntimeError, "its own grad"),
    ):
        with pytest.raises(error, match=message):
            a.grad = wrong
    a.grad = None
    del a.grad
    assert a.grad is None


def aliasing_programs():
    return {
        "a + a": lambda a, b: a + a,
        "a + b": lambda a, b: a + b,
        "a - b": lambda a, b: a - b,
        "sums": lambda a, b: a.sum() + b.sum(),
        "view": lambda a, b: a.view(4, 1) + b.view(4, 1),
        "transpose": lambda a, b: a.view(2, 2).t() + b.view(2, 2),
        "expand": lambda a, b: a.expand(3, 4) + b,
        "clone": lambda a, b: a.clone() + b.clone(),
        "cat": lambda a, b: minidl.cat([a, b, a]),
        "slice": lambda a, b: a[1:] + b[1:],
        "mean": lambda a, b: (a + b).mean(),
        "index": lambda a, b: a[[0, 0]] + b[[1, 1]],
        "in place": lambda a, b: (a * 1.0).add_(b),
        "copied": lambda a, b: minidl.zeros(4, dtype=minidl.float64).copy_(a) + b,
        "assigned": lambda a, b: assigned(a) + b,
        "itself": lambda a, b: minidl.stack([a, b]),
    }


def assigned(a):
    x = minidl.zeros(6, dtype=minidl.float64)
    x[1:5] = a
    return x[1:5]


@pytest.mark.parametrize("name", aliasing_programs())
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_never_share_memory(name, create_graph):
    """Changing one leaf's gradient must change nothing else: no other gradient, no input of backward."""
    a, b = leaf(1.0, 2.0, 3.0, 4.0), leaf(5.0, 6.0, 7.0, 8.0)
    out = aliasing_programs()[name](a, b)
    out.retain_grad()
    direction = minidl.ones(*out.shape, dtype=minidl.float64)
    out.backward(direction, create_graph=create_graph)
    tensors = {
        "a": a,
        "b": b,
        "a.grad": a.grad,
        "b.grad": b.grad,
        "out": out,
        "out.grad": out.grad,
        "direction": direction,
    }
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    names = list(tensors)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            x, y = tensors[one].detach().numpy(), tensors[other].detach().numpy()
            assert not np.may_share_memory(x, y), (one, other)
    a.grad = b.grad = out.grad = None  # with create_graph the gradients have a history that leads to the leaves


def test_gradients_of_grad_never_share_memory():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    direction = minidl.ones(2, dtype=minidl.float64)
    y = a + b
    da, db, dy = grad(y, [a, b, y], direction)
    arrays = [t.numpy() for t in (da, db, dy, direction)]
    for i, one in enumerate(arrays):
        for other in arrays[i + 1 :]:
            assert not np.may_share_memory(one, other)


def test_gradients_are_contiguous():
    a = leaf(*range(6)).detach().view(2, 3).requires_grad_()
    a.t().expand(4, 3, 2).sum().backward()
    assert a.grad.is_contiguous() and a.grad.tolist() == [[4.0] * 3] * 2


def test_the_gradient_has_the_dtype_of_its_leaf():
    a, b = minidl.ones(2, requires_grad=True), minidl.ones(2, dtype=minidl.float64, requires_grad=True)
    (a * b).sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (minidl.float32, minidl.float64)
    x = a * 1.0
    x.add_(b * 2.0)
    x.sum().backward()
    assert b.grad.dtype == minidl.float64 and b.grad.tolist() == [3.0, 3.0]
