"""Elementwise operations, copies, casts and fills on the GPU are the reference's, for all dtypes, shapes and strides.

Functions that CUDA and NumPy both round to within a few last places are compared to 1e-5 in float32 and 1e-12 in
float64, absolute and relative; everything else is exact.
"""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest
from dtypes import DTYPES

from minidl._devices.cuda import pointwise
from minidl._devices.reference import Reference

pytestmark = pytest.mark.cuda

REFERENCE = Reference()
FLOATS = ["float32", "float64"]
WHOLE = ["int8", "int16", "int32", "int64", "uint8"]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.7, -100.25, np.inf, -np.inf, np.nan, 1e-30, 30.0]
SHAPES = [(), (1,), (5,), (16,), (3, 7), (2, 3, 4), (0,), (3, 0, 2), (1031,)]
MOVES = ["whole", "transposed", "every second", "from the second on", "repeated"]
OF_WHOLE = ["abs", "square", "relu", "sign", "floor", "ceil", "trunc", "round", "neg", "bitwise_not", *pointwise.TEST]
OF_BOOL = ["abs", "relu", "floor", "bitwise_not", "logical_not", "isnan"]


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape).astype(bool))
    if dtype in WHOLE:
        return np.asarray(rng.integers(0 if dtype == "uint8" else -100, 100, shape).astype(dtype))
    return np.asarray(rng.uniform(-3, 3, shape).astype(dtype))


def moved(lib, x, how):
    """The same numbers in other places: a view that is made in the same way on both sides."""
    if how == "transposed":
        return lib.permute(x, tuple(range(x.ndim))[::-1])
    if how == "every second":
        return lib.slice(x, (Ellipsis, slice(None, None, 2))) if x.ndim else x
    if how == "from the second on":
        return lib.slice(x, (Ellipsis, slice(1, None))) if x.ndim else x
    if how == "repeated":
        return lib.expand(x, (3, *x.shape))
    return x


def outcome(call):
    with np.errstate(all="ignore"):
        try:
            return call()
        except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError) as error:
            return error


def same(gpu, call, *arrays, how="whole", tolerance=0.0):
    """The call with raw arrays of the reference and of the GPU: one result, or one kind of error with one text."""
    expected = outcome(lambda: call(REFERENCE, *(moved(REFERENCE, a.copy(), how) for a in arrays)))
    got = outcome(lambda: call(gpu, *(moved(gpu, gpu.from_host(a), how) for a in arrays)))
    if isinstance(expected, Exception):
        assert type(got) is type(expected), got
        assert str(got) == str(expected)
        return
    if isinstance(got, Exception):
        raise got
    values = gpu.to_host(got)
    if not tolerance and expected.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(values), np.signbit(expected))
    assert values.dtype == expected.dtype
    assert values.shape == expected.shape
    if tolerance and expected.dtype.kind == "f":
        np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(values, expected)


def tolerance(dtype):
    return 1e-5 if dtype == "float32" else 1e-12


