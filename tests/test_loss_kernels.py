"""Losses on raw arrays: PyTorch, the reference and the compiled kernels against each other."""

import inspect

import numpy as np
import pytest

from minidl._devices.cpu.loss import LossCPU
from minidl._devices.reference.loss import LossReference

DEVICES = [LossReference(), LossCPU()]
# (N, C, d1, ...) or (C,); the last ones are large enough for threads.
SHAPES = [(1, 10), (64, 10), (5, 3, 4), (2, 7, 9, 11), (2, 3, 5, 4, 17), (6,), (1, 1), (3, 130), (0, 4), (2, 4, 0),
          (3000, 10), (2, 5, 90, 70)]
REDUCTIONS = ["none", "mean", "sum"]
# Sums here are in float64, in PyTorch in float32 over up to 12,600 terms.
TOLERANCE = {np.float32: {"rtol": 2e-5, "atol": 2e-6}, np.float64: {"rtol": 1e-12, "atol": 1e-13}}

each_device = pytest.mark.parametrize("device", DEVICES, ids=["reference", "cpu"])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def make_case(shape, dtype, ignored=None, seed=0):
    rng = np.random.default_rng(seed)
    axis = 0 if len(shape) == 1 else 1
    input = np.asarray(rng.normal(size=shape) * 2, dtype)
    target = np.asarray(rng.integers(0, shape[axis], size=shape[:axis] + shape[axis + 1:]))
    if ignored is not None and target.ndim:
        target[rng.random(target.shape) < 0.3] = ignored
    return input, target, rng.random(shape[axis]).astype(dtype), rng


def check_result(array, shape, dtype):
    assert type(array) is np.ndarray and array.shape == shape and array.dtype == dtype
    assert array.flags.c_contiguous and array.flags.writeable


def like(theirs):
    return tuple(theirs.shape), theirs.detach().numpy()


