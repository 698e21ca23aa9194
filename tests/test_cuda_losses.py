"""Losses on the GPU against the reference: weights, ignored targets, label smoothing, class maps, many blocks."""

from __future__ import annotations

import itertools

import cuda_device
import numpy as np
import pytest
from cuda_device import assert_same, raw

from minidl._devices.reference import Reference

pytestmark = pytest.mark.cuda

REFERENCE = Reference()
# float32: roundings of exp, log and of sums over the classes
FLOATS = [(np.float32, 2e-6), (np.float64, 1e-13)]
SHAPES = [(8, 10), (3, 4, 5), (7,), (2, 5, 3, 4), (1100, 3), (300, 10), (2, 700), (0, 4)]


def on_gpu(arguments):
    return [raw(each) if isinstance(each, np.ndarray) else each for each in arguments]


def both(gpu, name, *arguments, tolerance):
    wanted = getattr(REFERENCE, name)(*arguments)
    assert_same(getattr(gpu, name)(*on_gpu(arguments)), wanted, tolerance, f"{name} {arguments[3:]}")
    return wanted


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_and_nll_loss(gpu, shape, dtype, tolerance):
    rng = np.random.default_rng(0)
    axis = 0 if len(shape) == 1 else 1
    C = shape[axis]
    x = (rng.standard_normal(shape) * 3).astype(dtype)
    targets = np.asarray(rng.integers(0, min(C, 200), shape[:axis] + shape[axis + 1:]))
    weights = rng.uniform(0.5, 2, C).astype(dtype)
    for kind, weight, reduction, smoothing, ignored in itertools.product(
            (np.int64, np.uint8), (None, weights), ("none", "mean", "sum"), (0.0, 0.1), (-100, 1)):
        target = targets.astype(kind)
        loss, log_probs, total_weight = both(gpu, "cross_entropy", x, target, weight, ignored, reduction, smoothing,
                                             tolerance=tolerance)
        grad = np.asarray(rng.standard_normal(loss.shape), dtype)
        both(gpu, "cross_entropy_backward", grad, log_probs, total_weight, target, weight, ignored, reduction,
             smoothing, tolerance=tolerance)
        if not smoothing:
            both(gpu, "nll_loss", log_probs, target, weight, ignored, reduction, tolerance=tolerance)
            both(gpu, "nll_loss_backward", grad, total_weight, target, weight, ignored, reduction, shape,
                 tolerance=tolerance)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("wrong", [4, -1, 2**40])
def test_a_target_out_of_range_makes_nan_and_reads_nothing(gpu, wrong, reduction):
    x = raw(np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32))
    target = raw(np.array([1, wrong, 2]))
    for weight in (None, raw(np.ones(4, np.float32))):
        for smoothing in (0.0, 0.1):
            loss, log_probs, total = gpu.cross_entropy(x, target, weight, -100, reduction, smoothing)
            grad = raw(np.ones(loss.shape, np.float32))
            grad_input = gpu.to_host(gpu.cross_entropy_backward(grad, log_probs, total, target, weight, -100, reduction,
                                                                smoothing))
            assert np.isnan(gpu.to_host(loss)).any()
            assert np.isnan(grad_input[1]).all()
        loss, total = gpu.nll_loss(log_probs, target, weight, -100, reduction)
        assert np.isnan(gpu.to_host(loss)).any()
        grad_input = gpu.to_host(gpu.nll_loss_backward(grad, total, target, weight, -100, reduction, (3, 4)))
        assert np.isnan(grad_input[1]).all()


def test_everything_ignored(gpu):
    x, target = np.zeros((3, 4), np.float32), np.full(3, -100)
    for reduction in ("none", "mean", "sum"):
        both(gpu, "cross_entropy", x, target, None, -100, reduction, 0.0, tolerance=0)


