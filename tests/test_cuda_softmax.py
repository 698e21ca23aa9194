"""Softmax on the GPU against the reference, along any dimension, with the values that make NaN."""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest
from cuda_device import assert_same, raw

from minidl._devices.reference import Reference

pytestmark = pytest.mark.cuda

REFERENCE = Reference()
# float32: roundings of exp and of a sum of up to 1000 numbers
FLOATS = [(np.float32, 2e-6), (np.float64, 1e-13)]
NAMES = ["softmax", "log_softmax"]
SHAPES = [((5, 10), 1), ((5, 10), 0), ((3, 7, 4, 5), 1), ((2, 1000), 1), ((1000, 2), 0), ((4, 1), 1), ((3,), 0),
          ((), 0), ((300, 3), 1), ((2, 3, 700), 1), ((0, 3), 1), ((3, 0), 0)]


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_forward_and_backward(gpu, shape, dim, dtype, tolerance):
    rng = np.random.default_rng(0)
    x, grad_output = (np.asarray(rng.standard_normal(shape) * 3, dtype) for _ in range(2))
    for name in NAMES:
        output = getattr(REFERENCE, name)(x, dim)
        assert_same(getattr(gpu, name)(raw(x), dim), output, tolerance, name)
        assert_same(getattr(gpu, f"{name}_backward")(raw(grad_output), raw(output), dim),
                    getattr(REFERENCE, f"{name}_backward")(grad_output, output, dim), tolerance, name)


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
def test_nan_infinities_and_large_numbers(gpu, dtype, tolerance):
    x = np.array([[1, np.nan, 2], [np.inf, 0, 1], [-np.inf] * 3, [-np.inf, 1, 2], [2, -np.inf, 1], [np.inf, np.inf, 1],
                  [1e30, -1e30, 0], [1000, 1001, 999]], dtype)
    for name in NAMES:
        assert_same(getattr(gpu, name)(raw(x), 1), getattr(REFERENCE, name)(x, 1), tolerance, name)
        wide = np.repeat(x, 50, 1)
        assert_same(getattr(gpu, name)(raw(wide), 1), getattr(REFERENCE, name)(wide, 1), tolerance, name)


def test_any_order_gives_the_same_bits(gpu):
    x = raw(np.random.default_rng(0).standard_normal((7, 300)).astype(np.float32))
    for dim in (0, 1):
        first = gpu.to_host(gpu.log_softmax(x, dim))
        for number in (1, 2):
            with cuda_device.order(number):
                np.testing.assert_array_equal(gpu.to_host(gpu.log_softmax(x, dim)), first)


def test_views_without_order_in_memory(gpu):
    x = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)
    for view in (x.transpose(2, 0, 1), x[:, ::2], np.broadcast_to(x[:, :1], x.shape)):
        for name in NAMES:
            assert_same(getattr(gpu, name)(raw(view), 1), getattr(REFERENCE, name)(view, 1), 2e-6, name)
            assert_same(getattr(gpu, f"{name}_backward")(raw(view), raw(view), 1),
                        getattr(REFERENCE, f"{name}_backward")(view, view, 1), 1e-5, name)
