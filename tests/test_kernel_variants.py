"""Kernels that are compiled once per instruction set: each variant against the reference, in float32."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl._devices.cpu import CPU
from minidl._devices.reference import Reference
from minidl._ext import instruction_set, threads
from minidl._ext.pixels import gather_scaled
from minidl.geometry import avg_pool2d_geometry, max_pool2d_geometry

CPU_DEVICE, REFERENCE = CPU(), Reference()
# Of the largest result: a sum of some hundred products in another order loses a few dozen units of 6e-8.
TOLERANCE = 1e-5


@pytest.fixture(params=instruction_set.supported())
def isa(request):
    before = instruction_set.use(request.param)
    yield request.param
    instruction_set.use(before)


def numbers(*shape, seed=0):
    """Normal numbers in memory that no vector is aligned to."""
    flat = np.random.default_rng(seed).standard_normal(int(np.prod(shape)) + 1).astype(np.float32)
    return flat[1:].reshape(shape)


def assert_close(actual, expected):
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 7, 16, 17])
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (3, 2), (16, 8), (17, 9), (33, 31), (130, 67), (400, 120)])
def test_linear(isa, N, inputs, outputs):
    x, weight, bias, grad = numbers(N, inputs), numbers(outputs, inputs, seed=1), numbers(outputs, seed=2), numbers(
        N, outputs, seed=3)
    for offset in (bias, None):
        assert_close(CPU_DEVICE.linear(x, weight, offset), REFERENCE.linear(x, weight, offset))
    assert_close(CPU_DEVICE.linear_backward_input(grad, weight), REFERENCE.linear_backward_input(grad, weight))
    assert_close(CPU_DEVICE.linear_backward_weight(grad, x), REFERENCE.linear_backward_weight(grad, x))


@pytest.mark.parametrize("N", [1, 6])
def test_linear_of_strided_arrays(isa, N):
    x, weight = numbers(40, N).T, numbers(40, 30).T
    assert_close(CPU_DEVICE.linear(x, weight, None), REFERENCE.linear(x, weight, None))
    grad = numbers(N, 60)[:, ::2]
    assert_close(CPU_DEVICE.linear_backward_input(grad, weight), REFERENCE.linear_backward_input(grad, weight))
    assert_close(CPU_DEVICE.linear_backward_weight(grad, x), REFERENCE.linear_backward_weight(grad, x))


def test_linear_shared_by_threads_gives_the_bits_of_one(isa):
    before = threads.get_num_threads()
    x, weight, grad = numbers(3, 2000), numbers(3000, 2000), numbers(3, 3000)
    try:
        results = []
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results.append((CPU_DEVICE.linear(x, weight, None), CPU_DEVICE.linear_backward_input(grad, weight),
                            CPU_DEVICE.linear_backward_weight(grad, x)))
    finally:
        threads.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("size", [1, 15, 16, 100])
def test_sgd(isa, momentum, nesterov, weight_decay, maximize, size):
    mine = [numbers(size), numbers(size, seed=1), numbers(size, seed=2)]
    theirs = [each.copy() for each in mine]
    for first in (True, False):
        for device, (parameter, grad, buffer) in ((CPU_DEVICE, mine), (REFERENCE, theirs)):
            device.sgd_step([parameter], [grad], [buffer], [first], 0.1, momentum, 0.0, weight_decay, nesterov,
                            maximize)
    for one, two in zip(mine, theirs, strict=True):
        assert_close(one, two)


@pytest.mark.parametrize("beta1", [0.9, 0.3])
@pytest.mark.parametrize("weight_decay, decoupled", [(0.0, False), (0.01, False), (0.01, True)])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("size", [1, 15, 16, 100])
def test_adam(isa, beta1, weight_decay, decoupled, amsgrad, maximize, size):
    mine = [numbers(size), *(np.zeros(size, np.float32) for _ in range(3))]
    theirs = [each.copy() for each in mine]
    for step in (1, 2, 3):
        grad = numbers(size, seed=step)
        for device, (parameter, average, square, largest) in ((CPU_DEVICE, mine), (REFERENCE, theirs)):
            device.adam_step([parameter], [grad], [average], [square], [largest] if amsgrad else None, [step], 0.1,
                             beta1, 0.99, 1e-8, weight_decay, amsgrad, maximize, decoupled)
    for one, two in zip(mine, theirs, strict=True):
        assert_close(one, two)


@pytest.mark.parametrize("shape", [(256,), (1,), (3, 5), (16,), (17,), (28, 28), (0,), ()])
@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (0.1307, 0.3081), (-3.0, 1e-3)])
def test_scaled_pixels_have_the_bits_of_numpy(isa, shape, mean, std):
    images = (np.arange(300 * int(np.prod(shape))) * 7 % 256).astype(np.uint8).reshape(300, *shape)
    rows = np.array([5, 299, 0, 5, -1, -300, 17])
    expected = (images[rows].astype(np.float32) / np.float32(255) - np.float32(mean)) / np.float32(std)
    batch = gather_scaled(images, rows, mean, std)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, expected)


def test_scaled_pixels_by_several_threads(isa):
    images = np.random.default_rng(0).integers(0, 256, (50, 100, 100)).astype(np.uint8)
    rows = np.random.default_rng(1).integers(-50, 50, 501)
    before = threads.get_num_threads()
    try:
        batches = [threads.set_num_threads(count) or gather_scaled(images, rows, 0.5, 0.25) for count in (1, 2, 3)]
    finally:
        threads.set_num_threads(before)
    for batch in batches:
        np.testing.assert_array_equal(batch, (images[rows] / np.float32(255) - np.float32(0.5)) / np.float32(0.25))


def test_pixels_that_the_kernel_leaves_to_numpy():
    images, rows = np.zeros((4, 6), np.uint8), np.array([0, 1])
    for odd in (images.T, images[:, ::2], images.astype(np.int16), np.uint8(3)):
        assert gather_scaled(np.asarray(odd), rows, 0, 1) is None
    for odd in (rows.astype(np.int32), rows[None], np.arange(4)[::2]):
        assert gather_scaled(images, odd, 0, 1) is None
    for row in (4, -5, 2**62):
        with pytest.raises(IndexError, match=f"index {row} is out of bounds for axis 0 with size 4"):
            gather_scaled(images, np.array([0, row]), 0, 1)
    assert gather_scaled(images, np.zeros(0, np.int64), 0, 1).shape == (0, 6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(2, 12), st.integers(2, 75), st.integers(0, 3))
def test_pooling_by_two(planes, H, W, seed):
    x = numbers(1, planes, H, W, seed=seed)
    x[..., ::3] = 0  # equal numbers
    if seed == 3:
        x[..., 1] = np.nan
    for name in instruction_set.supported():
        before = instruction_set.use(name)
        try:
            g = max_pool2d_geometry(x.shape, 2)
            output, index = CPU_DEVICE.max_pool2d(x, g)
            expected, places = REFERENCE.max_pool2d(x, g)
            np.testing.assert_array_equal(output, expected)
            np.testing.assert_array_equal(index, places)
            grad = numbers(*output.shape, seed=5)
            np.testing.assert_array_equal(CPU_DEVICE.max_pool2d_backward(grad, index, g),
                                          REFERENCE.max_pool2d_backward(grad, places, g))
            g = avg_pool2d_geometry(x.shape, 2)
            # four numbers in another order
            np.testing.assert_allclose(CPU_DEVICE.avg_pool2d(x, g, True, None), REFERENCE.avg_pool2d(x, g, True, None),
                                       rtol=0, atol=1e-6)
            np.testing.assert_allclose(CPU_DEVICE.avg_pool2d_backward(grad, g, True, None),
                                       REFERENCE.avg_pool2d_backward(grad, g, True, None), rtol=0, atol=1e-6)
        finally:
            instruction_set.use(before)
