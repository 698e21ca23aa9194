"""Convolution on the GPU: every kernel on odd shapes against the reference in float64, and the same bits in any order.

Tolerances are of the largest number of the result: 1e-5 in float32 (sums of at most a few thousand products with
roundings of 6e-8 each), 1e-12 in float64.
"""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest

from minidl._devices.cuda import conv_table
from minidl._devices.cuda.conv_table import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Direction
from minidl._devices.reference import Reference
from minidl.geometry import Conv2dGeometry, conv2d_geometry

pytestmark = pytest.mark.cuda

REFERENCE = Reference()
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])

# (N, C, H, W), (OC, C / groups, KH, KW), stride, padding, dilation, groups
GEOMETRIES = {
    "lenet 1": ((2, 1, 12, 12), (6, 1, 5, 5), 1, 2, 1, 1),
    "lenet 2": ((2, 6, 8, 8), (16, 6, 5, 5), 1, 0, 1, 1),
    "odd": ((3, 5, 7, 9), (7, 5, 3, 2), 1, 1, 1, 1),
    "stride": ((2, 3, 9, 11), (5, 3, 3, 3), 2, 1, 1, 1),
    "strides": ((2, 3, 10, 11), (4, 3, 2, 4), (3, 2), (1, 2), 1, 1),
    "stride beyond the kernel": ((2, 3, 9, 9), (4, 3, 1, 2), 3, 0, 1, 1),
    "dilation": ((2, 3, 9, 10), (4, 3, 3, 2), 1, 2, (2, 3), 1),
    "stride and dilation": ((2, 3, 13, 12), (4, 3, 3, 3), (2, 3), 2, (2, 2), 1),
    "same, even kernel": ((2, 3, 6, 5), (4, 3, 2, 4), 1, "same", 1, 1),
    "groups": ((2, 6, 6, 7), (9, 2, 3, 3), 2, 1, 1, 3),
    "depthwise": ((2, 5, 6, 7), (5, 1, 3, 3), 1, 1, 1, 5),
    "depthwise times two": ((2, 3, 9, 8), (6, 1, 3, 3), 2, 1, 2, 3),
    "1x1": ((2, 20, 5, 4), (18, 20, 1, 1), 1, 0, 1, 1),
    "more than a tile": ((1, 10, 13, 13), (70, 10, 3, 3), 1, 1, 1, 1),
    "no images": ((0, 3, 6, 6), (4, 3, 3, 3), 1, 1, 1, 1),
}
CASES = pytest.mark.parametrize("case", GEOMETRIES)


def geometry_of(case: str) -> Conv2dGeometry:
    return conv2d_geometry(*GEOMETRIES[case])