@each_device
@each_dtype
@each_reduction
@pytest.mark.parametrize(("weighted", "smoothing", "ignore_index"),
                         [(False, 0.0, -100), (True, 0.0, 0), (False, 0.1, 0), (True, 0.1, -100), (True, 1.0, 0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_like_torch(torch, device, dtype, reduction, weighted, smoothing, ignore_index, shape):
    input, target, weight, rng = make_case(shape, dtype, ignored=ignore_index)
    weight = weight if weighted else None
    theirs = torch.tensor(input, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(target), None if weight is None else torch.tensor(weight), ignore_index=ignore_index,
        reduction=reduction, label_smoothing=smoothing)
    grad_output = np.asarray(rng.normal(size=expected.shape), dtype)
    expected.backward(torch.tensor(grad_output))

    loss, log_probs, total_weight = device.cross_entropy(input, target, weight, ignore_index, reduction, smoothing)
    grad_input = device.cross_entropy_backward(grad_output, log_probs, total_weight, target, weight, ignore_index,
                                               reduction, smoothing)
    expected_shape, expected_loss = like(expected)
    check_result(loss, expected_shape, dtype)
    check_result(log_probs, shape, dtype)
    check_result(total_weight, (), dtype)
    check_result(grad_input, shape, dtype)
    kept = target[target != ignore_index]
    np.testing.assert_allclose(total_weight, kept.size if weight is None else weight[kept].sum(), rtol=1e-5)
    np.testing.assert_allclose(loss, expected_loss, **TOLERANCE[dtype])
    np.testing.assert_allclose(grad_input, theirs.grad.numpy(), **TOLERANCE[dtype])


@each_device
@each_dtype
@each_reduction
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_nll_loss_like_torch(torch, device, dtype, reduction, weighted, shape):
    input, target, weight, rng = make_case(shape, dtype, ignored=-7)
    weight = weight if weighted else None
    theirs = torch.tensor(input, requires_grad=True)
    expected = torch.nn.functional.nll_loss(theirs, torch.tensor(target),
                                            None if weight is None else torch.tensor(weight), ignore_index=-7,
                                            reduction=reduction)
    grad_output = np.asarray(rng.normal(size=expected.shape), dtype)
    expected.backward(torch.tensor(grad_output))

    loss, total_weight = device.nll_loss(input, target, weight, -7, reduction)
    grad_input = device.nll_loss_backward(grad_output, total_weight, target, weight, -7, reduction, shape)
    expected_shape, expected_loss = like(expected)
    check_result(loss, expected_shape, dtype)
    check_result(total_weight, (), dtype)
    check_result(grad_input, shape, dtype)
    np.testing.assert_allclose(loss, expected_loss, **TOLERANCE[dtype])
    np.testing.assert_allclose(grad_input, theirs.grad.numpy(), **TOLERANCE[dtype])


@each_device
@each_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_all_targets_ignored(device, reduction, smoothing):
    """The mean over nothing is NaN, yet its gradient is zero."""
    input = np.ones((3, 4), np.float32)
    target = np.full(3, -100)
    loss, log_probs, total_weight = device.cross_entropy(input, target, None, -100, reduction, smoothing)
    assert np.isnan(loss).all() if reduction == "mean" else (loss == 0).all()
    assert total_weight == 0
    grad_input = device.cross_entropy_backward(np.ones_like(loss), log_probs, total_weight, target, None, -100,
                                               reduction, smoothing)
    assert (grad_input == 0).all()


@each_device
@each_dtype
@each_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("planes", [False, True])
def test_extreme_logits_like_torch(torch, device, dtype, reduction, smoothing, weights, planes):
    inf = np.inf
    input = np.array([[1e4, -1e4, 0], [-inf, 0, 1], [0, -inf, 2], [1e4, 1e4, -inf], [-90, 0, -100]], dtype)
    target = np.array([1, 1, 0, 0, 2])
    if planes:
        input, target = np.ascontiguousarray(input.T)[None], target[None]
    weight = None if weights is None else np.array(weights, dtype)
    theirs = torch.tensor(input, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(target), None if weight is None else torch.tensor(weight), reduction=reduction,
        label_smoothing=smoothing)
    expected.backward(torch.ones_like(expected))
    loss, log_probs, total_weight = device.cross_entropy(input, target, weight, -100, reduction, smoothing)
    grad_input = device.cross_entropy_backward(np.ones_like(loss), log_probs, total_weight, target, weight, -100,
                                               reduction, smoothing)
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(grad_input, theirs.grad.numpy(), rtol=1e-5, atol=1e-6)


@each_device
@each_dtype
@each_reduction
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 5), (0,), (2, 3, 4), (300, 1000)])
def test_errors_like_torch(torch, device, dtype, reduction, name, shape):
    rng = np.random.default_rng(0)
    input, target = np.asarray(rng.normal(size=(2, *shape)), dtype)
    input, target = np.asarray(input), np.asarray(target)
    if input.size > 1:
        input.flat[0] = target.flat[0]     # the absolute value has no derivative here: zero
    theirs = torch.tensor(input, requires_grad=True)
    expected = getattr(torch.nn.functional, name)(theirs, torch.tensor(target), reduction=reduction)
    grad_output = np.asarray(rng.normal(size=expected.shape), dtype)
    expected.backward(torch.tensor(grad_output))
    loss = getattr(device, name)(input, target, reduction)
    grad_input = getattr(device, f"{name}_backward")(grad_output, input, target, reduction)
    expected_shape, expected_loss = like(expected)
    check_result(loss, expected_shape, dtype)
    check_result(grad_input, shape, dtype)
    np.testing.assert_allclose(loss, expected_loss, **TOLERANCE[dtype])
    np.testing.assert_allclose(grad_input, theirs.grad.numpy(), **TOLERANCE[dtype])


