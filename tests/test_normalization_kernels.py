"""Batch normalization and dropout on raw arrays: PyTorch, the reference and the compiled kernels against each other."""

import inspect

import numpy as np
import pytest

from minidl._devices.cpu.normalization import NormalizationCPU
from minidl._devices.reference.normalization import NormalizationReference
from minidl._ext import threads

DEVICES = [NormalizationReference(), NormalizationCPU()]
# Channels fewer and more than a tile of 16, planes shorter and longer than 8 lanes; two are large enough for threads.
SHAPES = [(4, 3), (64, 120), (2, 17), (2, 3, 5), (3, 2, 1), (2, 6, 4, 5), (8, 16, 10, 10), (1, 3, 7, 9),
          (2, 3, 2, 3, 4), (16, 8, 33, 33), (900, 70)]
# PyTorch multiplies x by one number and adds another, which costs up to max|x| / std units in float32.
TOLERANCE = {np.float32: {"rtol": 2e-5, "atol": 5e-6}, np.float64: {"rtol": 1e-11, "atol": 1e-12}}

each_device = pytest.mark.parametrize("device", DEVICES, ids=["reference", "cpu"])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_mode = pytest.mark.parametrize("training", [True, False])


def make_case(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    C = shape[1]
    input = (rng.normal(size=shape) * 2 + 1).astype(dtype)
    weight, bias, running_mean = rng.normal(size=(3, C)).astype(dtype)
    running_var = (rng.random(C) + 0.5).astype(dtype)
    return input, weight, bias, running_mean, running_var, rng


def check_result(array, shape, dtype):
    assert type(array) is np.ndarray and array.shape == shape and array.dtype == dtype
    assert array.flags.c_contiguous and array.flags.writeable


@each_device
@each_dtype
@each_mode
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_like_torch(torch, device, dtype, training, affine, shape):
    input, weight, bias, running_mean, running_var, rng = make_case(shape, dtype)
    if not affine:
        weight = bias = None
    tensors = [None if each is None else torch.tensor(each, requires_grad=True) for each in (input, weight, bias)]
    statistics = [torch.tensor(running_mean), torch.tensor(running_var)]
    expected = torch.nn.functional.batch_norm(tensors[0], *statistics, *tensors[1:], training, 0.3, 1e-3)
    grad_output = rng.normal(size=shape).astype(dtype)
    expected.backward(torch.tensor(grad_output))

    output, mean, rstd = device.batch_norm(input, weight, bias, running_mean, running_var, training, 0.3, 1e-3)
    grads = device.batch_norm_backward(grad_output, input, weight, mean, rstd, training)
    check_result(output, shape, dtype)
    for each in (mean, rstd, *grads[1:]):
        check_result(each, (shape[1],), dtype)
    check_result(grads[0], shape, dtype)
    np.testing.assert_allclose(output, expected.detach().numpy(), **TOLERANCE[dtype])
    np.testing.assert_allclose(running_mean, statistics[0].numpy(), **TOLERANCE[dtype])
    np.testing.assert_allclose(running_var, statistics[1].numpy(), **TOLERANCE[dtype])
    np.testing.assert_allclose(grads[0], tensors[0].grad.numpy(), **TOLERANCE[dtype])
    if affine:
        # Sums over up to 17,424 numbers of size one, in float32 in PyTorch.
        atol = {np.float32: 5e-4, np.float64: 1e-11}[dtype]
        np.testing.assert_allclose(grads[1], tensors[1].grad.numpy(), rtol=1e-4, atol=atol)
        np.testing.assert_allclose(grads[2], tensors[2].grad.numpy(), rtol=1e-4, atol=atol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_like_reference(dtype, training, shape):
    """Tighter than with PyTorch: both sum in float64, so that in float32 only the last steps are rounded."""
    input, weight, bias, *statistics, rng = make_case(shape, dtype, seed=1)
    ours, spec = [each.copy() for each in statistics], [each.copy() for each in statistics]
    result = NormalizationCPU().batch_norm(input, weight, bias, *ours, training, 0.1, 1e-5)
    expected = NormalizationReference().batch_norm(input, weight, bias, *spec, training, 0.1, 1e-5)
    grad_output = rng.normal(size=shape).astype(dtype)
    result += NormalizationCPU().batch_norm_backward(grad_output, input, weight, *result[1:], training)
    expected += NormalizationReference().batch_norm_backward(grad_output, input, weight, *expected[1:], training)
    resolution = {np.float32: 8 * np.finfo(np.float32).eps, np.float64: 1e-13}[dtype]
    for mine, theirs in zip((*result, *ours), (*expected, *spec), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=resolution, atol=resolution * max(1, np.abs(theirs).max()))


@each_device
@pytest.mark.parametrize(("dtype", "offset"), [(np.float32, 1e4), (np.float64, 1e8)])
@pytest.mark.parametrize("shape", [(200, 5), (20, 3, 40, 40)])
def test_variance_far_from_zero(device, dtype, offset, shape):
    """A mean of squares less the square of the mean loses these variances: to float32, and to float64."""
    rng = np.random.default_rng(2)
    input = (rng.normal(size=shape) + offset).astype(dtype)
    running_mean, running_var = np.zeros(shape[1], dtype), np.zeros(shape[1], dtype)
    _, mean, rstd = device.batch_norm(input, None, None, running_mean, running_var, True, 1.0, 0.0)
    axes = (0, *range(2, input.ndim))
    exact = input.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=axes), rtol=1e-7)
    np.testing.assert_allclose(rstd, 1 / exact.std(axis=axes), rtol=1e-6)
    np.testing.assert_allclose(running_var, exact.var(axis=axes, ddof=1), rtol=1e-6)


