"""Elementwise device methods: the CPU against the reference, and both against PyTorch."""

import inspect

import numpy as np
import pytest

from minidl._devices.cpu import CPU
from minidl._devices.reference import Reference
from minidl._devices.reference.pointwise import PointwiseReference
from minidl._ext import threads

DEVICES = [Reference(), CPU()]
device = pytest.mark.parametrize("F", DEVICES, ids=["reference", "cpu"])

FLOAT_UNARY = [
    "neg", "abs", "sign", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "square",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "sigmoid", "relu", "floor", "ceil",
    "round", "trunc", "isnan", "isinf", "isfinite", "logical_not", "erf", "log_sigmoid",
]
INT_UNARY = [
    "neg", "abs", "sign", "relu", "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite", "logical_not",
    "bitwise_not", "square",
]
FLOAT_BINARY = [
    "add", "sub", "mul", "div", "floor_divide", "remainder", "fmod", "pow", "maximum", "minimum", "atan2", "eq",
    "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor",
]
INT_BINARY = [
    "add", "sub", "mul", "floor_divide", "remainder", "fmod", "maximum", "minimum", "eq", "ne", "lt", "le", "gt",
    "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 7.0, 1e-30, 30.0, -30.0, np.inf, -np.inf, np.nan, 2.0, -3.0, 0.25]


def layouts(x):
    """The same numbers in several layouts of memory: contiguous, strided, transposed, reversed, 0-d, none."""
    n = x.size
    pairs = np.concatenate([x, x]).reshape(2, n)
    return {
        "contiguous": x,
        "strided": np.repeat(x, 2)[::2],
        "transposed": pairs.T,
        "reversed": x[::-1],
        "3d": np.tile(x, 6).reshape(2, 3, n).transpose(1, 2, 0)[:, 1:],
        "0d": x[:1].reshape(()),
        "empty": x[:0],
    }


def check(ours, theirs, rtol):
    theirs = theirs.numpy()
    assert type(ours) is np.ndarray
    assert ours.flags.c_contiguous and ours.flags.writeable
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-37, equal_nan=True)


def torch_unary(torch, name):
    return torch.nn.functional.logsigmoid if name == "log_sigmoid" else getattr(torch, name)


def tolerance(dtype):
    """Vectorised exp, sin and their like differ from each other by a few units in the last place."""
    return 16 * np.finfo(dtype).eps


@device
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", FLOAT_UNARY)
def test_unary_floats(F, name, dtype):
    torch = pytest.importorskip("torch")
    numbers = np.array(SPECIAL * 3, dtype)
    for x in layouts(numbers).values():
        check(getattr(F, name)(x), torch_unary(torch, name)(torch.from_numpy(x.copy())), tolerance(dtype))


@device
@pytest.mark.parametrize("dtype", ["i8", "i4", "u1"])
@pytest.mark.parametrize("name", INT_UNARY)
def test_unary_integers(F, name, dtype):
    torch = pytest.importorskip("torch")
    for x in layouts(np.array([0, 1, 2, 3, 100, 7, 5], dtype)).values():
        check(getattr(F, name)(x), torch_unary(torch, name)(torch.from_numpy(x.copy())), 0)


def pairs(dtype, numbers):
    """Every number beside every other, in every layout."""
    a, b = (grid.ravel() for grid in np.meshgrid(np.array(numbers, dtype), np.array(numbers, dtype)))
    return zip(layouts(a).values(), layouts(b).values(), strict=True)


@device
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", FLOAT_BINARY)
def test_binary_floats(F, name, dtype):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(F, name), getattr(torch, name)
    for a, b in pairs(dtype, SPECIAL):
        x, y = torch.from_numpy(a.copy()), torch.from_numpy(b.copy())
        check(ours(a, b), theirs(x, y), tolerance(dtype))
        for number in (2.5, -3, 0.5, 2, -1, 1):
            scalar = number if name == "pow" else torch.tensor(number, dtype=x.dtype)
            check(ours(a, number), theirs(x, scalar), tolerance(dtype))
            check(ours(number, a), theirs(torch.tensor(number, dtype=x.dtype), x), tolerance(dtype))


@device
@pytest.mark.parametrize("dtype", ["i8", "i4", "i2", "i1", "u1", "?"])
@pytest.mark.parametrize("name", INT_BINARY)
def test_binary_integers(F, name, dtype):
    torch = pytest.importorskip("torch")
    if dtype == "?" and name in ("sub", "floor_divide", "remainder", "fmod", "maximum", "minimum"):
        pytest.skip("booleans have no such operation")
    ours, theirs = getattr(F, name), getattr(torch, name)
    for a, b in pairs(dtype, [0, 1] if dtype == "?" else [1, 2, 7, 100, 5, 3]):
        x, y = torch.from_numpy(a.copy()), torch.from_numpy(b.copy())
        check(ours(a, b), theirs(x, y), 0)
        number = True if dtype == "?" else 3
        check(ours(a, number), theirs(x, torch.tensor(number, dtype=x.dtype)), 0)
        check(ours(number, a), theirs(torch.tensor(number, dtype=x.dtype), x), 0)


