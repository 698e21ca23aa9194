"""Batch normalization and dropout on the GPU against the reference: any number of dimensions, many and few channels."""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest
from cuda_device import assert_same, raw

from minidl._devices.reference import Reference

pytestmark = pytest.mark.cuda

REFERENCE = Reference()
# float32: results are rounded once; the mean of 100 makes it a rounding of numbers 50 times as large as the output
FLOATS = [(np.float32, 1e-5), (np.float64, 1e-12)]
SHAPES = [(8, 5), (4, 3, 6, 6), (2, 70, 3), (700, 3), (9, 2, 40, 41), (2, 3, 4, 2, 2), (0, 3, 2), (2, 0, 3)]


def on_gpu(arguments):
    return [raw(each) if isinstance(each, np.ndarray) else each for each in arguments]


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("training", "tracked"), [(True, False), (True, True), (False, True)])
def test_batch_norm(gpu, dtype, tolerance, shape, affine, training, tracked):
    rng = np.random.default_rng(0)
    examples = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))  # each has another mean
    x = (rng.standard_normal(shape) * 2 + 100 + examples / 10).astype(dtype)
    grad = rng.standard_normal(shape).astype(dtype)
    weight, bias, mean, var = (rng.uniform(0.5, 2, shape[1]).astype(dtype) for _ in range(4))
    affines, running = (weight, bias) if affine else (None, None), (mean, var) if tracked else (None, None)
    arguments = on_gpu((x, *affines, *running))
    wanted = REFERENCE.batch_norm(x, *affines, *running, training, 0.1, 1e-5)
    assert_same(gpu.batch_norm(*arguments, training, 0.1, 1e-5), wanted, tolerance)
    if tracked:
        assert_same(tuple(arguments[3:]), running, tolerance)
    backward = grad, x, affines[0], *wanted[1:], training
    assert_same(gpu.batch_norm_backward(*on_gpu(backward)), REFERENCE.batch_norm_backward(*backward), tolerance)


def test_a_large_mean_does_not_hide_the_variance(gpu):
    """One pass of sums and squares would lose all digits of float64 here."""
    x = (np.random.default_rng(0).standard_normal((2000, 2)) + 1e9)
    wanted = REFERENCE.batch_norm(x, None, None, None, None, True, 0.1, 0.0)
    assert_same(gpu.batch_norm(raw(x), None, None, None, None, True, 0.1, 0.0), wanted, 1e-6)


def test_errors_are_the_reference_s(gpu):
    x, wrong = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    for arguments in ((x, wrong, None, None, None, True), (x[0], None, None, None, None, True),
                      (x, None, None, None, None, False), (x[:1], None, None, None, None, True)):
        with pytest.raises((ValueError, RuntimeError)) as wanted:
            REFERENCE.batch_norm(*arguments, 0.1, 1e-5)
        with pytest.raises(wanted.type) as got:
            gpu.batch_norm(*on_gpu(arguments), 0.1, 1e-5)
        assert str(got.value) == str(wanted.value)
    with pytest.raises(RuntimeError, match=r"weight is float64 and the input float32.*\.to\(minidl\.float32\)"):
        gpu.batch_norm(*on_gpu((x, np.ones(3), None, None, None, True)), 0.1, 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_apply(gpu, dtype):
    rng = np.random.default_rng(0)
    for shape in ((3, 4), (), (0,), (70001,)):
        x, mask = np.asarray(rng.standard_normal(shape), dtype), np.asarray(rng.integers(0, 2, shape), np.uint8)
        for kind in (np.uint8, np.bool_):
            assert_same(gpu.dropout_apply(raw(x), raw(mask.astype(kind)), 1.25),
                        REFERENCE.dropout_apply(x, mask.astype(kind), 1.25), 0)


def test_any_order_gives_the_same_bits(gpu):
    x = raw(np.random.default_rng(0).standard_normal((30, 3, 20, 20)).astype(np.float32))
    first = [gpu.to_host(each) for each in gpu.batch_norm(x, None, None, None, None, True, 0.1, 1e-5)]
    for number in (1, 2):
        with cuda_device.order(number):
            again = gpu.batch_norm(x, None, None, None, None, True, 0.1, 1e-5)
            for one, two in zip(first, again, strict=True):
                np.testing.assert_array_equal(gpu.to_host(two), one)


@pytest.mark.skipif(cuda_device.REAL, reason="launches are counted by the emulation")
def test_launches(gpu):
    x, ones = raw(np.ones((4, 3, 5, 5), np.float32)), [raw(np.ones(3, np.float32)) for _ in range(4)]
    for training, launches in ((True, 2), (False, 1)):
        cuda_device.emulation().reset_counters()
        gpu.batch_norm(x, *ones, training, 0.1, 1e-5)
        counters = cuda_device.emulation().counters()
        assert (counters.launches, counters.copies_to_host) == (launches, 0)


def test_views_without_order_in_memory(gpu):
    rng = np.random.default_rng(0)
    x, grad = (rng.standard_normal((2, 5, 5, 3)).transpose(0, 3, 1, 2) for _ in range(2))
    mean, var, weight = (rng.uniform(1, 2, 6)[::2] for _ in range(3))
    arguments = on_gpu((x, weight, None, mean, var))
    wanted = REFERENCE.batch_norm(x, weight, None, mean, var, True, 0.1, 1e-5)
    assert_same(gpu.batch_norm(*arguments, True, 0.1, 1e-5), wanted, 1e-13)
    assert_same(tuple(arguments[3:]), (mean, var), 1e-14)
    backward = grad, x, weight, *wanted[1:], True
    assert_same(gpu.batch_norm_backward(*on_gpu(backward)), REFERENCE.batch_norm_backward(*backward), 1e-13)