def test_errors_are_the_reference_s(gpu):
    x = np.zeros((3, 4), np.float32)
    target = np.zeros(3, np.int64)
    for arguments in ((x, target[:2], None, -100, "mean", 0.0), (x, target.astype(np.int32), None, -100, "mean", 0.0),
                      (x, target, x[0, :3].copy(), -100, "mean", 0.0), (x[0, 0], target, None, -100, "mean", 0.0),
                      (x, target, None, -100, "average", 0.0)):
        with pytest.raises((ValueError, RuntimeError)) as wanted:
            REFERENCE.cross_entropy(*arguments)
        with pytest.raises(wanted.type) as got:
            gpu.cross_entropy(*on_gpu(arguments))
        assert str(got.value) == str(wanted.value)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
def test_losses_of_differences(gpu, dtype, tolerance, name):
    rng = np.random.default_rng(0)
    for shape in ((3, 4), (), (0,), (5000,), (40000,)):
        x, target = (np.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
        for reduction in ("none", "mean", "sum"):
            loss = both(gpu, name, x, target, reduction, tolerance=tolerance)
            grad = np.asarray(rng.standard_normal(loss.shape), dtype)
            both(gpu, f"{name}_backward", grad, x, target, reduction, tolerance=tolerance)


def test_the_gradient_of_l1_loss_at_zero_and_nan(gpu):
    x, target = np.array([1, np.nan, 2, np.inf, 3], np.float32), np.array([1, 0, 3, 0, 2], np.float32)
    both(gpu, "l1_loss_backward", np.float32([2] * 5), x, target, "none", tolerance=0)


def test_any_order_gives_the_same_bits(gpu):
    rng = np.random.default_rng(0)
    x, target = raw(rng.standard_normal((900, 5)).astype(np.float32)), raw(rng.integers(0, 5, 900))
    first = [gpu.to_host(each) for each in gpu.cross_entropy(x, target, None, -100, "mean", 0.1)]
    for number in (1, 2):
        with cuda_device.order(number):
            again = [gpu.to_host(each) for each in gpu.cross_entropy(x, target, None, -100, "mean", 0.1)]
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.skipif(cuda_device.REAL, reason="launches are counted by the emulation")
@pytest.mark.parametrize(("rows", "launches"), [(8, 1), (64, 1), (1100, 2)])
def test_launches(gpu, rows, launches):
    x, target = raw(np.zeros((rows, 10), np.float32)), raw(np.zeros(rows, np.int64))
    cuda_device.emulation().reset_counters()
    loss, log_probs, total = gpu.cross_entropy(x, target, None, -100, "mean", 0.0)
    assert cuda_device.emulation().counters().launches == launches
    gpu.cross_entropy_backward(loss, log_probs, total, target, None, -100, "mean", 0.0)
    counters = cuda_device.emulation().counters()
    assert (counters.launches, counters.copies_to_host, counters.copies_to_device) == (launches + 1, 0, 0)


def test_views_without_order_in_memory(gpu):
    rng = np.random.default_rng(0)
    x, target, weight = rng.standard_normal((5, 8)).T, rng.integers(0, 5, (8, 2))[:, 0], rng.uniform(1, 2, 10)[::2]
    loss, log_probs, total = both(gpu, "cross_entropy", x, target, weight, -100, "none", 0.1, tolerance=1e-13)
    grad = np.broadcast_to(np.float64(2), loss.shape)
    both(gpu, "cross_entropy_backward", grad, np.asfortranarray(log_probs), total, target, weight, -100, "none", 0.1,
         tolerance=1e-13)
    both(gpu, "nll_loss", x, target, weight, -100, "mean", tolerance=1e-13)
    both(gpu, "nll_loss_backward", grad, total, target, weight, -100, "none", x.shape, tolerance=1e-13)
    both(gpu, "mse_loss", x, np.broadcast_to(x[:, :1], x.shape), "mean", tolerance=1e-13)
    both(gpu, "l1_loss_backward", np.broadcast_to(np.float64(2), x.shape), x, -x, "none", tolerance=1e-13)


def test_a_weight_of_another_dtype(gpu):
    x, target, weight = np.eye(3, dtype=np.float32), np.array([0, 1, 1]), np.array([1.0, 2.0, 3.0])
    assert_same(gpu.cross_entropy(*on_gpu((x, target, weight, -100, "mean", 0.0))),
                REFERENCE.cross_entropy(x, target, weight.astype(np.float32), -100, "mean", 0.0), 1e-6)
