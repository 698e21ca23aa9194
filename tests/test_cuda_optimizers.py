"""Optimizer steps on the GPU against the reference: many parameters, sizes that fill no block, odd addresses."""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest
from cuda_device import assert_same, raw

import minidl
from minidl._devices.reference import Reference

pytestmark = pytest.mark.cuda

REFERENCE = Reference()
FLOATS = [(np.float32, 1e-6), (np.float64, 1e-14)]  # a few roundings, some joined by fused multiply-adds
SIZES = [2048, 1, 0, 1023, 1024, 1025, 7, 3000]
SGD = [(0, 0, 0, False, False), (0.9, 0.1, 0.01, False, False), (0.9, 0, 0.01, True, True), (0.5, 0, 0, False, True)]
ADAM = [(0.9, 0.01, False, False, False), (0.3, 0.01, True, True, True), (0.0, 0.0, True, False, False)]


def some(rng, dtype, sizes, count):
    return [[np.abs(rng.standard_normal(size)).astype(dtype) for size in sizes] for _ in range(count)]


def compare(arrays, on_gpu, tolerance):
    for one, two in zip(arrays, on_gpu, strict=True):
        assert_same(two, one, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize(("momentum", "dampening", "weight_decay", "nesterov", "maximize"), SGD)
def test_sgd_step(gpu, dtype, tolerance, momentum, dampening, weight_decay, nesterov, maximize):
    parameters, grads, buffers = some(np.random.default_rng(0), dtype, SIZES, 3)
    first = [i % 2 == 0 for i in range(len(SIZES))]
    on_gpu = [[raw(each) for each in arrays] for arrays in (parameters, grads, buffers)]
    options = first, 0.1, momentum, dampening, weight_decay, nesterov, maximize
    for _ in range(2):
        REFERENCE.sgd_step(parameters, grads, buffers, *options)
        gpu.sgd_step(*on_gpu, *options)
    compare(parameters, on_gpu[0], tolerance)
    compare(buffers, on_gpu[2], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize(("beta1", "weight_decay", "amsgrad", "maximize", "decoupled"), ADAM)
def test_adam_step(gpu, dtype, tolerance, beta1, weight_decay, amsgrad, maximize, decoupled):
    arrays = some(np.random.default_rng(0), dtype, SIZES, 5)
    on_gpu = [[raw(each) for each in group] for group in arrays]
    for step in (1, 2):
        steps = [step + i % 3 for i in range(len(SIZES))]
        options = steps, 0.1, beta1, 0.99, 1e-8, weight_decay, amsgrad, maximize, decoupled
        REFERENCE.adam_step(*arrays, *options)
        gpu.adam_step(*on_gpu, *options)
    for group, results in zip(arrays, on_gpu, strict=True):
        compare(group, results, 2 * tolerance)


def test_no_buffers_without_momentum(gpu):
    parameter, grad = np.ones(3, np.float32), np.full(3, 2, np.float32)
    on_gpu = raw(parameter)
    gpu.sgd_step([on_gpu], [raw(grad)], [None], [False], 0.5, 0, 0, 0, False, False)
    assert_same(on_gpu, np.zeros(3, np.float32), 0)
    gpu.sgd_step([], [], [], [], 0.5, 0, 0, 0, False, False)


def test_two_dtypes(gpu):
    arrays = [np.ones(5, np.float32), np.ones(6, np.float64)]
    on_gpu = [raw(each) for each in arrays]
    gpu.sgd_step(on_gpu, [raw(each) for each in arrays], [None] * 2, [False] * 2, 0.5, 0, 0, 0, False, False)
    compare([each * 0.5 for each in arrays], on_gpu, 0)


def test_addresses_that_are_not_aligned(gpu):
    """A parameter may begin anywhere in memory; numbers are then taken one by one."""
    rng = np.random.default_rng(0)
    memory, grad = rng.standard_normal(2049).astype(np.float32), rng.standard_normal(2048).astype(np.float32)
    whole = raw(memory)
    gpu.sgd_step([whole.view((2048,), None, 4)], [raw(grad)], [None], [False], 0.5, 0, 0, 0, False, False)
    memory[1:] -= 0.5 * grad
    assert_same(whole, memory, 1e-7)


@pytest.mark.skipif(cuda_device.REAL, reason="launches are counted by the emulation")
@pytest.mark.parametrize(("count", "launches"), [(10, 1), (170, 3)])
def test_one_launch_for_all_parameters(gpu, count, launches):
    parameters, grads, buffers, squares, largest = ([raw(np.ones(i % 5 + 1, np.float32)) for i in range(count)]
                                                    for _ in range(5))
    cuda_device.emulation().reset_counters()
    gpu.sgd_step(parameters, grads, buffers, [False] * count, 0.1, 0.9, 0, 0, False, False)
    assert cuda_device.emulation().counters().launches == launches
    gpu.adam_step(parameters, grads, buffers, squares, largest, [1] * count, 0.1, 0.9, 0.99, 1e-8, 0, True, False,
                  False)
    counters = cuda_device.emulation().counters()
    assert (counters.launches, counters.copies_to_host, counters.copies_to_device) == (2 * launches, 0, 0)


def test_parameters_that_are_not_contiguous(gpu):
    rng = np.random.default_rng(0)
    arrays = [[rng.uniform(1, 2, (5, 6))[:, ::2], rng.uniform(1, 2, (3, 4)).T, rng.uniform(1, 2, 7)] for _ in range(5)]
    on_gpu = [[raw(each) for each in group] for group in arrays]
    sgd = [False] * 3, 0.1, 0.9, 0, 0, False, False
    REFERENCE.sgd_step(*arrays[:3], *sgd)
    gpu.sgd_step(*on_gpu[:3], *sgd)
    adam = [2] * 3, 0.1, 0.9, 0.99, 1e-8, 0, True, False, False
    REFERENCE.adam_step(*arrays, *adam)
    gpu.adam_step(*on_gpu, *adam)
    for group, results in zip(arrays, on_gpu, strict=True):
        compare(group, results, 1e-14)


@pytest.mark.parametrize("make", [
    lambda parameters: minidl.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    lambda parameters: minidl.optim.Adam(parameters, 0.1, amsgrad=True),
    lambda parameters: minidl.optim.AdamW(parameters, 0.1),
])
def test_the_optimizers_of_a_script(gpu, make):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((3, 4), (5,))]
    there, here = [cuda_device.tensor(each) for each in arrays], [minidl.tensor(each) for each in arrays]
    for parameters in (there, here):
        optimizer = make([each.requires_grad_() for each in parameters])
        for _ in range(3):
            optimizer.zero_grad()
            sum((each * each * each).sum() for each in parameters).backward()
            optimizer.step()
    for one, two in zip(there, here, strict=True):
        np.testing.assert_allclose(cuda_device.numbers(one), two.detach().numpy(), rtol=1e-12)
