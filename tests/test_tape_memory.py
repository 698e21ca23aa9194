"""What the tape keeps: no reference cycles, nothing longer than it is needed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from tape_parts import Scale, leaf

import minidl
from minidl._ext import core
from minidl.autograd.function import FunctionCtx

# ---- no cycles -----------------------------------------------------------------------------------------------------


def left_for_gc(function):
    """Objects of minidl that only the cycle collector would find after ``function``."""
    function()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(3):
            function()
        gc.collect()
        return [
            type(found).__name__
            for found in gc.garbage
            if isinstance(found, (minidl.Tensor, core.Node, core.View, core.RemovableHandle, core.Hooks, np.ndarray))
            or type(found).__name__.endswith("Backward")
            or (isinstance(found, type) and issubclass(found, FunctionCtx))
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def cycle_cases():
    a, b = leaf(1.0, 2.0, 3.0), leaf(0.5, -1.0, 2.0)

    def step():
        loss = ((a * b).relu().exp() / (b * b + 1.0)).sum()
        loss.backward()
        a.grad = b.grad = None

    def without_backward():
        (a * b).tanh().softmax(0).sum()

    def in_place_on_itself():
        x = a.clone()
        m = x * 2.0
        x += m
        x.mul_(x.clone())
        x.exp_()
        x.sum().backward()

    def in_place_views():
        x = a.clone()
        v = x[1:]
        w = v[0]
        v.mul_(b[1:])
        w.add_(x[0].clone())
        x[0] = v[1].clone()
        x.sum().backward()

    def in_place_views_without_backward():
        x = a.clone()
        v = x[1:]
        v.sigmoid_()
        x.view(-1).add_(v.sum())
        v.grad_fn  # noqa: B018 - finds the view's new place

    def saved_outputs():
        y = a.exp().sqrt().sigmoid().tanh()
        del y

    def create_graph():
        y = (a.exp() * b).tanh().sum()
        (g,) = minidl.autograd.grad(y, a, create_graph=True)
        (h,) = minidl.autograd.grad((g * g).sum(), b, create_graph=True)
        h.sum().backward()

    def hooks():
        seen = []
        y = a * b
        y.register_hook(lambda grad: seen.append(grad))
        y.retain_grad()
        handle = a.register_hook(lambda grad: grad * 2.0)
        after = a.register_post_accumulate_grad_hook(lambda tensor: None)
        y.sum().backward()
        handle.remove()
        after.remove()

    def hooks_never_removed():
        x = leaf(1.0)
        keep = minidl.ones(3)
        x.register_hook(lambda grad: keep)
        (x * 2.0).register_hook(lambda grad: None)

    def user_function():
        y = Scale.apply(a, 2.0)
        (g,) = minidl.autograd.grad(y.sum(), a, create_graph=True)
        Scale.apply(y, 3.0).sum().backward()
        return g

    def errors():
        y = a.exp()
        with minidl.no_grad():
            y.mul_(2.0)
        with pytest.raises(RuntimeError):
            y.sum().backward()

    return [
        step,
        without_backward,
        in_place_on_itself,
        in_place_views,
        in_place_views_without_backward,
        saved_outputs,
        create_graph,
        hooks,
        hooks_never_removed,
        user_function,
    ]


@pytest.mark.parametrize("case", cycle_cases(), ids=lambda case: case.__name__)
def test_nothing_is_left_for_the_cycle_collector(case):
    assert left_for_gc(case) == []


@pytest.mark.parametrize("case", cycle_cases(), ids=lambda case: case.__name__)
def test_memory_is_back_as_soon_as_the_last_name_is_gone(case):
    case()
    gc.collect()
    gc.disable()
    try:
        before = minidl.memory_stats()["in_use"]
        for _ in range(5):
            case()
        # .grad of the two leaves may have come to stay: two blocks of 64 bytes
        assert minidl.memory_stats()["in_use"] <= before + 128
    finally:
        gc.enable()


def test_a_node_lives_as_long_as_its_tensor():
    x = leaf(1.0)
    y = x.exp()
    node = weakref.ref(y.grad_fn)
    assert node() is not None
    del y
    assert node() is None


# ---- memory --------------------------------------------------------------------------------------------------------


def test_saved_values_are_released_by_backward():
    a = minidl.ones(1000, dtype=minidl.float64, requires_grad=True)
    base = minidl.memory_stats()["in_use"]
    y = a
    for _ in range(10):
        y = y.exp().log()
    loss = y.sum()
    del y
    held = minidl.memory_stats()["in_use"] - base
    assert held >= 10 * 8000  # the result of each exp, which is what each log keeps too
    loss.backward()
    # the gradient of the leaf, and the loss
    assert minidl.memory_stats()["in_use"] - base <= 2 * 10240 + 64
    assert loss.grad_fn is not None


def test_backward_recycles_what_it_no_longer_needs():
    """The gradients on the way are dropped as they are used: the peak stays near what forward needed."""
    a = minidl.ones(10000, dtype=minidl.float64, requires_grad=True)
    y = a
    for _ in range(50):
        y = y + 1.0
    loss = y.sum()
    del y
    minidl.empty_cache()
    before = minidl.memory_stats()["held"]
    loss.backward()
    assert minidl.memory_stats()["held"] - before < 6 * 100_000


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_training_steps_do_not_grow():
    w1 = minidl.rand(32, 16, requires_grad=True)
    w2 = minidl.rand(16, 4, requires_grad=True)

    def step(i):
        x = minidl.rand(8 + i % 5, 32)
        h = x @ w1
        h[:, 0] *= 0.5
        loss = (h.relu() @ w2).log_softmax(1)[:, 0].mean()
        loss.backward()
        with minidl.no_grad():
            for w in (w1, w2):
                w.add_(w.grad, alpha=-0.01)
                w.grad = None
        return loss.item()

    gc.collect()  # what earlier tests left behind is not to be counted
    for i in range(200):
        step(i)
    held, in_use, resident = minidl.memory_stats()["held"], minidl.memory_stats()["in_use"], resident_bytes()
    for i in range(2000):
        step(i)
    assert minidl.memory_stats()["held"] == held
    assert minidl.memory_stats()["in_use"] == in_use
    assert resident_bytes() - resident < 2_000_000
