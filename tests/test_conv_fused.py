"""Convolution with relu and max pooling in one pass: the bits of one after the other."""

import itertools

import numpy as np
import pytest
from guarded import fill_free_memory_with_nan, guarded

from minidl._devices.cpu.pointwise import PointwiseCPU
from minidl._devices.cpu.pool import PoolCPU
from minidl._ext import conv2d as kernels
from minidl._ext import conv2d_fused as fused
from minidl.backends.cpu import use_conv_kernel
from minidl.geometry import conv2d_geometry, max_pool2d_geometry

pytestmark = pytest.mark.usefixtures("isa", "thread_count")

POINTWISE, POOL = PointwiseCPU(), PoolCPU()
KERNELS = pytest.mark.parametrize("kernel", ["direct_rows", "direct_channels"])

# (N, C, H, W), (OC, C, KH, KW), stride, padding
CASES = {
    "lenet 1": ((3, 1, 28, 28), (6, 1, 5, 5), 1, 2),
    "lenet 2": ((3, 6, 14, 14), (16, 6, 5, 5), 1, 0),
    "3 to 32": ((2, 3, 32, 32), (32, 3, 3, 3), 1, 1),
    "odd output": ((2, 2, 9, 71), (5, 2, 3, 3), 1, 1),
    "odd output, narrow": ((3, 2, 5, 7), (17, 2, 2, 2), 1, 1),
    "one window": ((1, 2, 3, 3), (3, 2, 2, 2), 1, 0),
    "no window": ((1, 2, 1, 4), (3, 2, 1, 2), 1, 0),
    "bands": ((1, 3, 150, 200), (4, 3, 5, 5), 1, 2),
    "no images": ((0, 2, 6, 6), (3, 2, 3, 3), 1, 0),
}