@pytest.mark.parametrize("how", MOVES)
@pytest.mark.parametrize("op", [*pointwise.UNARY, *pointwise.TEST, *pointwise.MATH])
def test_one_argument(gpu, op, how):
    if op in ("clamp", "leaky_relu", "softplus", "elu"):
        pytest.skip("takes numbers too")
    for dtype in FLOATS:
        if op != "bitwise_not":
            for shape in SHAPES:
                same(gpu, lambda F, x: getattr(F, op)(x), numbers(shape, dtype), how=how, tolerance=tolerance(dtype))
    for dtype in WHOLE if op in OF_WHOLE else []:
        same(gpu, lambda F, x: getattr(F, op)(x), numbers((3, 7), dtype), how=how)
    if op in OF_BOOL:
        same(gpu, lambda F, x: getattr(F, op)(x), numbers((3, 7), "bool"), how=how)


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_numbers(gpu, dtype):
    x = np.array(SPECIAL, dtype)
    a, b = (np.ascontiguousarray(each) for each in np.broadcast_arrays(x[:, None], x[None]))
    for op in [*pointwise.UNARY, *pointwise.TEST, *pointwise.MATH]:
        if op not in ("clamp", "leaky_relu", "softplus", "elu", "bitwise_not"):
            same(gpu, lambda F, x: getattr(F, op)(x), x, tolerance=tolerance(dtype))  # noqa: B023
    for op in [*pointwise.BINARY, *pointwise.COMPARE, *pointwise.MATH_BINARY]:
        if op != "leaky_relu_backward" and not op.startswith("bitwise"):
            same(gpu, lambda F, a, b: getattr(F, op)(a, b), a, b, tolerance=tolerance(dtype))  # noqa: B023
    same(gpu, lambda F, x: F.clamp(x, -1.0, 2.0), x)
    same(gpu, lambda F, x: F.clamp(x, float("nan"), 2.0), x)
    same(gpu, lambda F, x: F.leaky_relu(x, 0.1), x)
    same(gpu, lambda F, x: F.softplus(x, 2.0, 5.0), x, tolerance=tolerance(dtype))
    same(gpu, lambda F, x: F.elu(x, 1.5), x, tolerance=tolerance(dtype))
    same(gpu, lambda F, g, x: F.leaky_relu_backward(g, x, 0.1), a, b)


PAIRS = [((3, 7), (3, 7)), ((1031,), (1031,)), ((3, 7), (7,)), ((3, 1), (1, 7)), ((), (5,)), ((2, 3, 1, 5), (3, 4, 1)),
         ((0, 3), (1, 3)), ((2, 3, 32), (3, 1)), ((5, 32), (32,)), ((2, 3, 16), (2, 1, 16)), ((2, 3), (4,)),
         ((2,), (2, 3))]


@pytest.mark.parametrize("op", [*pointwise.BINARY, *pointwise.COMPARE, *pointwise.MATH_BINARY])
def test_two_arguments(gpu, op):
    for dtype in [*FLOATS, *WHOLE, "bool"]:
        if op in ("div", "atan2", "leaky_relu_backward") or op.endswith("_backward"):
            if dtype not in FLOATS or op == "leaky_relu_backward":
                continue
        elif op.startswith("bitwise"):
            if dtype in FLOATS:
                continue
        elif dtype == "bool" and op in ("sub", *pointwise.MATH_BINARY):
            continue
        for i, (a, b) in enumerate(PAIRS[:2] if op.endswith("_backward") else PAIRS):
            x, y = numbers(a, dtype, i), numbers(b, dtype, 10 + i)
            if op in ("floor_divide", "remainder", "fmod") and dtype not in FLOATS:
                y = np.where(y == 0, 3, y).astype(dtype)
            if op == "pow" and dtype not in FLOATS:
                x, y = np.asarray(x % 7).astype(dtype), np.asarray(np.abs(y) % 9).astype(dtype)
            if op == "pow" and dtype in FLOATS:
                x = np.abs(x)
            near = tolerance(dtype) if dtype in FLOATS else 0
            same(gpu, lambda F, x, y: getattr(F, op)(x, y), x, y, tolerance=near)


@pytest.mark.parametrize("how", MOVES[1:])
def test_two_arguments_that_are_views(gpu, how):
    for dtype in DTYPES:
        x, y = numbers((4, 6), dtype), numbers((4, 6), dtype, 1)
        same(gpu, lambda F, x, y: F.add(x, y), x, y, how=how)
        same(gpu, lambda F, x, y: F.lt(x, y), x, y, how=how)
        same(gpu, lambda F, x, y: F.maximum(x, y), x, y, how=how)


