"""Convolution on the GPU: every kernel on odd shapes against the reference in float64, and the same bits in any order.

Tolerances are of the largest number of the result: 1e-5 in float32 (sums of at most a few thousand products with
roundings of 6e-8 each), 1e-12 in float64, and 1e-3 on tensor cores, where TF32 keeps ten bits of each number.
"""

from __future__ import annotations

import itertools

import cuda_device
import numpy as np
import pytest

import minidl
from minidl import nn
from minidl._devices.cuda import conv_table
from minidl._devices.cuda.conv_table import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Direction
from minidl._devices.reference import Reference
from minidl._ext import conv2d_fused, core
from minidl.backends.cpu import use_conv_kernel
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
    "depthwise, five taps": ((3, 2, 11, 9), (2, 1, 5, 4), (2, 1), (2, 3), (1, 2), 2),
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


def assert_close(results, expected, dtype, tolerance):
    for name, got, wanted in zip(("output", "grad_input", "grad_weight", "grad_bias"), results, expected, strict=True):
        got = cuda_device.backend().to_host(got)
        assert got.shape == wanted.shape and got.dtype == dtype, name
        largest = max(1, np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * largest, err_msg=name)


def tolerance_of(kernel, dtype):
    return 1e-3 if kernel in conv_table.TENSOR_TILES else TOLERANCE[dtype]


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
                assert_close(all_directions(gpu, g, *held), expected, dtype, tolerance_of(kernel, dtype))
    assert_close(all_directions(gpu, g, *held), expected, dtype, TOLERANCE[dtype])


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

    assert_close(all_directions(gpu, g, *map(with_gaps, arrays)), expected, dtype, TOLERANCE[dtype])
    for kernel, directions in kernels_of(g, dtype):
        with conv_table.use(dict.fromkeys(directions, kernel)):
            assert_close(all_directions(gpu, g, *map(shifted, arrays)), expected, dtype, tolerance_of(kernel, dtype))


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


# (N, C, H, W), (OC, C, KH, KW), stride, padding
FUSED = {
    "lenet 1": ((3, 1, 28, 28), (6, 1, 5, 5), 1, 2),
    "lenet 2": ((3, 6, 14, 14), (16, 6, 5, 5), 1, 0),
    "3 to 10": ((2, 3, 9, 11), (10, 3, 3, 3), 1, 1),
    "odd output": ((2, 2, 9, 13), (5, 2, 3, 2), 1, 1),
    "stride": ((2, 2, 13, 14), (5, 2, 3, 3), (2, 3), 1),
    "one window": ((1, 2, 3, 3), (3, 2, 2, 2), 1, 0),
    "no window": ((1, 2, 1, 4), (3, 2, 1, 2), 1, 0),
    "no images": ((0, 2, 6, 6), (3, 2, 3, 3), 1, 0),
}


