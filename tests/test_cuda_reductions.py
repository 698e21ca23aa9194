"""Reductions on the GPU against the reference: every dtype, any dimensions and strides, one launch or two.

Sums are made in float64 on both sides, so that float32 results differ by their last rounding: 1e-6 of the largest one.
"""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest
from cuda_device import assert_same, raw

from minidl._devices.reference import Reference

pytestmark = pytest.mark.cuda

REFERENCE = Reference()
FLOATS = [np.float32, np.float64]
DTYPES = [*FLOATS, np.uint8, np.int8, np.int16, np.int32, np.int64, np.bool_]
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-12}
REDUCTIONS = ["sum", "prod", "amax", "amin", "any", "all"]
OF_FLOATS = ["mean", "logsumexp", "var"]


def numbers(dtype, shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(dtype)


def arguments(name, dims, keepdim):
    return (dims, 1, keepdim) if name == "var" else (dims, keepdim)


def check(gpu, name, x, *args):
    assert_same(getattr(gpu, name)(raw(x), *args), getattr(REFERENCE, name)(x, *args), TOLERANCE.get(x.dtype.type, 0),
                f"{name} of {x.dtype} {x.shape} {x.strides}, {args}")


def views(x):
    return [x, x.transpose(2, 0, 1), x[:, ::2], x[::2, :, 1:4], np.broadcast_to(x[:, :1], x.shape)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_dimensions_of_any_view(gpu, dtype):
    for x in views(numbers(dtype, (3, 5, 7))):
        for dims in (None, (), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
            for name in REDUCTIONS + (OF_FLOATS if dtype in FLOATS else []):
                check(gpu, name, x, *arguments(name, dims, dims == (1,)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_and_where_they_are(gpu, dtype):
    for x in views(numbers(dtype, (3, 5, 7))):
        for dim in (0, 1, 2, None):
            for name in ("argmax", "argmin", *(("max_with_indices", "min_with_indices") if dim is not None else ())):
                check(gpu, name, x, dim, False)
                check(gpu, name, x, dim, True)


@pytest.mark.parametrize("shape", [(20001,), (30000, 3), (3, 30000), (2, 6000, 3)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_large_reductions_are_split(gpu, dtype, shape):
    x = numbers(dtype, shape)
    for dim in range(len(shape)):
        for name in ["sum", "amax", *OF_FLOATS]:
            check(gpu, name, x, *arguments(name, (dim,), False))
        check(gpu, "max_with_indices", x, dim, False)
    check(gpu, "sum", x, None, False)
    check(gpu, "argmin", x, None, False)


def test_the_first_of_equal_extremes_counts_across_blocks(gpu):
    x = np.zeros(20001, np.float32)
    x[[777, 15000]] = 5
    assert int(gpu.to_host(gpu.argmax(raw(x), None, False))) == 777
    x[[9000, 19000]] = np.nan
    assert int(gpu.to_host(gpu.argmax(raw(x), None, False))) == 9000
    assert int(gpu.to_host(gpu.argmin(raw(x), None, False))) == 9000


def test_nan_and_infinities(gpu):
    x = np.array([[1, np.nan, 3, np.nan], [np.inf, np.inf, -np.inf, 0], [-np.inf] * 4, [1e30, -1e30, 1, 0]], np.float32)
    for name in ("sum", "prod", "amax", "amin", "any", "all", "mean", "logsumexp", "var"):
        for dim in (0, 1):
            check(gpu, name, x, *arguments(name, (dim,), False))
    for name in ("argmax", "argmin", "max_with_indices"):
        check(gpu, name, x, 1, False)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
def test_empty_and_0d(gpu, dtype):
    for x in (np.zeros((0, 3), dtype), np.ones((), dtype)):
        for name in ["sum", "prod", "any", "all", *(OF_FLOATS if dtype == np.float32 else [])]:
            for dims in (None, (0,)):
                check(gpu, name, x, *arguments(name, dims, True))
    check(gpu, "amax", np.zeros((0, 3), dtype), (1,), False)
    check(gpu, "argmax", np.ones((), dtype), 0, False)


def test_errors_are_the_reference_s(gpu):
    x = np.zeros((0, 3), np.float32)
    for name, args in (("amax", (None, False)), ("amin", ((0,), False)), ("argmax", (None, False)),
                       ("max_with_indices", (0, False))):
        with pytest.raises((RuntimeError, IndexError)) as wanted:
            getattr(REFERENCE, name)(x, *args)
        with pytest.raises(wanted.type) as got:
            getattr(gpu, name)(raw(x), *args)
        assert str(got.value) == str(wanted.value)


def test_sum_to(gpu):
    x = numbers(np.float32, (3, 5, 7))
    for shape in ((5, 1), (1, 1, 7), (3, 5, 7), (7,), (), (1, 1)):
        check(gpu, "sum_to", x, shape)
        check(gpu, "sum_to", np.broadcast_to(x[:, :1], x.shape), shape)


def test_sums_of_float32_keep_their_digits(gpu):
    """In float32 one after the other, 100000 tenths give 9998.557."""
    x = np.full(100_000, 0.1, np.float32)
    assert float(gpu.to_host(gpu.sum(raw(x), None, False))) == np.float32(np.sum(x, dtype=np.float64))


def test_any_order_gives_the_same_bits(gpu):
    x = raw(numbers(np.float32, (300, 100)))
    first = [gpu.to_host(gpu.sum(x, dims, False)) for dims in (None, (0,), (1,))]
    for number in (1, 2):
        with cuda_device.order(number):
            for dims, one in zip((None, (0,), (1,)), first, strict=True):
                np.testing.assert_array_equal(gpu.to_host(gpu.sum(x, dims, False)), one)


@pytest.mark.skipif(cuda_device.REAL, reason="launches are counted by the emulation")
def test_launches(gpu):
    for shape, dims, launches in (((64, 120), (0,), 1), ((64, 120), None, 1), ((100_000,), None, 2)):
        x = raw(numbers(np.float32, shape))
        cuda_device.emulation().reset_counters()
        gpu.sum(x, dims, False)
        assert cuda_device.emulation().counters().launches == launches


@pytest.mark.parametrize("dtype", DTYPES)
def test_running_sums_and_products(gpu, dtype):
    for x in views(numbers(dtype, (3, 5, 70)) if dtype not in FLOATS else numbers(dtype, (3, 5, 70)) / 3):
        for dim in (0, 1, 2):
            for name in ("cumsum", "cumprod"):
                check(gpu, name, x.astype(dtype), dim)


@pytest.mark.parametrize("shape", [(9001,), (3, 9000), (300, 70), (70, 300), (4097, 2), ()])
def test_long_lines_and_many_lines_are_summed(gpu, shape):
    whole = np.random.default_rng(0).integers(-9, 9, shape)
    for dim in range(max(len(shape), 1)):
        for dtype in (np.float32, np.int64):
            check(gpu, "cumsum", np.asarray(whole, dtype), dim)
    check(gpu, "cumsum", np.zeros((0, 3), np.float32), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sorting(gpu, dtype):
    """With many equal numbers, whose order must stay, and NaN."""
    whole = np.random.default_rng(0).integers(0, 7, (4, 5, 40)).astype(dtype)
    if dtype in FLOATS:
        whole[whole == 3] = np.nan
    for x in [*views(whole), np.asarray(whole[0, 0, 0]), whole[:0]]:
        for dim in range(max(x.ndim, 1)):
            for descending in (False, True):
                check(gpu, "sort", x, dim, descending)


@pytest.mark.parametrize("shape", [(3000,), (9001,), (2100, 2), (3, 1025), (2, 1024)])
def test_runs_are_merged(gpu, shape):
    x = np.round(np.random.default_rng(0).standard_normal(shape) * 50).astype(np.float32)
    for dim in range(len(shape)):
        for descending in (False, True):
            check(gpu, "sort", x, dim, descending)