@pytest.mark.parametrize("dtype", WHOLE)
def test_whole_numbers_wrap_around_and_divide_by_the_rules(gpu, dtype):
    info = np.iinfo(dtype)
    x = np.array([info.min, info.min + 1, -7 if info.min else 7, 0, 1, 7, info.max - 1, info.max], dtype)
    for op in ("add", "sub", "mul", "maximum", "minimum", "lt", "ge"):
        same(gpu, lambda F, a, b: getattr(F, op)(a, b), x, x[::-1].copy())  # noqa: B023
        for number in (3, 300, -1):
            same(gpu, lambda F, a: getattr(F, op)(a, number), x)  # noqa: B023
            same(gpu, lambda F, a: getattr(F, op)(number, a), x)  # noqa: B023
    for op in ("floor_divide", "remainder", "fmod"):
        for number in (3, 2, *((-3,) if info.min else ())):
            same(gpu, lambda F, a: getattr(F, op)(a, number), x)  # noqa: B023
        same(gpu, lambda F, a: getattr(F, op)(a, 0), x)  # noqa: B023
        # by a zero in an array: -1, and the dividend as the rest
        got = gpu.to_host(getattr(gpu, op)(gpu.from_host(x), gpu.from_host(np.zeros_like(x))))
        np.testing.assert_array_equal(got, np.array(-1).astype(dtype) if op == "floor_divide" else x)
    same(gpu, lambda F, a: F.pow(a, 3), x)
    same(gpu, lambda F, a: F.pow(2, a), np.array([0, 1, 2, 7, 40], dtype))
    if info.min:
        a, b = np.array([1, -1, -1, 2, 0, 3], dtype), np.array([-3, -3, -2, -1, -1, 4], dtype)
        same(gpu, lambda F, a, b: F.pow(a, b), a, b)
        same(gpu, lambda F, a: F.pow(a, -2), x)


def test_comparisons_take_a_number_by_its_value(gpu):
    for dtype in [*WHOLE, "bool"]:
        x = numbers((17,), dtype)
        for number in (0, 1, 2, 255, 256, -1, 2.5, -0.5, 2**40, 2**70, True):
            if dtype == "bool" and number == 2**70:
                continue  # NumPy refuses
            for op in pointwise.COMPARE[:6]:
                same(gpu, lambda F, x: getattr(F, op)(x, number), x)  # noqa: B023
                same(gpu, lambda F, x: getattr(F, op)(number, x), x)  # noqa: B023


@pytest.mark.parametrize("source", DTYPES)
def test_casts(gpu, source):
    for target in DTYPES:
        x = numbers((5, 9), source)
        if source in FLOATS:
            x = np.append(np.abs(x) * 30, [[0.0] * 9], 0).astype(source)
        for how in MOVES:
            same(gpu, lambda F, x: F.cast(x, np.dtype(target)), x, how=how)  # noqa: B023


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_and_fills(gpu, dtype):
    for shape in SHAPES:
        x = numbers(shape, dtype)
        for how in MOVES:
            same(gpu, lambda F, x: F.copy(x), x, how=how)

        def filled(F, x, value, how):
            F.fill_(moved(F, x, how), value)
            return x

        for how in MOVES[:4]:
            for value in (0, 1, 3.7, -1, True, 300, -0.0):
                same(gpu, lambda F, x: filled(F, x, value, how), x)  # noqa: B023
    for value in (0, 1.5, -1, True):
        same(gpu, lambda F: F.full((3, 5), value, np.dtype(dtype)))  # noqa: B023
    same(gpu, lambda F: F.zeros((2, 0), np.dtype(dtype)))


