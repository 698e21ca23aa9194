"""Graphs of any length and any width: they run backward and are released, without a deep stack."""

from __future__ import annotations

import threading
import weakref

import pytest
from tape_parts import leaf

import minidl


def in_small_stack(function):
    """Run in a thread with 256 KiB of stack: a recursion as deep as the tape would end the process."""
    outcome = []
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: outcome.append(function()))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert outcome, "the thread died"
    return outcome[0]


def chain(length):
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y * 1.00001
    return x, y


def test_a_chain_of_200000_steps_runs_backward():
    def run():
        x, y = chain(200_000)
        y.backward()
        return x.grad.item()

    assert in_small_stack(run) == pytest.approx(1.00001**200_000)


def test_a_chain_of_200000_steps_is_released_without_backward():
    def run():
        x, y = chain(200_000)
        node = weakref.ref(y.grad_fn)
        del y
        return node() is None and x.grad is None

    assert in_small_stack(run)


def test_a_chain_of_200000_views_and_in_place_changes_is_released():
    def run():
        x = leaf(1.0, 2.0)
        y = x * 1.0
        for _ in range(20_000):
            y[0].mul_(1.0)
            y.add_(0.0)
        y.sum().backward()
        return x.grad.tolist()

    assert in_small_stack(run) == [1.0, 1.0]


def test_a_chain_recorded_by_create_graph_is_released():
    def run():
        x, y = chain(50_000)
        (g,) = minidl.autograd.grad(y * y, x, create_graph=True)
        g.backward()
        return x.grad.item()

    assert in_small_stack(run) == pytest.approx(2 * 1.00001**100_000)


def test_a_chain_of_user_functions_is_released():
    class Same(minidl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    def run():
        x = leaf(1.0)
        y = x
        for _ in range(20_000):
            y = Same.apply(y)
        z = y * 1.0
        del y
        z.backward()
        return x.grad.item()

    assert in_small_stack(run) == 1.0


def test_a_graph_of_100000_branches():
    x = leaf(2.0)
    y = x * 1.0
    total = minidl.cat([y + float(i % 3) for i in range(100_000)]).sum()
    total.backward()
    assert x.grad.item() == 100_000.0


def test_gradients_arrive_in_any_order_of_the_diamond():
    """Every branch is older or newer than others; each node must still wait for all that feeds it."""
    x = leaf(3.0)
    a = x * 2.0
    b = a * a
    c = a + b
    d = c * a
    e = d + b * c
    e.backward()
    # with u = 2x:  e = (u + u^2) u + u^2 (u + u^2)
    u = 6.0
    assert x.grad.item() == pytest.approx(2.0 * (2 * u + 3 * u**2 + 3 * u**2 + 4 * u**3))
