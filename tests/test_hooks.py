"""Hooks on tensors: what they see, what they may change, when they run."""

from __future__ import annotations

import pytest
from tape_parts import leaf

import minidl
from minidl.autograd import grad


def test_hooks_see_and_replace_gradients():
    a = leaf(2.0)
    h = a * 3.0
    seen = []
    h.register_hook(lambda g: seen.append(("h", g.item())))
    h.register_hook(lambda g: g * 10.0)
    a.register_hook(lambda g: seen.append(("a", g.item())))
    a.register_hook(lambda g: g + 1.0)
    (h * h).backward()
    assert seen == [("h", 12.0), ("a", 360.0)] and a.grad.item() == 361.0


def test_hooks_run_in_order_and_can_be_removed():
    a = leaf(1.0)
    order = []
    handles = [a.register_hook(lambda g, i=i: order.append(i)) for i in range(3)]
    handles[1].remove()
    handles[1].remove()
    (a * 2.0).backward()
    assert order == [0, 2]
    with a.register_hook(lambda g: order.append("inside")):
        (a * 2.0).backward()
    (a * 2.0).backward()
    assert order == [0, 2, 0, 2, "inside", 0, 2]


def test_a_leaf_hook_sees_the_whole_gradient_once():
    a = leaf(1.0)
    seen = []
    a.register_hook(lambda g: seen.append(g.item()))
    (a * 2.0 + a * 3.0 + a).backward()
    assert seen == [6.0]


def test_hooks_run_before_the_gradient_is_retained_or_captured():
    a = leaf(1.0)
    h = a * 2.0
    h.register_hook(lambda g: g * 5.0)
    h.retain_grad()
    dh, da = grad(h * 3.0, [h, a], retain_graph=True)
    assert (dh.item(), da.item()) == (15.0, 30.0)
    assert h.grad.item() == 15.0


def test_a_hook_may_remove_itself():
    a = leaf(1.0)
    seen = []

    def once(g):
        seen.append(1)
        handle.remove()

    handle = a.register_hook(once)
    for _ in range(2):
        (a * 2.0).backward()
    assert seen == [1]


@pytest.mark.parametrize(
    "result, error, message",
    [
        (1.0, TypeError, "expected Tensor, but hook returned 'float'"),
        (minidl.ones(3, dtype=minidl.float64), RuntimeError, "has changed the size of value"),
        (minidl.ones(2), RuntimeError, "has changed the type of value"),
    ],
)
def test_hooks_that_return_something_else(result, error, message):
    a = leaf(1.0, 2.0)
    a.register_hook(lambda g: result)
    with pytest.raises(error, match=message):
        (a * 2.0).sum().backward()


def test_hooks_need_a_gradient_to_look_at():
    with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"):
        minidl.ones(1).register_hook(print)


def test_post_accumulate_hooks():
    a = leaf(1.0)
    seen = []
    handle = a.register_post_accumulate_grad_hook(lambda t: seen.append((t is a, t.grad.item())))
    (a * 2.0 + a).backward()
    (a * 2.0).backward(inputs=[a])
    handle.remove()
    (a * 2.0).backward()
    assert seen == [(True, 3.0), (True, 5.0)]
    with pytest.raises(RuntimeError, match="cannot be registered on non-leaf tensors"):
        (a * 2.0).register_post_accumulate_grad_hook(print)


def test_an_optimizer_may_step_inside_a_post_accumulate_hook():
    a = leaf(1.0)

    def step(t):
        with minidl.no_grad():
            t.sub_(t.grad)
        t.grad = None

    a.register_post_accumulate_grad_hook(step)
    (a * 2.0).backward()
    assert a.item() == -1.0 and a.grad is None


def test_hooks_under_create_graph_are_on_the_tape():
    a = leaf(3.0)
    h = a * a
    h.register_hook(lambda g: g * a)
    (g,) = grad(h, a, create_graph=True)
    (second,) = grad(g, a)
    # g = 2a * a, its derivative 4a
    assert g.item() == 18.0 and second.item() == 12.0
