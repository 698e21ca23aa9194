"""In-place changes of views on the tape: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from tape_parts import matrix

import minidl


def _base_changed_then_view_used(lib, a, b):
    x = a * 1.0
    v = x[1]
    x.mul_(b)
    return (v * v).sum() + x.sum()


def _views_of_views_changed_twice(lib, a, b):
    x = a * 1.0
    v = x[1:]
    w = v.t()[1:3]
    w.mul_(b[:2])
    v.add_(b)
    w.sin_()
    return (x * x).sum() + (w * 3).sum() + v.sum()


def _siblings(lib, a, b):
    x = a * 1.0
    first, second = x.view(-1)[:6], x.view(2, 6)[0]
    first.mul_(2.0)
    second.add_(b[0])
    return (first * second).sum() + (x * x).sum()


def _views_made_before_the_base_requires_grad(lib, a, b):
    x = lib.zeros(3, 4, dtype=lib.float64)
    v, w = x[0], x.view(-1)
    x[1:] = a[1:] * 2
    assert v.requires_grad and w.requires_grad and x.requires_grad
    return (w * w).sum() + (v * b).sum()


def _slice_assigned_into_what_needed_no_gradient(lib, a, b):
    x = lib.ones(3, 4, dtype=lib.float64)
    x[0] = b
    x[:, 1] = a[:, 2]
    x[2, 3] = (a * a).sum()
    return (x * x).sum()


def _assigned_twice_to_one_place(lib, a, b):
    x = a * 1.0
    x[0] = b
    x[0] = b * b
    return (x * x).sum()


def _broadcast_assignment(lib, a, b):
    x = a * 1.0
    x[:] = b
    x[1:, 2] = b[0]
    return (x * x * a).sum()


def _view_of_the_result_of_a_view(lib, a, b):
    x = (a * 1.0).t()
    x[0].mul_(b[0])
    y = x.reshape(2, 2, 3)[1]
    y.mul_(b[1])
    return (x * x).sum() + (y * y).sum()


def _zero_and_fill(lib, a, b):
    x = a * 2.0
    v = x[:, 1:]
    v.zero_()
    v[0].fill_(3.0)
    v[1].add_(b[1:])
    return (x * x).sum()


def _through_a_clone(lib, a, b):
    x = a.clone()
    v = x[0]
    m = v + b
    x += m * b
    return (m + v).sum() + (x * x).sum()


def _swap(lib, a, b):
    x = a * 1.0
    keep = x[0].clone()
    x[0] = x[1].clone()
    x[1] = keep * b
    return (x * x * lib.from_numpy(np.arange(12.0).reshape(3, 4))).sum()


def _in_place_on_itself(lib, a, b):
    x = a * 1.0
    x.add_(x)
    x[0].sub_(x[0])
    x.mul_(x.clone())
    return (x * x).sum() + (x[1] * b).sum()


def _mask_and_list(lib, a, b):
    x = a * 1.0
    x[x > 5.5] = 0.5
    x[[0, 2]] = b * 2.0
    v = x.view(-1)
    v[lib.tensor([1, 7])] = b[:2] * a[0, :2]
    return (x * x).sum()


def _loop_of_rows(lib, a, b):
    state = lib.zeros(4, 4, dtype=lib.float64)
    for i in range(3):
        state[i + 1] = state[i].clone() * b + a[i]
    return (state * state).sum()


def _view_kept_while_the_base_name_moves_on(lib, a, b):
    x = a * 1.0
    v = x[0]
    x = x.mul_(2.0)
    x = x + 0.0
    v.mul_(b)
    return (v * v).sum() + (x * x).sum()


def _detached_change(lib, a, b):
    x = a * 1.0
    y = x * 2.0
    x.detach()[0] = 7.0
    return (y * b).sum() + (x * b).sum()


def _expanded_reading(lib, a, b):
    x = b * 1.0
    e = x.expand(3, 4)
    x[1:].mul_(a[0, 1:])
    return (e * a).sum()


PROGRAMS = [
    _base_changed_then_view_used, _views_of_views_changed_twice, _siblings, _views_made_before_the_base_requires_grad,
    _slice_assigned_into_what_needed_no_gradient, _assigned_twice_to_one_place, _broadcast_assignment,
    _view_of_the_result_of_a_view, _zero_and_fill, _through_a_clone, _swap, _in_place_on_itself, _mask_and_list,
    _loop_of_rows, _view_kept_while_the_base_name_moves_on, _detached_change, _expanded_reading,
]


def gradients(lib, program):
    a, b = matrix(lib, True), lib.from_numpy(np.array([0.5, -1.0, 2.0, 1.5])).requires_grad_()
    result = program(lib, a, b)
    result.backward()
    return [result.item(), *(None if x.grad is None else x.grad.numpy() for x in (a, b))]


@pytest.mark.torch
@pytest.mark.parametrize("program", PROGRAMS)
def test_in_place_programs_have_pytorchs_gradients(program, torch):
    for got, expected in zip(gradients(minidl, program), gradients(torch, program), strict=True):
        assert (got is None) == (expected is None)
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-12)


DIFFERENTIABLE = [program for program in PROGRAMS if program is not _detached_change]


@pytest.mark.parametrize("program", DIFFERENTIABLE)
def test_in_place_programs_agree_with_finite_differences(program):
    a, b = matrix(minidl, True), minidl.tensor([0.5, -1.0, 2.0, 1.5], dtype=minidl.float64, requires_grad=True)
    minidl.autograd.gradcheck(lambda a, b: program(minidl, a, b), (a, b), eps=1e-6, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("program", DIFFERENTIABLE)
def test_in_place_programs_can_be_differentiated_twice(program):
    a, b = matrix(minidl, True), minidl.tensor([0.5, -1.0, 2.0, 1.5], dtype=minidl.float64, requires_grad=True)
    minidl.autograd.gradgradcheck(lambda a, b: program(minidl, a, b), (a, b), eps=1e-6, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("make", [
    lambda x: x.add_(1.0), lambda x: x.__setitem__(0, 1.0), lambda x: x.zero_(), lambda x: x.copy_(x.detach()),
    lambda x: x.__imul__(2.0), lambda x: x.masked_fill_(x > 0, 0.0), lambda x: x.__setitem__([0], 1.0),
    lambda x: x.uniform_(), lambda x: x[0].add_(1.0), lambda x: x.view(-1)[2:].relu_(), lambda x: x.t().zero_(),
])
def test_a_leaf_that_requires_grad_cannot_be_changed_in_place(make):
    x = matrix(minidl, True)
    before = x.detach().numpy().copy()
    with pytest.raises(RuntimeError, match=r"a (view of a )?leaf Variable that requires grad is being used in an "
                                           "in-place operation"):
        make(x)
    np.testing.assert_array_equal(x.detach().numpy(), before)
    assert x._version == 0
    with minidl.no_grad():
        make(x)
    assert x._version == 1 and x.is_leaf and x.requires_grad


def test_a_view_made_without_recording_cannot_be_changed_on_the_tape():
    a = matrix(minidl, True)
    x = minidl.zeros(3, 4, dtype=minidl.float64)
    with minidl.no_grad():
        v = x[0]
    assert v._base is x
    v.add_(1.0)
    with pytest.raises(RuntimeError, match="view was created in no_grad mode and is being modified inplace"):
        v.mul_(a[0])
    with pytest.raises(RuntimeError, match="view was created in no_grad mode"):
        v.view(2, 2).mul_(a[0, :2])
    assert v.tolist() == [1.0] * 4 and not x.requires_grad


def test_a_view_made_without_recording_stays_off_the_tape():
    """PyTorch calls such a view a leaf that requires grad; here it is what no_grad promises, like ``detach()``."""
    x = matrix(minidl, True) * 1.0
    with minidl.no_grad():
        v = x[0]
    assert not v.requires_grad
    x.mul_(2.0)
    assert not v.requires_grad and v.tolist() == [2.0, 4.0, 6.0, 8.0]


def test_a_view_of_a_leaf_follows_a_change_made_without_recording():
    """An optimizer step changes the leaf; a view of it that was made before gives the new numbers and gradients."""
    p = matrix(minidl, True)
    v = p[0]
    with minidl.no_grad():
        p.mul_(10.0)
    (v * v).sum().backward()
    assert p.grad.tolist() == [[20.0, 40.0, 60.0, 80.0], [0.0] * 4, [0.0] * 4]


def test_a_detached_tensor_keeps_its_own_history():
    x = matrix(minidl, True) * 1.0
    d = x.detach()
    assert d._base is None and not d.requires_grad
    d.requires_grad_()
    d2 = d * 2.0
    d2.sum().backward()
    assert d.grad.tolist() == [[2.0] * 4] * 3


def test_grad_fn_of_a_changed_view():
    x = matrix(minidl, True) * 1.0
    v = x[0]
    x.mul_(2.0)
    assert x.grad_fn.name() == "MulBackward0" and v.grad_fn.name().startswith(("Select", "Slice"))
    v.add_(1.0)
    assert x.grad_fn.name() == "CopySlices"


def test_a_base_that_is_not_row_major_is_followed_through_its_flat_view():
    """The memory of the base lies column by column: the flat view is one only for exactly these strides."""
    w = minidl.tensor([1.0, 2.0, 3.0, 4.0], dtype=minidl.float64, requires_grad=True)
    base = minidl.from_numpy(np.arange(12.0).reshape(4, 3).T)
    flat = base.t().view(-1)
    flat[2:6].mul_(w)
    assert base.requires_grad
    (base * base).sum().backward()
    assert w.grad.tolist() == [2.0 * w * n * n for w, n in zip([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0], strict=True)]
