"""Pooling on the GPU against the reference: windows that overlap, reach beyond the input, are dilated; ties and NaN."""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest
from cuda_device import assert_same, raw

from minidl._devices.reference import Reference
from minidl.geometry import avg_pool2d_geometry, max_pool2d_geometry

pytestmark = pytest.mark.cuda

REFERENCE = Reference()
FLOATS = [(np.float32, 1e-6), (np.float64, 1e-13)]  # a few roundings
# input, then kernel, stride, padding, dilation, ceil_mode
MAXIMA = [((2, 3, 8, 8), (2,)), ((2, 3, 7, 9), (2,)), ((1, 2, 7, 7), (3, 2, 1)), ((1, 2, 9, 9), (3, 1, 1, 2)),
          ((2, 1, 6, 5), (3, 2, 1, 1, True)), ((2, 2, 5, 5), ((2, 3), (1, 2))), ((3, 40, 16, 16), (2,)),
          ((0, 2, 4, 4), (2,)), ((1, 1, 5, 9), (2, 3))]
# input, then kernel, stride, padding, ceil_mode
AVERAGES = [((2, 3, 8, 8), (2,)), ((1, 2, 7, 7), (3, 2, 1)), ((2, 1, 6, 5), (3, 2, 1, True)),
            ((2, 2, 5, 5), ((2, 3), (1, 2))), ((0, 2, 4, 4), (2,)), ((1, 1, 9, 9), (4, 1, 2)),
            ((1, 1, 5, 9), (2, 3))]


def whole(dtype, shape, seed=0):
    """Few different numbers: many ties."""
    return np.random.default_rng(seed).integers(0, 9, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize(("shape", "options"), MAXIMA)
def test_max_pool2d(gpu, shape, options, dtype):
    geometry = max_pool2d_geometry(shape, *options)
    x = whole(dtype, shape)
    output, indices = wanted = REFERENCE.max_pool2d(x, geometry)
    assert_same(gpu.max_pool2d(raw(x), geometry), wanted, 0)
    grad = whole(dtype, output.shape, 1)
    assert_same(gpu.max_pool2d_backward(raw(grad), raw(indices), geometry),
                REFERENCE.max_pool2d_backward(grad, indices, geometry), 0)
    assert_same(gpu.max_pool2d_gather(raw(x), raw(indices), geometry),
                REFERENCE.max_pool2d_gather(x, indices, geometry), 0)


def test_nan_and_infinities_are_found(gpu):
    x = np.random.default_rng(0).choice([np.nan, -np.inf, 1.0, 2.0], (2, 2, 6, 6)).astype(np.float32)
    x[0, 0] = -np.inf
    for options in ((2,), (3, 1, 1)):
        geometry = max_pool2d_geometry(x.shape, *options)
        assert_same(gpu.max_pool2d(raw(x), geometry), REFERENCE.max_pool2d(x, geometry), 0)


def test_a_window_without_a_pixel(gpu):
    """Dilation can jump over a tiny input: the smallest number there is, index -1, and no gradient."""
    x = np.ones((1, 1, 1, 1), np.float32)
    geometry = max_pool2d_geometry(x.shape, 2, 1, 1, 2)
    output, indices = wanted = REFERENCE.max_pool2d(x, geometry)
    assert (indices == -1).all()
    assert_same(gpu.max_pool2d(raw(x), geometry), wanted, 0)
    assert_same(gpu.max_pool2d_backward(raw(output), raw(indices), geometry),
                np.zeros_like(x), 0)
    assert_same(gpu.max_pool2d_gather(raw(x), raw(indices), geometry), np.zeros_like(output), 0)


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 7, 9), (1, 1, 1, 1), (0, 1, 4, 4)])
def test_codes(gpu, shape, dtype, tolerance):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, (*shape[:2], shape[2] // 2, shape[3] // 2)).astype(np.uint8)
    grad = rng.standard_normal(codes.shape).astype(dtype)
    for rectified in (True, False):
        assert_same(gpu.max_pool2d_expand(raw(grad), raw(codes), shape, rectified),
                    REFERENCE.max_pool2d_expand(grad, codes, shape, rectified), 0)
    assert_same(gpu.max_pool2d_indices(raw(codes), shape), REFERENCE.max_pool2d_indices(codes, shape), 0)


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize(("shape", "options"), AVERAGES)
def test_avg_pool2d(gpu, shape, options, dtype, tolerance):
    rng = np.random.default_rng(0)
    geometry = avg_pool2d_geometry(shape, *options)
    x = rng.standard_normal(shape).astype(dtype)
    grad = rng.standard_normal(geometry.output_shape).astype(dtype)
    for count_include_pad in (True, False):
        for divisor in (None, 3, -2):
            arguments = geometry, count_include_pad, divisor
            assert_same(gpu.avg_pool2d(raw(x), *arguments), REFERENCE.avg_pool2d(x, *arguments), tolerance)
            assert_same(gpu.avg_pool2d_backward(raw(grad), *arguments), REFERENCE.avg_pool2d_backward(grad, *arguments),
                        tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 7, 9), (1, 3, 30, 31), (0, 1, 4, 4)])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 7), (2, 5), (10, 12)])
def test_adaptive_avg_pool2d(gpu, shape, size, dtype, tolerance):
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal(shape).astype(dtype), rng.standard_normal((*shape[:2], *size)).astype(dtype)
    assert_same(gpu.adaptive_avg_pool2d(raw(x), size), REFERENCE.adaptive_avg_pool2d(x, size), tolerance)
    assert_same(gpu.adaptive_avg_pool2d_backward(raw(grad), shape), REFERENCE.adaptive_avg_pool2d_backward(grad, shape),
                tolerance)


@pytest.mark.skipif(cuda_device.REAL, reason="launches are counted by the emulation")
def test_launches(gpu):
    geometry = max_pool2d_geometry((8, 6, 28, 28), 2)
    x = raw(np.zeros((8, 6, 28, 28), np.float32))
    cuda_device.emulation().reset_counters()
    output, indices = gpu.max_pool2d(x, geometry)
    gpu.max_pool2d_backward(output, indices, geometry)
    assert cuda_device.emulation().counters().launches == 2


def test_views_without_order_in_memory(gpu):
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).transpose(0, 3, 1, 2)
    geometry = max_pool2d_geometry(x.shape, 2)
    output, indices = wanted = REFERENCE.max_pool2d(x, geometry)
    assert_same(gpu.max_pool2d(raw(x), geometry), wanted, 0)
    grad = np.broadcast_to(np.float64(2), output.shape)
    assert_same(gpu.max_pool2d_backward(raw(grad), raw(np.asfortranarray(indices)), geometry),
                REFERENCE.max_pool2d_backward(grad, indices, geometry), 0)
    assert_same(gpu.avg_pool2d_backward(raw(grad), geometry, True, None),
                REFERENCE.avg_pool2d_backward(grad, geometry, True, None), 1e-15)
    assert_same(gpu.adaptive_avg_pool2d(raw(x), (3, 3)), REFERENCE.adaptive_avg_pool2d(x, (3, 3)), 1e-15)
