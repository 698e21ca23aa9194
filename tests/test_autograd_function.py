"""``autograd.Function``: ops that a user writes."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl.autograd import Function, grad, gradcheck, gradgradcheck


def leaf(*values):
    return minidl.tensor(list(values), dtype=minidl.float64, requires_grad=True)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return 3.0 * x * x * grad_output


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        (out,) = ctx.saved_tensors
        return grad_output * out


class Scaled(Function):
    """Without ctx in forward."""

    @staticmethod
    def forward(x, factor):
        return x * factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.factor = inputs
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad_output):
        assert ctx.needs_input_grad == (True, False)
        return grad_output * ctx.factor, None


class SumAndProduct(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x + y, x * y

    @staticmethod
    def backward(ctx, grad_sum, grad_product):
        x, y = ctx.saved_tensors
        return grad_sum + grad_product * y, grad_sum + grad_product * x


class MaxWithIndex(Function):
    @staticmethod
    def forward(ctx, x):
        values, indices = x.max(0)
        ctx.mark_non_differentiable(indices)
        ctx.save_for_backward(indices)
        ctx.shape = x.shape
        return values, indices

    @staticmethod
    def backward(ctx, grad_values, grad_indices):
        (indices,) = ctx.saved_tensors
        result = minidl.zeros(*ctx.shape, dtype=grad_values.dtype)
        result[int(indices)] = grad_values
        return result


def test_forward_and_backward():
    a = leaf(1.0, 2.0)
    y = Cube.apply(a)
    assert y.tolist() == [1.0, 8.0] and y.grad_fn.name() == "CubeBackward" and not y.is_leaf
    y.sum().backward()
    assert a.grad.tolist() == [3.0, 12.0]


@pytest.mark.parametrize("function", [Cube.apply, Exp.apply, lambda x: Scaled.apply(x, 2.5),
                                      lambda x: SumAndProduct.apply(x, x * 2.0)])
def test_derivatives_to_second_order(function):
    a = leaf(0.5, 1.5, -0.7)
    gradcheck(function, (a,))
    gradgradcheck(function, (a,))


def test_third_derivative_through_a_saved_output():
    a = leaf(0.5)
    y = Exp.apply(a)
    for _ in range(3):
        (y,) = grad(y, a, create_graph=True)
    assert y.item() == pytest.approx(np.exp(0.5))


def test_forward_records_nothing():
    states = []

    class Look(Function):
        @staticmethod
        def forward(ctx, x):
            states.append(minidl.is_grad_enabled())
            return x * 2.0

        @staticmethod
        def backward(ctx, g):
            states.append(minidl.is_grad_enabled())
            return g * 2.0

    a = leaf(1.0)
    Look.apply(a).backward()
    Look.apply(a).backward(create_graph=True)
    a.grad = None
    assert states == [False, False, False, True]


def test_without_recording_or_without_need_there_is_no_node():
    assert Cube.apply(minidl.ones(2)).grad_fn is None
    with minidl.no_grad():
        assert not Cube.apply(leaf(1.0)).requires_grad


def test_several_outputs():
    a, b = leaf(2.0), leaf(3.0)
    s, p = SumAndProduct.apply(a, b)
    (s * 10.0 + p).backward()
    assert a.grad.item() == 13.0 and b.grad.item() == 12.0
    assert (s.output_nr, p.output_nr) == (0, 1) and s.grad_fn is p.grad_fn


def test_an_unused_output_has_a_gradient_of_zeros():
    a, b = leaf(2.0), leaf(3.0)
    _, p = SumAndProduct.apply(a, b)
    p.backward()
    assert a.grad.item() == 3.0 and b.grad.item() == 2.0


def test_an_unused_output_has_no_gradient_without_materialization():
    class Pair(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2.0, x * 3.0

        @staticmethod
        def backward(ctx, first, second):
            assert first is None
            return second * 3.0

    a = leaf(1.0)
    Pair.apply(a)[1].backward()
    assert a.grad.item() == 3.0


def test_outputs_that_are_not_differentiable():
    a = leaf(1.0, 3.0, 2.0)
    values, index = MaxWithIndex.apply(a)
    assert values.requires_grad and not index.requires_grad and index.grad_fn is None
    (values * 2.0).backward()
    assert a.grad.tolist() == [0.0, 2.0, 0.0]


def test_floats_can_be_marked_as_not_differentiable():
    class Half(Function):
        @staticmethod
        def forward(ctx, x):
            out, aside = x * 2.0, x * 3.0
            ctx.mark_non_differentiable(aside)
            return out, aside

        @staticmethod
        def backward(ctx, g, aside):
            assert aside.tolist() == [0.0]
            return g * 2.0

    out, aside = Half.apply(leaf(1.0))
    assert out.requires_grad and not aside.requires_grad
    out.backward()


class Double_(Function):  # PyTorch's way to name what works in place
    @staticmethod
    def forward(ctx, x):
        x.mul_(2.0)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 2.0


def test_an_input_changed_in_place():
    a = leaf(1.0, 2.0)
    x = a * 3.0
    before = x._version
    y = Double_.apply(x)
    assert y is x and x.tolist() == [6.0, 12.0] and x._version > before and x.grad_fn.name() == "Double_Backward"
    (x * x).sum().backward()
    assert a.grad.tolist() == [72.0, 144.0]


def test_a_leaf_cannot_be_changed_in_place_by_a_function():
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        Double_.apply(leaf(1.0))


def test_a_saved_tensor_that_a_function_changes_is_noticed():
    a = leaf(1.0, 2.0)
    x = a * 1.0
    y = x * x
    Double_.apply(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_view_cannot_be_changed_in_place_by_a_function():
    """PyTorch follows such a change to the base in simple cases; minidl says what to do instead."""
    x = leaf(1.0, 2.0) * 1.0
    with pytest.raises(RuntimeError, match=r"Double_ changes a view in place.*clone"):
        Double_.apply(x[0:1])


def test_an_input_handed_through():
    class Same(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 5.0

    a = leaf(1.0)
    y = Same.apply(a)
    assert y is not a and a.is_leaf
    y.backward()
    assert a.grad.item() == 5.0


def test_arguments_of_every_kind():
    class Many(Function):
        @staticmethod
        def forward(ctx, x, text, nothing, numbers, y):
            assert ctx.needs_input_grad == (True, False, False, False, False)
            return x * numbers[0] + y

        @staticmethod
        def backward(ctx, g):
            return g, None, None, None, None

    a = leaf(1.0)
    Many.apply(a, "text", None, [2.0], minidl.ones(1, dtype=minidl.float64)).backward()
    assert a.grad.item() == 1.0


def backward_returning(make):
    class Returns(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y.sum()

        @staticmethod
        def backward(ctx, g):
            return make(g)

    a, b = leaf(1.0, 2.0), leaf(1.0, 2.0, 3.0)
    Returns.apply(a, b).sum().backward()
    return a.grad, b.grad


@pytest.mark.parametrize("make, error, message", [
    (lambda g: g, RuntimeError, r"ReturnsBackward returned an incorrect number of gradients \(expected 2, got 1\)"),
    (lambda g: (g, None, g), RuntimeError, r"incorrect number of gradients \(expected 2, got 3\)"),
    (lambda g: (g, g), RuntimeError, r"returned an invalid gradient at index 1 - got \[2\] but expected shape "
                                     r"compatible with \[3\]"),
    (lambda g: (g, 1.0), TypeError, "expected a Tensor or None as gradient 1, got float"),
    (lambda g: (1.0 / 0.0, None), ZeroDivisionError, "division"),
])
def test_backward_that_returns_what_does_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        backward_returning(make)


def test_backward_may_return_none_extra_nones_and_what_can_be_summed():
    assert backward_returning(lambda g: (g, None))[1] is None
    assert backward_returning(lambda g: (g, None, None))[0].tolist() == [1.0, 1.0]
    double = {"dtype": minidl.float64}
    grads = backward_returning(lambda g: (minidl.ones(5, 2, **double), minidl.ones(2, 3, **double)))
    assert grads[0].tolist() == [5.0, 5.0] and grads[1].tolist() == [2.0] * 3


def test_gradients_are_cast_to_the_dtype_of_the_input():
    grads = backward_returning(lambda g: (g.float(), None))
    assert grads[0].dtype == minidl.float64


def test_saved_tensors_are_freed_and_guarded():
    a = leaf(1.0, 2.0)
    x = a * 1.0
    y = Cube.apply(x).sum()
    x.add_(1.0)
    with pytest.raises(RuntimeError, match=r"by an inplace operation: \[minidl\.float64 \[2\]\], saved by Cube"):
        y.backward()
    y = Cube.apply(a).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    assert a.grad.tolist() == [6.0, 24.0]


def test_an_output_changed_after_it_was_saved():
    y = Exp.apply(leaf(1.0))
    y.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_none_can_be_saved():
    class Maybe(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x, None)
            return x * 2.0

        @staticmethod
        def backward(ctx, g):
            x, nothing = ctx.saved_tensors
            assert nothing is None and x.item() == 1.0
            return g * 2.0

    Maybe.apply(leaf(1.0)).backward()


def test_what_is_not_written_says_so():
    class Nothing(Function):
        pass

    class NoBackward(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2.0

    class SavesANumber(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3)
            return x * 2.0

    with pytest.raises(NotImplementedError, match="forward"):
        Nothing.apply(leaf(1.0))
    with pytest.raises(NotImplementedError, match="backward"):
        NoBackward.apply(leaf(1.0)).backward()
    with pytest.raises(TypeError, match="Tensor"):
        SavesANumber.apply(leaf(1.0))


@pytest.mark.torch
def test_two_functions_in_a_row_are_pytorchs(torch):
    """The same class text, made over each library's Function."""

    def run(lib):
        class Norm(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x, eps):
                length = (x * x).sum(1, keepdim=True).sqrt() + eps
                ctx.save_for_backward(x, length)
                return x / length, length

            @staticmethod
            def backward(ctx, g, g_length):
                x, length = ctx.saved_tensors
                inner = (g * x).sum(1, keepdim=True)
                bare = (x * x).sum(1, keepdim=True).sqrt()
                return g / length - x * inner / (length * length * bare) + g_length * x / bare, None

        x = lib.from_numpy(np.arange(1.0, 7.0).reshape(2, 3)).requires_grad_()
        y, length = Norm.apply(x, 0.1)
        z, _ = Norm.apply(y * 2.0 + length, 0.2)
        (z.sin().sum() + length.sum()).backward()
        return x.grad.numpy()

    np.testing.assert_allclose(run(minidl), run(torch), rtol=1e-12)
