"""``backward``, ``grad``, accumulation, grad modes, hooks and the names on the tape."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl.autograd import grad


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def leaf(*values, lib=minidl):
    return lib.tensor(list(values), dtype=lib.float64, requires_grad=True)


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


# ---- grad ----------------------------------------------------------------------------------------------------------


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


# ---- grad modes ----------------------------------------------------------------------------------------------------


def recording():
    return (leaf(1.0) * 2.0).requires_grad


def test_modes_as_contexts():
    with minidl.no_grad():
        assert not recording() and not minidl.is_grad_enabled()
        with minidl.enable_grad():
            assert recording()
            with minidl.set_grad_enabled(False):
                assert not recording()
            assert recording()
        assert not recording()
    assert recording()


def test_modes_come_back_after_an_exception():
    for mode in (minidl.no_grad, minidl.inference_mode, lambda: minidl.set_grad_enabled(False)):
        with pytest.raises(KeyError), mode():
            raise KeyError
        assert recording() and not minidl.is_inference_mode_enabled()


def test_modes_as_decorators_with_and_without_parentheses():
    @minidl.no_grad()
    def a(x, *, y=1):
        """Text."""
        return recording(), x, y

    @minidl.no_grad
    def b():
        return recording()

    @minidl.inference_mode
    def c():
        return recording(), minidl.is_inference_mode_enabled()

    @minidl.inference_mode()
    def d():
        return recording(), minidl.is_inference_mode_enabled()

    @minidl.enable_grad()
    def e():
        return recording()

    @minidl.set_grad_enabled(False)
    def f():
        return recording()

    assert a(5, y=2) == (False, 5, 2) and a.__name__ == "a" and a.__doc__ == "Text."
    assert b() is False and c() == (False, True) == d() and f() is False
    with minidl.no_grad():
        assert e() is True
    assert recording()


def test_a_decorated_function_may_call_itself():
    @minidl.no_grad()
    def down(n):
        return recording() if not n else down(n - 1)

    assert down(5) is False and recording()


def test_a_decorated_generator_switches_only_while_it_runs():
    @minidl.no_grad()
    def numbers():
        received = yield recording()
        try:
            yield received, recording()
        except KeyError:
            yield "caught", recording()
        return "end"

    generator = numbers()
    assert next(generator) is False and recording()
    assert generator.send("hello") == ("hello", False) and recording()
    assert generator.throw(KeyError()) == ("caught", False) and recording()
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "end" and recording()


def test_set_grad_enabled_as_a_function():
    minidl.set_grad_enabled(False)
    try:
        assert not recording()
    finally:
        minidl.set_grad_enabled(True)
    assert recording()


def test_inference_mode():
    a = leaf(1.0, 2.0)
    with minidl.inference_mode():
        x = a * 2.0
        view = a[0:1]
        assert x.is_inference() and not x.requires_grad and not view.is_inference()
        x.add_(1.0)
        assert x[0].is_inference()
    assert not a.is_inference()
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        x * a
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor"):
        x.requires_grad_()
    assert (x.clone() * a).requires_grad and (x + a).requires_grad


@pytest.mark.torch
def test_nested_inference_modes_are_pytorchs(torch):
    def states(lib):
        seen = []

        def note():
            seen.append((lib.is_grad_enabled(), lib.is_inference_mode_enabled()))

        with lib.inference_mode():
            note()
            with lib.inference_mode(False):
                note()
            with lib.enable_grad():
                note()
        with lib.no_grad(), lib.inference_mode(False):
            note()
        note()
        return seen

    assert states(minidl) == states(torch)


# ---- leaves, detach, requires_grad ---------------------------------------------------------------------------------


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


# ---- hooks ---------------------------------------------------------------------------------------------------------


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


# ---- names on the tape ---------------------------------------------------------------------------------------------

NAMES = {
    "x + y": "AddBackward0",
    "x - y": "SubBackward0",
    "2 - x": "RsubBackward1",
    "x * y": "MulBackward0",
    "x / y": "DivBackward0",
    "-x": "NegBackward0",
    "x ** 2": "PowBackward0",
    "x ** y": "PowBackward1",
    "2 ** x": "PowBackward2",
    "x @ y": "MmBackward0",
    "x.abs()": "AbsBackward0",
    "x.exp()": "ExpBackward0",
    "x.log()": "LogBackward0",
    "x.sqrt()": "SqrtBackward0",
    "x.tanh()": "TanhBackward0",
    "x.relu()": "ReluBackward0",
    "x.sigmoid()": "SigmoidBackward0",
    "x.clamp(min=0)": "ClampBackward1",
    "x.sum()": "SumBackward0",
    "x.sum(0)": "SumBackward1",
    "x.mean()": "MeanBackward0",
    "x.mean((0, 1))": "MeanBackward1",
    "x.amax(0)": "AmaxBackward0",
    "x.max()": "MaxBackward1",
    "x.max(0).values": "MaxBackward0",
    "x.min(1).values": "MinBackward0",
    "x.var(0)": "VarBackward0",
    "x.logsumexp(0)": "LogsumexpBackward0",
    "x.cumsum(0)": "CumsumBackward0",
    "x.sort().values": "SortBackward0",
    "x.softmax(0)": "SoftmaxBackward0",
    "x.log_softmax(0)": "LogSoftmaxBackward0",
    "x.view(-1)": "ViewBackward0",
    "x.reshape(4, 1)": "ViewBackward0",
    "x.flatten()": "ViewBackward0",
    "x.t()": "TBackward0",
    "x.T": "PermuteBackward0",
    "x.mT": "TransposeBackward0",
    "x.transpose(0, 1)": "TransposeBackward0",
    "x.permute(1, 0)": "PermuteBackward0",
    "x.expand(2, 2, 2)": "ExpandBackward0",
    "x.unsqueeze(0)": "UnsqueezeBackward0",
    "x[None].squeeze()": "SqueezeBackward0",
    "x[None].squeeze(0)": "SqueezeBackward1",
    "x[0]": "SelectBackward0",
    "x[0, 1]": "SelectBackward0",
    "x[:, 1]": "SelectBackward0",
    "x.select(1, 0)": "SelectBackward0",
    "x[1:]": "SliceBackward0",
    "x[:, 1:]": "SliceBackward0",
    "x[None]": "UnsqueezeBackward0",
    "x[...]": "AliasBackward0",
    "x.narrow(0, 0, 1)": "SliceBackward0",
    "x[[0, 1]]": "IndexBackward0",
    "x[x > 0]": "IndexBackward0",
    "lib.cat([x, y])": "CatBackward0",
    "lib.stack([x, y])": "StackBackward0",
    "x.clone()": "CloneBackward0",
    "x.float()": "ToCopyBackward0",
    "x.flip(0)": "FlipBackward0",
    "x.roll(1, 0)": "RollBackward0",
    "x.repeat(2, 1)": "RepeatBackward0",
    "x.tril()": "TrilBackward0",
    "lib.where(x > 0, x, y)": "WhereBackward0",
    "lib.maximum(x, y)": "MaximumBackward0",
    "x.masked_fill(x > 0, 0.0)": "MaskedFillBackward0",
    "x.gather(0, lib.zeros(1, 2, dtype=lib.int64))": "GatherBackward0",
    "lib.bmm(x[None], y[None])": "BmmBackward0",
    "F.linear(x, y, x[0])": "AddmmBackward0",
    "F.linear(x, y)": "MmBackward0",
    "F.conv2d(x[None, None], y[None, None])": "ConvolutionBackward0",
    "F.max_pool2d(x[None, None], 2)": "MaxPool2DWithIndicesBackward0",
    "F.avg_pool2d(x[None, None], 2)": "AvgPool2DBackward0",
    "F.cross_entropy(x, lib.tensor([0, 1]))": "NllLossBackward0",
    "F.nll_loss(x, lib.tensor([0, 1]))": "NllLossBackward0",
    "F.mse_loss(x, y)": "MseLossBackward0",
    "F.leaky_relu(x)": "LeakyReluBackward0",
    "F.batch_norm(x, None, None, training=True)": "NativeBatchNormBackward0",
    "x.add_(y)": "AddBackward0",
    "x.zero_()": "ZeroBackward0",
    "x.mul_(2)": "MulBackward0",
}


def name_of(lib, expression):
    x = lib.tensor([[0.5, 1.0], [2.0, 0.7]], dtype=lib.float64, requires_grad=True) * 1.0
    y = lib.tensor([[0.3, 1.5], [0.2, 4.0]], dtype=lib.float64, requires_grad=True) * 1.0
    return eval(expression, {"lib": lib, "x": x, "y": y, "F": lib.nn.functional}).grad_fn.name()


@pytest.mark.parametrize("expression", NAMES)
def test_grad_fn_has_pytorchs_name(expression):
    assert name_of(minidl, expression) == NAMES[expression]


@pytest.mark.torch
@pytest.mark.parametrize("expression", NAMES)
def test_the_stored_names_are_pytorchs(expression, torch):
    assert name_of(torch, expression) == NAMES[expression]


def test_the_graph_can_be_walked():
    a, b = leaf(1.0), leaf(2.0)
    y = (a * b).exp() + a
    add = y.grad_fn
    (exp, number), (accumulate, _) = add.next_functions
    assert exp.name() == "ExpBackward0" and number == 0
    assert accumulate.name() == "AccumulateGrad" and accumulate.variable is a
    ((mul, _),) = exp.next_functions
    assert mul.name() == "MulBackward0" and [
        f.variable is v for (f, _), v in zip(mul.next_functions, (a, b), strict=True)
    ]
    assert repr(add).startswith("<AddBackward0 object at 0x")
    assert (a * minidl.ones(1)).grad_fn.next_functions[1] == (None, 0)
    values, _ = (a * 1.0).max(0)
    assert values.output_nr == 0