@each_device
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_any_memory_layout(device, reduction):
    rng = np.random.default_rng(4)
    input = rng.normal(size=(5, 6, 4)).astype(np.float32).transpose(2, 1, 0)
    target = rng.integers(0, 6, size=(5, 8)).T[::2]
    weight = rng.random(12).astype(np.float32)[::2]
    dense = [np.ascontiguousarray(each) for each in (input, target, weight)]
    loss, log_probs, total = device.cross_entropy(input, target, weight, -100, reduction, 0.1)
    same = device.cross_entropy(*dense, -100, reduction, 0.1)
    for ours, expected in zip((loss, log_probs, total), same, strict=True):
        np.testing.assert_array_equal(ours, expected)
    grad = np.asarray(rng.normal(size=loss.shape[::-1]), np.float32).T
    args = (log_probs, total)
    np.testing.assert_array_equal(
        device.cross_entropy_backward(grad, *args, target, weight, -100, reduction, 0.1),
        device.cross_entropy_backward(grad.copy(order="C"), *args, *dense[1:], -100, reduction, 0.1))
    a, b = input, input[::-1]
    for name in ("mse_loss", "l1_loss"):
        loss = getattr(device, name)(a, b, reduction)
        check_result(loss, loss.shape, np.float32)
        np.testing.assert_array_equal(loss, getattr(device, name)(a.copy("C"), b.copy("C"), reduction))
        grad = np.asarray(rng.normal(size=loss.shape[::-1]), np.float32).T
        backward = getattr(device, f"{name}_backward")(grad, a, b, reduction)
        check_result(backward, a.shape, np.float32)
        np.testing.assert_array_equal(
            backward, getattr(device, f"{name}_backward")(grad.copy("C"), a.copy("C"), b.copy("C"), reduction))


@each_device
@pytest.mark.parametrize("wrong", [12, 3, -1, -100_000])
def test_target_out_of_range(device, wrong):
    input, target = np.zeros((4, 3), np.float32), np.array([0, 1, wrong, -100])
    with pytest.raises(IndexError, match=rf"^Target {wrong} is out of bounds\.") as error:
        device.cross_entropy(input, target, None, -100, "mean", 0.0)
    assert "0 to 2" in str(error.value) and "ignore_index=-100" in str(error.value)
    with pytest.raises(IndexError, match=rf"^Target {wrong} is out of bounds\."):
        device.nll_loss(input, target, None, -100, "mean")
    # What is out of range may be what is to be ignored.
    assert device.nll_loss(input, np.array([0, 1, wrong, 2]), None, wrong, "sum")[1] == 3


@each_device
def test_wrong_arguments(device):
    input, target = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
    for arguments, error, text in [
        ((input, target[:3], None, -100, "mean"), ValueError, r"target must be \(4,\), got \(3,\)"),
        ((input, np.zeros((4, 3), np.int64), None, -100, "mean"), RuntimeError, r"got \(4, 3\)"),
        ((input, target, np.ones(4, np.float32), -100, "mean"), RuntimeError, "all 3 classes or no classes"),
        ((input, target.astype(np.int32), None, -100, "mean"), RuntimeError, "int32"),
        ((input, target, None, -100, "average"), ValueError, "average is not a valid value for reduction"),
        ((np.float32(1).reshape(()), target, None, -100, "mean"), ValueError, "0-d"),
    ]:
        with pytest.raises(error, match=text):
            device.nll_loss(*arguments)
        with pytest.raises(error, match=text):
            device.cross_entropy(*arguments, 0.0)


@each_device
def test_byte_targets(device):
    input = np.random.default_rng(5).normal(size=(6, 4)).astype(np.float32)
    target = np.array([0, 3, 1, 2, 2, 0])
    np.testing.assert_allclose(device.cross_entropy(input, target.astype(np.uint8), None, -100, "mean", 0.1)[0],
                               device.cross_entropy(input, target, None, -100, "mean", 0.1)[0], rtol=1e-6)


def test_same_bits_every_time():
    input, target, weight, _ = make_case((2, 5, 90, 70), np.float32)
    results = [LossCPU().cross_entropy(input, target, weight, -100, "mean", 0.1) for _ in range(3)]
    for other in results[1:]:
        for ours, first in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(ours, first)


def test_same_signatures():
    for name, method in inspect.getmembers(LossReference, inspect.isfunction):
        assert inspect.signature(method) == inspect.signature(getattr(LossCPU, name)), name
        assert name in vars(LossCPU), f"{name} has no compiled version"