@pytest.mark.parametrize("case", FUSED)
def test_relu_and_pooling_in_one_pass(gpu, case):
    g = conv2d_geometry(*FUSED[case])
    arrays = operands(g, np.float32)[:3]
    grad = random((g.N, g.OC, g.OH // 2, g.OW // 2), np.float32, 4)
    x, weight, bias, held_grad = (gpu.from_host(array) for array in (*arrays, grad))
    assert gpu.can_fuse_conv2d(g, True)

    def assert_near(got, wanted, name):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(gpu.to_host(got), wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max(initial=0)),
                                   err_msg=name)

    assert_near(gpu.conv2d_relu(x, weight, bias, g), REFERENCE.conv2d_relu(*wide(arrays), g), "relu")
    output, codes = gpu.conv2d_relu_max_pool2d(x, weight, bias, g)
    expected, expected_codes = REFERENCE.conv2d_relu_max_pool2d(*wide(arrays), g)
    assert_near(output, expected, "pooled")
    np.testing.assert_array_equal(gpu.to_host(codes), expected_codes)
    wanted = REFERENCE.conv2d_relu_max_pool2d_backward(
        grad.astype(np.float64), expected_codes, *wide(arrays[:2]), g, True)
    for kernel in ("direct", "large", "medium", "wide", "small"):
        directions = [each for each in (BACKWARD_INPUT, BACKWARD_WEIGHT)
                      if conv_table.fits(kernel, g, each, np.dtype(np.float32))]
        for splits in (1, 3):
            with conv_table.use(dict.fromkeys(directions, kernel), splits):
                results = gpu.conv2d_relu_max_pool2d_backward(held_grad, codes, x, weight, g, True)
            for name, got, right in zip(("grad_input", "grad_weight", "grad_bias"), results, wanted, strict=True):
                assert_near(got, right, f"{name} {kernel}")
    nothing, *_ = gpu.conv2d_relu_max_pool2d_backward(held_grad, codes, x, weight, g, False)
    assert nothing is None


def test_codes_of_equal_numbers_zeros_and_nan(gpu):
    """1x1 with a weight of one: the codes that the CPU's kernel gives to every window of special numbers."""
    numbers = np.array([-1, -0.0, 0, 1, np.inf, np.nan], np.float32)
    windows = np.array(list(itertools.product(numbers, repeat=4)), np.float32).reshape(-1, 2, 2)
    x = windows.transpose(1, 0, 2).reshape(1, 1, 2, -1)
    g = conv2d_geometry(x.shape, (1, 1, 1, 1))
    weight, bias = np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
    output, codes = gpu.conv2d_relu_max_pool2d(*(gpu.from_host(array) for array in (x, weight, bias)), g)
    with use_conv_kernel("direct_rows", None, "direct_rows"):
        expected, expected_codes = conv2d_fused.conv2d_relu_pool_forward(x, weight, bias, g)
    np.testing.assert_array_equal(gpu.to_host(output), expected)
    np.testing.assert_array_equal(gpu.to_host(codes), expected_codes)


def lenet_like(device):
    """A convolution, ReLU and pooling, twice, and the gradients of all that is learned."""
    minidl.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                           nn.MaxPool2d(2))
    x = core.from_raw(device.from_host(random((2, 1, 28, 28), np.float32)), device)
    for name, parameter in list(layers.named_parameters()):
        *path, last = name.split(".")
        held = core.from_raw(device.from_host(np.array(parameter.detach().numpy())), device)
        setattr(layers.get_submodule(".".join(path)), last, nn.Parameter(held))
    return layers, x


@pytest.mark.skipif(cuda_device.REAL, reason="the emulation counts launches")
def test_what_waits_is_computed_in_one_pass(gpu):
    """A convolution waits for its ReLU and both for the pooling, as on the CPU, and so does their gradient."""
    layers, x = lenet_like(gpu)
    expected_layers, expected_x = lenet_like(minidl.zeros(1)._backend)
    cuda_device.emulation().reset_counters()
    output = layers(x)
    assert cuda_device.emulation().counters().launches == 2
    gradient = gpu.from_host(random(output.shape, np.float32, 1))
    cuda_device.emulation().reset_counters()
    output.backward(core.from_raw(gradient, gpu))
    assert cuda_device.emulation().counters().launches <= 5
    expected = expected_layers(expected_x)
    expected.backward(minidl.from_numpy(random(output.shape, np.float32, 1)))
    np.testing.assert_allclose(cuda_device.numbers(output), expected.detach().numpy(), rtol=0, atol=1e-5)
    for mine, theirs in zip(layers.parameters(), expected_layers.parameters(), strict=True):
        wanted = theirs.grad.numpy()
        np.testing.assert_allclose(cuda_device.numbers(mine.grad), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


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
    def kernel(g, direction, dtype=np.float32, tensor_cores=False):
        return conv_table.choose(g, direction, np.dtype(dtype), 132, tensor_cores).kernel

    resnet = conv2d_geometry((64, 128, 28, 28), (128, 128, 3, 3), 1, 1)
    assert kernel(resnet, FORWARD) == "large"
    assert kernel(resnet, FORWARD, np.float64) == "medium"
    assert kernel(resnet, FORWARD, np.float32, True) == "tf32_large"
    assert kernel(resnet, FORWARD, np.float64, True) == "medium"
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