def random(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def operands(g, dtype):
    """input, weight, bias, grad_output"""
    shapes = g.input_shape, g.weight_shape, (g.OC,), g.output_shape
    return [random(shape, dtype, seed) for seed, shape in enumerate(shapes)]


def all_directions(backend, g, x, weight, bias, grad):
    """output, grad_input, grad_weight, grad_bias"""
    return [backend.conv2d(x, weight, bias, g), backend.conv2d_backward_input(grad, weight, g),
            backend.conv2d_backward_weight(grad, x, g), backend.conv2d_backward_bias(grad)]


def assert_close(results, expected, dtype, tolerance=None):
    for name, got, wanted in zip(("output", "grad_input", "grad_weight", "grad_bias"), results, expected, strict=True):
        got = cuda_device.backend().to_host(got)
        assert got.shape == wanted.shape and got.dtype == dtype, name
        largest = max(1, np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=(tolerance or TOLERANCE[dtype]) * largest, err_msg=name)


def wide(arrays):
    return [array.astype(np.float64) for array in arrays]


def kernels_of(g, dtype):
    """Every kernel with the directions that it can compute."""
    for kernel in conv_table.KERNELS:
        directions = [each for each in Direction if conv_table.fits(kernel, g, each, np.dtype(dtype))]
        if directions:
            yield kernel, directions


@FLOATS
@CASES
def test_every_kernel(gpu, case, dtype):
    g = geometry_of(case)
    arrays = operands(g, dtype)
    expected = all_directions(REFERENCE, g, *wide(arrays))
    held = [gpu.from_host(array) for array in arrays]
    for kernel, directions in kernels_of(g, dtype):
        for splits in (1, 3):
            with conv_table.use(dict.fromkeys(directions, kernel), splits):
                assert_close(all_directions(gpu, g, *held), expected, dtype)
    assert_close(all_directions(gpu, g, *held), expected, dtype)


@FLOATS
def test_operands_with_gaps_and_from_odd_numbers_on(gpu, dtype):
    g = geometry_of("odd")
    arrays = operands(g, dtype)
    expected = all_directions(REFERENCE, g, *wide(arrays))

    def with_gaps(x):
        held = gpu.from_host(np.repeat(x, 2, axis=-1))
        return held.view(x.shape, (*held.strides[:-1], 2 * x.itemsize))

    def shifted(x):
        return gpu.from_host(np.concatenate([np.zeros(1, dtype), x.ravel()])).view(x.shape, None, x.itemsize)

    assert_close(all_directions(gpu, g, *map(with_gaps, arrays)), expected, dtype)
    for kernel, directions in kernels_of(g, dtype):
        with conv_table.use(dict.fromkeys(directions, kernel)):
            assert_close(all_directions(gpu, g, *map(shifted, arrays)), expected, dtype)


@pytest.mark.parametrize("case", ["odd", "stride and dilation", "groups", "depthwise times two", "lenet 2"])
def test_the_order_of_threads_does_not_matter(gpu, case):
    g = geometry_of(case)
    held = [gpu.from_host(array) for array in operands(g, np.float32)]

    def results():
        for kernel, directions in kernels_of(g, np.float32):
            with conv_table.use(dict.fromkeys(directions, kernel), 3):
                yield from map(gpu.to_host, all_directions(gpu, g, *held))

    first = list(results())
    for number in (1, 2):
        with cuda_device.order(number):
            for one, two in zip(first, results(), strict=True):
                np.testing.assert_array_equal(one, two)


def test_many_pixels_of_a_bias_gradient(gpu):
    grad = random((9, 3, 40, 41), np.float32)
    np.testing.assert_allclose(gpu.to_host(gpu.conv2d_backward_bias(gpu.from_host(grad))),
                               grad.astype(np.float64).sum((0, 2, 3)), rtol=0, atol=1e-3)


@pytest.mark.skipif(cuda_device.REAL, reason="the emulation counts launches")
def test_launches(gpu):
    g = conv2d_geometry((8, 6, 14, 14), (16, 6, 5, 5))
    x, weight, bias, grad = (gpu.from_host(array) for array in operands(g, np.float32))
    for most, call in ((1, lambda: gpu.conv2d(x, weight, bias, g)),
                       (1, lambda: gpu.conv2d_backward_input(grad, weight, g)),
                       (2, lambda: gpu.conv2d_backward_weight(grad, x, g)),
                       (2, lambda: gpu.conv2d_backward_bias(grad))):
        cuda_device.emulation().reset_counters()
        call()
        counters = cuda_device.emulation().counters()
        assert 1 <= counters.launches <= most
        assert counters.copies_to_device == counters.copies_to_host == counters.copies_on_device == 0


def test_what_the_table_says():
    def kernel(g, direction, dtype=np.float32):
        return conv_table.choose(g, direction, np.dtype(dtype), 132).kernel

    resnet = conv2d_geometry((64, 128, 28, 28), (128, 128, 3, 3), 1, 1)
    assert kernel(resnet, FORWARD) == "large"
    assert kernel(resnet, FORWARD, np.float64) == "medium"
    assert kernel(geometry_of("groups"), BACKWARD_INPUT) == "small"
    first = conv2d_geometry((64, 1, 28, 28), (6, 1, 5, 5), 1, 2)
    assert conv_table.choose(first, BACKWARD_WEIGHT, np.dtype(np.float32), 132).splits > 100


def test_errors(gpu):
    g = geometry_of("odd")
    x, weight = (gpu.from_host(array) for array in operands(g, np.float32)[:2])
    with pytest.raises(TypeError, match="both float32 or both float64, got float32 and float64"):
        gpu.conv2d(x, gpu.from_host(operands(g, np.float64)[1]), None, g)
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional with 7 elements"):
        gpu.conv2d(x, weight, gpu.from_host(np.zeros(3, np.float32)), g)
    with conv_table.use({FORWARD: "wide"}), pytest.raises(ValueError, match="wide does not fit this geometry"):
        gpu.conv2d(*(gpu.from_host(array) for array in operands(g, np.float64)[:3]), g)