BROADCASTS = [((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 3, 4), (3, 1)), ((), (2, 2)), ((1,), (5, 1, 3)), ((0, 3), (1, 3)),
              ((2, 3, 4, 5), (3, 1, 1)), ((64, 120), (120,)), ((2, 1, 4, 1), (1, 3, 4, 5))]


@device
@pytest.mark.parametrize("shapes", BROADCASTS)
def test_broadcasting(F, shapes):
    a, b = (np.random.default_rng(0).standard_normal(shape).astype("f4") for shape in shapes)
    far = np.asfortranarray(a)[::-1] if a.ndim else a
    for x, y in ((a, b), (b, a), (far, b), (b, far)):
        for name, expected in (("add", np.add), ("lt", np.less), ("relu_backward", lambda g, o: np.where(o > 0, g, 0))):
            result = getattr(F, name)(x, y)
            np.testing.assert_array_equal(result, expected(x, y))
            assert result.flags.c_contiguous and not np.shares_memory(result, x)


@device
def test_shapes_that_do_not_broadcast_are_named(F):
    with pytest.raises(RuntimeError, match=r"add: shapes \(3, 4\) and \(3,\) do not broadcast"):
        F.add(np.zeros((3, 4), "f4"), np.zeros(3, "f4"))
    with pytest.raises(RuntimeError, match="do not broadcast"):
        F.add_(np.zeros((3, 4), "f4"), np.zeros((2, 3, 4), "f4"))


@device
def test_integer_division_by_zero(F):
    for name in ("floor_divide", "remainder", "fmod"):
        for divisor in (0, np.array([1, 0])):
            with pytest.raises(RuntimeError, match="ZeroDivisionError"):
                getattr(F, name)(np.array([1, 2]), divisor)


@device
def test_numbers_wrap_into_the_dtype_but_compare_by_value(F):
    x = np.array([1, 44, 255], np.uint8)
    np.testing.assert_array_equal(F.add(x, 300), [45, 88, 43])
    np.testing.assert_array_equal(F.sub(x, -1), [2, 45, 0])
    np.testing.assert_array_equal(F.lt(x, 300), [True] * 3)
    np.testing.assert_array_equal(F.eq(x, -212), [False] * 3)


@device
def test_integer_powers(F):
    x = np.array([2, 1, -1, -1, 3])
    np.testing.assert_array_equal(F.pow(x, np.array([-1, -2, -3, -4, 3])), [0, 1, -1, 1, 27])
    np.testing.assert_array_equal(F.pow(x, 2), [4, 1, 1, 1, 9])
    with pytest.raises(RuntimeError, match="negative integer powers"):
        F.pow(x, -1)


@device
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_backward_helpers(F, dtype):
    torch = pytest.importorskip("torch")
    numbers = np.array([-3, -0.5, -0.0, 0.0, 0.25, 2, 40, np.nan] * 5, dtype)
    for x in layouts(numbers).values():
        grad = np.linspace(-1, 1, x.size).astype(dtype).reshape(x.shape)
        for name, extra in (("relu", ()), ("tanh", ()), ("sigmoid", ()), ("leaky_relu", (0.1,))):
            leaf = torch.from_numpy(x.copy()).requires_grad_()
            function = torch.nn.functional.leaky_relu if extra else getattr(torch, name)
            output = function(leaf, *extra)
            output.backward(torch.from_numpy(grad))
            saved = x if extra else output.detach().numpy()
            # 1 - tanh(-3) ** 2 loses two digits, and PyTorch forms it in another order.
            check(getattr(F, name + "_backward")(grad, saved, *extra), leaf.grad, 100 * tolerance(dtype))


@device
def test_parametrised_activations(F):
    torch = pytest.importorskip("torch")
    x = np.linspace(-30, 30, 61).astype("f4")
    t, functional = torch.from_numpy(x), torch.nn.functional
    check(F.leaky_relu(x, 0.2), functional.leaky_relu(t, 0.2), tolerance("f4"))
    check(F.elu(x, 1.5), functional.elu(t, 1.5), tolerance("f4"))
    check(F.softplus(x, 2.0, 20.0), functional.softplus(t, 2.0, 20.0), tolerance("f4"))
    # 1 + erf(x) cancels for negative x: float32 gelu is good to the rounding of 1 there, in PyTorch as here.
    np.testing.assert_allclose(F.gelu(x), functional.gelu(t.double()).numpy(), rtol=1e-6, atol=1e-6)


