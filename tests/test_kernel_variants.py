"""Kernels that are compiled once per instruction set: each variant against the reference, in float32."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl._devices.cpu import CPU
from minidl._devices.reference import Reference
from minidl._ext import instruction_set, threads
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