def operands(g, seed=0):
    """input, weight, bias and the gradient of what is pooled; a few numbers are equal, zero or not finite."""
    generator = np.random.default_rng(seed)
    shapes = (g.input_shape, g.weight_shape, (g.OC,), (g.N, g.OC, g.OH // 2, g.OW // 2))
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


def one_after_the_other(x, weight, bias, grad, g):
    """output of relu, pooled output, grad_input, grad_weight and grad_bias."""
    output = POINTWISE.relu(kernels.conv2d_forward(x, weight, bias, g))
    if g.OH < 2 or g.OW < 2:
        pooled, grad = np.zeros((g.N, g.OC, g.OH // 2, g.OW // 2), np.float32), np.zeros_like(output)
    else:
        windows = max_pool2d_geometry(output.shape, 2)
        pooled, indices = POOL.max_pool2d(output, windows)
        grad = POINTWISE.relu_backward(POOL.max_pool2d_backward(grad, indices, windows), output)
    return (output, pooled, kernels.conv2d_backward_input(grad, weight, g),
            kernels.conv2d_backward_weight(grad, x, g), kernels.conv2d_backward_bias(grad))


def in_one_pass(x, weight, bias, grad, g):
    fill_free_memory_with_nan()
    output = fused.conv2d_relu_forward(x, weight, bias, g)
    pooled, codes = fused.conv2d_relu_pool_forward(x, weight, bias, g)
    return output, pooled, *fused.conv2d_relu_pool_backward(grad, codes, x, weight, g)


def assert_same_bits(actual, expected):
    names = ("relu", "pooled", "grad_input", "grad_weight", "grad_bias")
    for name, mine, theirs in zip(names, actual, expected, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype == np.float32, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
        assert mine.tobytes() == theirs.tobytes(), name


@KERNELS
@pytest.mark.parametrize("case", CASES)
def test_the_bits_of_one_after_the_other(kernel, case):
    g = conv2d_geometry(*CASES[case])
    arrays = operands(g)
    with use_conv_kernel(kernel, kernel, kernel):
        assert fused.can_fuse(g)
        assert_same_bits(in_one_pass(*arrays, g), one_after_the_other(*arrays, g))


@pytest.mark.parametrize("images", [4, 15, 17, 33])
@pytest.mark.parametrize("case", [case for case in CASES if case != "no images"])
def test_images_in_the_lanes(case, images):
    """The pooled gradient is expanded while it is turned round, and images that are left go to another kernel."""
    (_, *image), *rest = CASES[case]
    if case == "bands":
        image, images = [3, 41, 67], images // 2
    g = conv2d_geometry((images, *image), *rest)
    arrays = operands(g)
    with use_conv_kernel("direct_rows", "direct_batch", "direct_rows"):
        assert fused.can_fuse(g)
        assert_same_bits(in_one_pass(*arrays, g), one_after_the_other(*arrays, g))


def test_the_kernels_that_the_table_chooses():
    """The gradients are those of tests/test_conv_pooled.py: sums of a few thousand products in another order."""
    for images in (1, 3, 8, 16, 33):
        (_, *image), *rest = CASES["lenet 2"]
        g = conv2d_geometry((images, *image), *rest)
        arrays = operands(g)
        actual, expected = in_one_pass(*arrays, g), one_after_the_other(*arrays, g)
        for mine, theirs in zip(actual[:2], expected[:2], strict=True):
            assert mine.tobytes() == theirs.tobytes()
        for mine, theirs in zip(actual[2:], expected[2:], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("width", [2, 6, 34])
def test_equal_numbers_zeros_and_nan(width):
    """1x1 with a weight of one: every window of four out of six special numbers, in order."""
    numbers = np.array([-1, -0.0, 0, 1, np.inf, np.nan], np.float32)
    windows = np.array(list(itertools.product(numbers, repeat=4))).reshape(-1, 2, 2)
    windows = np.resize(windows, (-(-len(windows) // (width // 2)) * (width // 2), 2, 2))
    x = windows.reshape(-1, width // 2, 2, 2).transpose(0, 2, 1, 3).reshape(1, 1, -1, width)
    g = conv2d_geometry(x.shape, (1, 1, 1, 1))
    weight, bias = np.ones((1, 1, 1, 1), np.float32), np.full(1, -0.0, np.float32)
    grad = np.arange(1, x.size // 4 + 1, dtype=np.float32).reshape(1, 1, x.shape[2] // 2, width // 2)
    with use_conv_kernel("direct_rows", "direct_rows", "direct_rows"):
        _, codes = fused.conv2d_relu_pool_forward(x, weight, bias, g)
        with np.errstate(invalid="ignore"):
            actual, expected = in_one_pass(x, weight, bias, grad, g), one_after_the_other(x, weight, bias, grad, g)
    for mine, theirs in zip(actual[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert set(np.unique(codes)) == {0, 1, 2, 3, 4}


def test_codes_name_the_pixel():
    x = np.array([[5, 1, 1, 5, 1, 1, 1, 1, -1, -1], [1, 1, 1, 1, 5, 1, 1, 5, -1, 0]], np.float32)[None, None]
    g = conv2d_geometry(x.shape, (1, 1, 1, 1))
    with use_conv_kernel("direct_rows", "direct_rows", "direct_rows"):
        pooled, codes = fused.conv2d_relu_pool_forward(x, np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32), g)
    assert pooled.tolist() == [[[[5, 5, 5, 5, 0]]]]
    assert codes.tolist() == [[[[0, 1, 2, 3, 4]]]]


def test_without_the_gradient_of_the_input():
    g = conv2d_geometry(*CASES["lenet 1"])
    x, weight, bias, grad = operands(g)
    _, codes = fused.conv2d_relu_pool_forward(x, weight, bias, g)
    all_three = fused.conv2d_relu_pool_backward(grad, codes, x, weight, g)
    nothing, grad_weight, grad_bias = fused.conv2d_relu_pool_backward(grad, codes, x, weight, g, False)
    assert nothing is None
    np.testing.assert_array_equal(grad_weight, all_three[1])
    np.testing.assert_array_equal(grad_bias, all_three[2])


@pytest.mark.parametrize("kernel_input", ["direct_rows", "direct_batch"])
@pytest.mark.parametrize("case", ["lenet 1", "lenet 2", "odd output", "odd output, narrow", "one window"])
def test_nothing_behind_the_arrays_is_read(case, kernel_input):
    (images, *image), *rest = CASES[case]
    g = conv2d_geometry((15 if kernel_input == "direct_batch" else images, *image), *rest)
    x, weight, bias, grad = operands(g)
    _, codes = fused.conv2d_relu_pool_forward(x, weight, bias, g)
    with (use_conv_kernel("direct_rows", kernel_input, "direct_rows"),
          guarded(x, weight, bias, grad, codes) as copies):
        x, weight, bias, grad, codes = copies
        fused.conv2d_relu_pool_forward(x, weight, bias, g)
        fused.conv2d_relu_pool_backward(grad, codes, x, weight, g)


def test_what_is_refused():
    g = conv2d_geometry(*CASES["lenet 2"])
    x, weight, bias, grad = operands(g)
    pooled, codes = fused.conv2d_relu_pool_forward(x, weight, bias, g)
    with pytest.raises(TypeError, match="fused for float32 only"):
        fused.conv2d_relu_forward(x.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64), g)
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional with 16 elements"):
        fused.conv2d_relu_pool_forward(x, weight, bias[:3], g)
    with pytest.raises(TypeError, match="codes of a pooled convolution are uint8, got float32"):
        fused.conv2d_relu_pool_backward(grad, pooled, x, weight, g)
    with pytest.raises(ValueError, match=r"expected grad_output and codes of \[3, 16, 5, 5\]"):
        fused.conv2d_relu_pool_backward(grad[:, :, :4], codes, x, weight, g)
    with use_conv_kernel(forward="im2col"):
        assert not fused.can_fuse(g)
        with pytest.raises(ValueError, match="this geometry gets IM2COL in direction FORWARD"):
            fused.conv2d_relu_forward(x, weight, bias, g)
    strided = conv2d_geometry((2, 3, 9, 9), (4, 3, 3, 3), 2)
    assert fused.can_fuse(strided, needs_input=False) and not fused.can_fuse(strided)


def test_the_layers_of_lenet_are_fused_at_every_batch():
    for images in (1, 2, 5, 8, 15, 16, 17, 64, 100, 1024):
        assert fused.can_fuse(conv2d_geometry((images, 6, 14, 14), (16, 6, 5, 5)))
        assert fused.can_fuse(conv2d_geometry((images, 1, 28, 28), (6, 1, 5, 5), 1, 2), needs_input=False)