@device
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4", "i2", "u1", "?"])
def test_where_clamp_and_masked_fill(F, dtype):
    torch = pytest.importorskip("torch")
    a = np.array([[0, 1, 2], [3, 4, 5]], dtype)
    b, mask = a[::-1, ::-1], np.array([True, False, True])
    ta, tb, tmask = (torch.from_numpy(x.copy()) for x in (a, b, mask))
    check(F.where(mask, a, b), torch.where(tmask, ta, tb), 0)
    check(F.where(mask[:2, None], a.T[:2].T[:2], b[:2, :1]), torch.where(tmask[:2, None], ta[:, :2], tb[:, :1]), 0)
    number = True if dtype == "?" else 1
    check(F.where(mask, a, number), torch.where(tmask, ta, torch.tensor(number, dtype=ta.dtype)), 0)
    check(F.masked_fill(a, mask, number), ta.masked_fill(tmask, number), 0)
    assert F.where(mask, 1.0, 2.0).tolist() == [1.0, 2.0, 1.0]
    if dtype != "?":
        for low, high in ((1, 4), (None, 3), (2, None), (4, 1)):
            check(F.clamp(a, low, high), ta.clamp(low, high), 0)
        check(F.clamp(a, a[:1], b), ta.clamp(ta[:1], tb), 0)
        with pytest.raises(RuntimeError, match="clamp"):
            F.clamp(a, None, None)


@device
@pytest.mark.parametrize("source", ["f4", "f8", "i8", "i4", "u1", "?"])
@pytest.mark.parametrize("target", ["f4", "f8", "i8", "i4", "u1", "?"])
def test_cast_and_copy(F, source, target):
    for x in layouts(np.array([0, 1, 2, 77], source)).values():
        for result in (F.cast(x, np.dtype(target)), F.copy(x)):
            assert result.flags.c_contiguous and not np.shares_memory(result, x)
        assert F.cast(x, np.dtype(target)).dtype == target and F.copy(x).dtype == source
        np.testing.assert_array_equal(F.cast(x, np.dtype(target)), x.astype(target))
        np.testing.assert_array_equal(F.copy(x), x)
    F.cast(np.array([np.nan, 1e300, -5.0]), np.dtype("f4"))
    F.cast(np.array([np.nan, 1e300, -5.0]), np.dtype("i4"))


@device
def test_in_place(F):
    x = np.zeros((3, 4), "f4")
    F.copy_(x, np.arange(4))
    F.add_(x[1], np.ones(4, "f4"))
    F.add_(x[:, ::2], 0.5)
    F.add_(x, np.full((3, 1), 10, "f4"))
    F.fill_(x[2:], 7)
    np.testing.assert_array_equal(x, [[10.5, 11, 12.5, 13], [11.5, 12, 13.5, 14], [7] * 4])
    F.copy_(x, np.ascontiguousarray(x[::-1]))
    assert x[0, 0] == 7
    F.copy_(x, 2.0)
    assert (x == 2).all()
    F.add_(x, x)
    assert (x == 4).all()
    line = np.arange(8, dtype="f4")
    F.add_(line[1:], line[:-1])
    np.testing.assert_array_equal(line, [0, 1, 3, 5, 7, 9, 11, 13])
    F.copy_(line[1:], line[:-1])
    np.testing.assert_array_equal(line, [0, 0, 1, 3, 5, 7, 9, 11])
    whole = np.zeros(3, np.uint8)
    F.fill_(whole, 258)
    assert whole.tolist() == [2, 2, 2]


@pytest.mark.parametrize("count", [1, 3])
def test_large_arrays_on_several_threads(count):
    """Over 40 us of work is shared out; the numbers stay those of one thread."""
    F, before = CPU(), threads.get_num_threads()
    x = np.random.default_rng(1).standard_normal((37, 5, 1003)).astype("f4")
    row = x[:, :1].copy()
    try:
        threads.set_num_threads(count)
        np.testing.assert_array_equal(F.relu(x), np.maximum(x, 0))
        np.testing.assert_array_equal(F.add(x, row), x + row)
        np.testing.assert_array_equal(F.sub(1.0, x.transpose(2, 0, 1)), 1 - x.transpose(2, 0, 1))
        np.testing.assert_array_equal(F.where(x > 0, x, row), np.where(x > 0, x, row))
        np.testing.assert_allclose(F.sigmoid(x), 1 / (1 + np.exp(-x.astype("f8"))), rtol=1e-6)
    finally:
        threads.set_num_threads(before)


def test_signatures_are_those_of_the_reference():
    for name in vars(PointwiseReference):
        if not name.startswith("_"):
            ours, theirs = (list(inspect.signature(getattr(F, name)).parameters) for F in DEVICES)
            assert ours == theirs, name


@device
@pytest.mark.filterwarnings("error")
def test_floats_follow_ieee_without_a_warning_now_or_later(F):
    """Division by zero, overflow and NaN are silent, and leave no flag behind for NumPy's next call to find."""
    x, huge = np.full(37, -1, "f4"), np.full(37, 3e38, "f4")
    later = [lambda: x + x, lambda: x.astype("i4"), lambda: x @ x, lambda: np.exp(x), lambda: x.mean(),
             lambda: np.float64(2) / np.float64(3), lambda: np.linalg.inv(np.eye(3)), lambda: np.add.reduce(x)]
    for numpy_call in later:
        assert np.isneginf(F.div(x, 0.0)).all() and np.isinf(F.mul(huge, huge)).all()
        assert np.isnan(F.log(x)).all() and np.isnan(F.sqrt(x)).all()
        F.lt(F.log(x), x), F.cast(huge, np.dtype("i4")), F.sum(huge, None, False), F.exp(huge), F.sigmoid(huge * -1)
        numpy_call()
