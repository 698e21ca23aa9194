"""Backward inside backward, in several threads, and after exceptions."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from tape_parts import leaf

import minidl


def test_backward_inside_a_hook():
    a, b = leaf(2.0), leaf(3.0)
    y = a * a

    def hook(grad):
        with minidl.enable_grad():
            (b * b).backward()

    y.register_hook(hook)
    (y * 1.0).backward()
    assert a.grad.item() == 4.0 and b.grad.item() == 6.0


def test_backward_inside_a_function():
    b = leaf(3.0)

    class Inner(minidl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            with minidl.enable_grad():
                z = x.detach().requires_grad_()
                (z * z * b).backward()
            return grad * z.grad / b.detach()

    a = leaf(2.0)
    (Inner.apply(a) * 5.0).backward()
    assert a.grad.item() == 20.0 and b.grad.item() == 4.0


def test_deeply_nested_backward():
    class Nest(minidl.autograd.Function):
        @staticmethod
        def forward(ctx, x, depth):
            ctx.save_for_backward(x)
            ctx.depth = depth
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            if ctx.depth:
                with minidl.enable_grad():
                    inner = leaf(1.0)
                    Nest.apply(inner, ctx.depth - 1).backward()
                    return grad * inner.grad, None
            return grad, None

    a = leaf(1.0)
    Nest.apply(a, 60).backward()
    assert a.grad.item() == 1.0


def test_threads_with_graphs_of_their_own_get_the_same_numbers():
    def run(seed):
        rng = np.random.default_rng(seed)
        w = minidl.tensor(rng.standard_normal((16, 16)), requires_grad=True)
        for _ in range(20):
            x = minidl.tensor(rng.standard_normal((8, 16)))
            h = x @ w
            v = h[:, ::2]
            v.mul_(0.5)
            h.tanh().square().mean().backward()
        return w.grad.numpy().copy()

    expected = [run(seed) for seed in range(8)]
    results = [None] * 8
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=lambda i=i: results.__setitem__(i, run(i))) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_recording_is_switched_per_thread():
    seen = {}

    def other():
        seen["other"] = minidl.is_grad_enabled(), minidl.is_inference_mode_enabled(), (leaf(1.0) * 2.0).requires_grad

    with minidl.no_grad(), minidl.inference_mode():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert not minidl.is_grad_enabled()
    assert seen["other"] == (True, False, True)


def test_after_an_exception_everything_goes_on():
    class Broken(minidl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise ValueError("broken on purpose")

    a = leaf(1.0, 2.0)
    y = (Broken.apply(a * 2.0) * 3.0 + a).sum()
    for create_graph in (False, True):
        with pytest.raises(ValueError, match="on purpose"):
            y.backward(retain_graph=True, create_graph=create_graph)
        assert a.grad is None and minidl.is_grad_enabled()
    (a * a).sum().backward()
    assert a.grad.tolist() == [2.0, 4.0]
    z = a * 3.0
    z.register_hook(lambda grad: (_ for _ in ()).throw(ValueError("hook")))
    with pytest.raises(ValueError, match="hook"):
        z.sum().backward()
    assert minidl.is_grad_enabled() and a.grad.tolist() == [2.0, 4.0]