def test_copies_into_arrays(gpu):
    def copied(F, x, y, how="whole"):
        F.copy_(moved(F, x, how), y)
        return x

    for how in MOVES[:4]:
        for source in ("float32", "int64", "bool"):
            same(gpu, lambda F, x, y: copied(F, x, y, how), numbers((4, 4), "float32"), numbers((1,), source))  # noqa: B023
    same(gpu, copied, numbers((4, 4), "float32"), numbers((4, 1), "float64"))
    same(gpu, copied, numbers((4,), "float32"), numbers((1, 4), "float32"))
    same(gpu, copied, numbers((4,), "float32"), numbers((3,), "float32"))
    same(gpu, copied, numbers((4,), "float32"), numbers((2, 4), "float32"))

    def shifted(F, x):
        F.copy_(F.slice(x, (slice(1, None),)), F.slice(x, (slice(None, -1),)))
        return x

    same(gpu, shifted, numbers((1000,), "float32"))

    def added(F, x, y):
        F.add_(x, y)
        return x

    same(gpu, added, numbers((4, 5), "float32"), numbers((5,), "float32"))
    same(gpu, added, numbers((5,), "float32"), numbers((4, 5), "float32"))
    same(gpu, lambda F, x: added(F, x, 3), numbers((4, 5), "int64"))
    same(gpu, lambda F, x: added(F, F.permute(x, (1, 0)), F.slice(x, (0,))), numbers((4, 4), "float64"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_masked_fill_and_clamp(gpu, dtype):
    x, y, mask = numbers((3, 5), dtype), numbers((5,), dtype, 1), numbers((3, 1), "bool")
    same(gpu, lambda F, x, y, mask: F.where(mask, x, y), x, y, mask)
    same(gpu, lambda F, x, mask: F.where(mask, x, 1), x, mask)
    same(gpu, lambda F, x, mask: F.where(mask, 0, x), x, mask)
    same(gpu, lambda F, mask: F.where(mask, 1.0, 0.0), mask)
    same(gpu, lambda F, x, mask: F.masked_fill(x, mask, 1), x, mask)
    same(gpu, lambda F, x, mask: F.where(mask, x, 1), numbers((4,), dtype), numbers((3,), "bool"))
    if dtype != "bool":
        same(gpu, lambda F, x: F.clamp(x, 1, 2), x)
        same(gpu, lambda F, x: F.clamp(x, None, 2), x)
        same(gpu, lambda F, x: F.clamp(x, 1, None), x)
        same(gpu, lambda F, x, y: F.clamp(x, y, 2), x, y)
        same(gpu, lambda F, x: F.clamp(x, None, None), x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool"])
def test_transposed_copies(gpu, dtype):
    """Through tiles of 32 x 32: whole ones, ragged ones, several planes."""
    for shape, order in (((64, 96), (1, 0)), ((33, 70), (1, 0)), ((2, 40, 3, 35), (3, 0, 2, 1)),
                         ((2, 40, 35), (2, 1, 0)), ((3, 40, 5), (0, 2, 1)), ((1, 32, 32), (2, 0, 1)),
                         ((40, 2, 33), (2, 1, 0))):
        same(gpu, lambda F, x: F.copy(F.permute(x, order)), numbers(shape, dtype))  # noqa: B023
    same(gpu, lambda F, x: F.copy(F.expand(F.permute(x, (1, 0)), (2, 40, 50))), numbers((50, 40), dtype))


def test_one_launch_for_an_operation_and_none_for_a_view(gpu):
    if cuda_device.REAL:
        pytest.skip("a real GPU does not count")
    emulation = cuda_device.emulation()
    x = gpu.from_host(numbers((6, 10), "float32"))
    emulation.reset_counters()
    views = [gpu.reshape(x, (3, 20)), gpu.permute(x, (1, 0)), gpu.expand(x, (2, 6, 10)), gpu.slice(x, (2,)),
             gpu.as_strided(x, (2, 2), (1, 1), 3)]
    assert emulation.counters().launches == 0
    assert all(view.base is x.base for view in views)
    for call in (lambda: gpu.add(x, 2.0), lambda: gpu.mul(x, x), lambda: gpu.relu(x), lambda: gpu.relu_backward(x, x),
                 lambda: gpu.add_(x, x), lambda: gpu.zeros((5,), np.dtype(np.float32)), lambda: gpu.clamp(x, 0.0, 1.0),
                 lambda: gpu.where(gpu.lt(x, 0.0), x, 0.0)):
        emulation.reset_counters()
        call()
        counters = emulation.counters()
        assert counters.launches <= 2 and not (counters.copies_to_device or counters.copies_on_device)
    emulation.reset_counters()
    gpu.add(gpu.zeros((0, 3), np.dtype(np.float32)), 1.0)
    assert emulation.counters().launches == 0
