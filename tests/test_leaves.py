"""Leaves and what is none: ``detach``, ``requires_grad``, ``retain_grad``."""

from __future__ import annotations

import pytest
from tape_parts import leaf

import minidl


def test_detach_shares_memory_and_ends_the_history():
    a = leaf(1.0, 2.0)
    y = a * 2.0
    d = y.detach()
    assert d.data_ptr() == y.data_ptr() and not d.requires_grad and d.is_leaf and d.grad_fn is None
    (y * d).sum().backward()
    assert a.grad.tolist() == [4.0, 8.0]


def test_detach_in_place():
    a = leaf(1.0)
    y = a * 2.0
    assert y.detach_() is y and y.is_leaf and not y.requires_grad
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        (a * 2.0)[0].detach_()


def test_requires_grad_may_be_changed_on_leaves_only():
    a = minidl.ones(2)
    assert a.requires_grad_() is a and a.requires_grad and a.is_leaf
    y = a * 2.0
    assert not y.is_leaf and y.requires_grad_() is y
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        y.requires_grad_(False)
    with pytest.raises(RuntimeError, match="only Tensors of floating point dtype can require gradients"):
        minidl.ones(2, dtype=minidl.int64).requires_grad_()
    with pytest.raises(RuntimeError, match="floating point"):
        minidl.tensor([1, 2], requires_grad=True)
    a.requires_grad = False
    assert not (a * 2.0).requires_grad


def test_integers_carry_no_gradient():
    a = leaf(1.0, 2.0)
    for result in (a.argmax(), a > 1.0, a.long(), a.isnan(), a.sort().indices):
        assert not result.requires_grad and result.is_leaf


def test_retain_grad():
    a = leaf(2.0)
    h = a * 3.0
    assert not h.retains_grad
    h.retain_grad()
    assert h.retains_grad and not a.retains_grad
    a.retain_grad()
    (h * h).backward(retain_graph=True)
    assert h.grad.item() == 12.0
    (h * h).backward()
    assert h.grad.item() == 24.0
    with pytest.raises(RuntimeError, match=r"can't retain_grad on Tensor that has requires_grad=False"):
        minidl.ones(1).retain_grad()


def test_retain_grad_follows_an_in_place_change():
    a = leaf(2.0)
    h = a * 3.0
    h.retain_grad()
    h.mul_(5.0)
    (h * 7.0).sum().backward()
    assert h.grad.item() == 7.0 and a.grad.item() == 105.0


def test_a_retained_gradient_does_not_keep_its_tensor():
    a = leaf(2.0)
    h = a * 3.0
    h.retain_grad()
    y = h * h
    del h
    y.backward()
    assert a.grad.item() == 36.0