@each_device
@pytest.mark.parametrize("shape", [(2000, 3), (20, 3, 10, 10)])
def test_variance_with_an_outlier_in_front(device, shape):
    """The first number of a channel is what the compiled moments are taken around."""
    input = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    input[0].flat[:] = 1e6
    _, mean, rstd = device.batch_norm(input, None, None, None, None, True, 0.1, 0.0)
    axes = (0, *range(2, input.ndim))
    exact = input.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=axes), rtol=1e-6)
    np.testing.assert_allclose(rstd, 1 / exact.std(axis=axes), rtol=1e-6)


@each_device
@each_mode
def test_weight_or_bias_alone(device, training):
    input, weight, bias, *statistics, _ = make_case((4, 3, 5), np.float64)
    plain = device.batch_norm(input, None, None, *statistics, training, 0.0, 1e-5)[0]
    weighted = device.batch_norm(input, weight, None, *statistics, training, 0.0, 1e-5)[0]
    shifted = device.batch_norm(input, None, bias, *statistics, training, 0.0, 1e-5)[0]
    np.testing.assert_allclose(weighted, plain * weight[:, None], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(shifted, plain + bias[:, None], rtol=1e-12, atol=1e-14)


@each_device
def test_without_running_statistics(device):
    input, weight, bias, running_mean, running_var, _ = make_case((4, 3, 5), np.float32)
    with_both = device.batch_norm(input, weight, bias, running_mean, running_var, True, 0.1, 1e-5)[0]
    alone = device.batch_norm(input, weight, bias, None, None, True, 0.1, 1e-5)[0]
    np.testing.assert_array_equal(with_both, alone)


@each_device
@each_dtype
@each_mode
def test_any_memory_layout(device, dtype, training):
    rng = np.random.default_rng(5)
    input = rng.normal(size=(5, 4, 3, 6)).astype(dtype).transpose(3, 1, 0, 2)
    grad_output = rng.normal(size=(6, 4, 5, 6)).astype(dtype)[..., ::2]
    weight, bias, mean, var = (rng.random((4, 4)) + 0.5).astype(dtype).T
    contiguous = [each.copy() for each in (mean, var)]
    result = device.batch_norm(input, weight, bias, mean, var, training, 0.1, 1e-5)
    expected = device.batch_norm(input.copy("C"), weight.copy(), bias.copy(), *contiguous, training, 0.1, 1e-5)
    result += device.batch_norm_backward(grad_output, input, weight, *result[1:], training)
    expected += device.batch_norm_backward(grad_output.copy(), input.copy("C"), weight, *expected[1:], training)
    # Non-contiguous running statistics go through the reference: equal up to rounding, and written where they lie.
    resolution = 10 * np.finfo(dtype).eps
    for ours, theirs in zip((*result, mean, var), (*expected, *contiguous), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=resolution, atol=resolution)
    for each in result:
        check_result(each, each.shape, dtype)


@each_device
@each_mode
def test_empty_batch(device, training):
    statistics = [np.ones(3, np.float32), np.ones(3, np.float32)]
    input = np.zeros((0, 3, 4, 4), np.float32)
    output, mean, rstd = device.batch_norm(input, None, None, *statistics, training, 0.1, 1e-5)
    grads = device.batch_norm_backward(output, input, None, mean, rstd, training)
    assert output.shape == grads[0].shape == input.shape
    assert (grads[1] == 0).all() and (grads[2] == 0).all() and (statistics[0] == 1).all() and (statistics[1] == 1).all()


@each_device
@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel(device, shape):
    input = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training, got input size"):
        device.batch_norm(input, None, None, None, None, True, 0.1, 1e-5)
    statistics = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert device.batch_norm(input, None, None, *statistics, False, 0.1, 1e-5)[0].shape == shape


@each_device
def test_wrong_arguments(device):
    input, four, three = np.zeros((2, 3, 4), np.float32), np.ones(4, np.float32), np.ones(3, np.float32)
    with pytest.raises(RuntimeError, match=r"running_mean should contain 3 elements.*not 4"):
        device.batch_norm(input, None, None, four, three, True, 0.1, 1e-5)
    with pytest.raises(RuntimeError, match=r"weight should contain 3 elements.*not 4"):
        device.batch_norm(input, four, None, three, three, False, 0.1, 1e-5)
    with pytest.raises(RuntimeError, match="running_var must be defined in evaluation mode"):
        device.batch_norm(input, None, None, three, None, False, 0.1, 1e-5)
    with pytest.raises(ValueError, match="2 to 5 dimensions"):
        device.batch_norm(four, None, None, None, None, True, 0.1, 1e-5)


@pytest.mark.parametrize("shape", [(16, 8, 33, 33), (900, 70)])
def test_threads_do_not_change_the_bits(shape):
    input, weight, bias, *_, rng = make_case(shape, np.float32)
    grad_output = rng.normal(size=shape).astype(np.float32)
    before = threads.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            result = NormalizationCPU().batch_norm(input, weight, bias, None, None, True, 0.1, 1e-5)
            result += NormalizationCPU().batch_norm_backward(grad_output, input, weight, *result[1:], True)
            results.append(result)
    finally:
        threads.set_num_threads(before)
    for other in results[1:]:
        for ours, first in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(ours, first)


@each_device
@each_dtype
@pytest.mark.parametrize("mask_dtype", [np.bool_, np.uint8])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0, 2), (200, 1000)])
def test_dropout_apply(device, dtype, mask_dtype, shape):
    rng = np.random.default_rng(6)
    input = np.asarray(rng.normal(size=shape), dtype)
    mask = np.asarray(rng.random(shape) < 0.7, mask_dtype)
    output = device.dropout_apply(input, mask, 1 / 0.7)
    check_result(output, shape, dtype)
    np.testing.assert_allclose(output, np.where(mask, input / dtype(0.7), 0), rtol=4 * np.finfo(dtype).eps)
    if input.ndim == 2:
        turned = device.dropout_apply(input.T, mask.T, 1 / 0.7)
        check_result(turned, shape[::-1], dtype)
        np.testing.assert_array_equal(turned, output.T)


@each_device
def test_dropout_keeps_nan_visible(device):
    """PyTorch multiplies by zero: a NaN or inf that is dropped is NaN."""
    output = device.dropout_apply(np.array([np.nan, np.inf, 1], np.float32), np.zeros(3, bool), 2.0)
    np.testing.assert_array_equal(output, [np.nan, np.nan, 0])


def test_same_signatures():
    for name, method in inspect.getmembers(NormalizationReference, inspect.isfunction):
        assert inspect.signature(method) == inspect.signature(getattr(NormalizationCPU, name)), name
        assert name in vars(NormalizationCPU), f"{name} has no compiled version"
