"""``autograd.grad``: gradients returned instead of accumulated, and derivatives of derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from tape_parts import leaf

import minidl
from minidl.autograd import grad


def test_grad_touches_no_grad():
    a, b = leaf(2.0), leaf(3.0)
    da, db = grad(a * b * b, [a, b])
    assert (da.item(), db.item()) == (9.0, 12.0) and a.grad is None and b.grad is None
    assert not da.requires_grad


def test_grad_of_several_outputs_with_weights():
    a = leaf(2.0, 3.0)
    (da,) = grad([a * a, a.sum()], a, [minidl.tensor([1.0, 10.0]), None])
    assert da.tolist() == [5.0, 61.0]


def test_grad_of_unused_inputs():
    a, b = leaf(2.0), leaf(3.0, 4.0)
    with pytest.raises(RuntimeError, match=r"appears to not have been used in the graph. Set allow_unused=True"):
        grad(a * 2.0, [a, b])
    da, db = grad(a * 2.0, [a, b], allow_unused=True)
    assert da.item() == 2.0 and db is None
    da, db = grad(a * 2.0, [a, b], materialize_grads=True)
    assert db.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="allow_unused to be True"):
        grad(a * 2.0, [a, b], allow_unused=False, materialize_grads=True)


def test_grad_with_respect_to_what_lies_on_the_way():
    a = leaf(2.0)
    h = a * 3.0
    k = h * h
    y = k * a
    dh, dk, da, dy = grad(y, [h, k, a, y])
    # y = h^2 a:  through h only, through k only, in all, itself
    assert (dh.item(), dk.item(), da.item(), dy.item()) == (24.0, 2.0, 108.0, 1.0)


def test_grad_of_one_input_asked_for_twice():
    a = leaf(2.0)
    assert [g.item() for g in grad(a * a, [a, a])] == [4.0, 4.0]


def test_grad_computes_only_what_leads_to_the_inputs():
    a, b = leaf(2.0), leaf(3.0)
    called = []
    side = b * 2.0
    side.register_hook(lambda g: called.append(g))
    (da,) = grad(a * side, a)
    assert da.item() == 6.0 and called == []


def test_third_derivatives():
    a = leaf(2.0)
    y = a**5
    (first,) = grad(y, a, create_graph=True)
    (second,) = grad(first, a, create_graph=True)
    (third,) = grad(second, a)
    assert [x.item() for x in (first, second, third)] == [80.0, 160.0, 240.0] and not third.requires_grad


@pytest.mark.torch
def test_third_derivatives_of_a_small_network_are_pytorchs(torch):
    def derivatives(lib):
        rng = np.random.default_rng(0)
        x, w = (lib.from_numpy(rng.standard_normal(shape)).requires_grad_() for shape in ((3, 4), (4, 2)))
        y = ((x @ w).tanh().exp() / (1.0 + (x * x).sum(1, keepdim=True))).log_softmax(1)[:, 0].sum()
        (g,) = torch.autograd.grad(y, w, create_graph=True) if lib is torch else grad(y, w, create_graph=True)
        take = torch.autograd.grad if lib is torch else grad
        (h,) = take((g * g).sum(), x, create_graph=True)
        (k,) = take((h.sin()).sum(), w)
        return [t.detach().numpy() for t in (g, h, k)]

    for got, expected in zip(derivatives(minidl), derivatives(torch), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_grad_is_recorded_only_when_asked():
    a = leaf(2.0)
    y = a * a
    with minidl.no_grad():
        (g,) = grad(y, a, create_graph=True)
    assert g.requires_grad
    assert minidl.is_grad_enabled()
