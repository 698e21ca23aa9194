"""Batch normalization and dropout in readable NumPy: the specification that faster devices are compared with."""

import math
from typing import Any

import numpy as np


class NormalizationReference:
    """Batch normalization over (N, C, ...) with 2 to 5 dimensions: every channel c is normalized on its own.

    ``weight``, ``bias``, ``running_mean`` and ``running_var`` are (C,) or None.  Sums are made in float64.
    """

    @np.errstate(all="ignore")
    def batch_norm(self, input: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None,
                   running_mean: np.ndarray | None, running_var: np.ndarray | None, training: bool, momentum: float,
                   eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(input - mean) * rstd * weight + bias, and the (C,) ``mean`` and ``rstd = 1 / sqrt(var + eps)`` used.

        In training these are the batch's own (biased variance), and the running statistics are moved towards the
        batch's (unbiased variance) by ``momentum``, in place; in evaluation they come from the running statistics.
        (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167)
        """
        check_batch_norm(input, weight, bias, running_mean, running_var, training)
        C, axes, count = input.shape[1], _all_but_channels(input.ndim), _values_per_channel(input.shape)
        if training and count:
            mean = input.mean(axis=axes, dtype=np.float64)
            var = ((input - _per_channel(mean, input.ndim))**2).mean(axis=axes)
            if running_mean is not None:
                running_mean[...] = momentum * mean + (1 - momentum) * running_mean
            if running_var is not None:
                running_var[...] = momentum * (var * count / (count - 1)) + (1 - momentum) * running_var
        elif training:
            mean, var = np.zeros(C), np.zeros(C)
        else:
            mean, var = np.asarray(running_mean, np.float64), np.asarray(running_var, np.float64)
        rstd = 1 / np.sqrt(var + eps)
        scale = rstd if weight is None else rstd * weight
        output = (input - _per_channel(mean, input.ndim)) * _per_channel(scale, input.ndim)
        if bias is not None:
            output += _per_channel(bias, input.ndim)
        return output.astype(input.dtype, order="C"), mean.astype(input.dtype), rstd.astype(input.dtype)

    @np.errstate(all="ignore")
    def batch_norm_backward(self, grad_output: np.ndarray, input: np.ndarray, weight: np.ndarray | None,
                            mean: np.ndarray, rstd: np.ndarray,
                            training: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(grad_input, grad_weight, grad_bias)``, the last two (C,) whether or not there is a weight.

        In training the mean and the variance depend on the input as well, which takes from ``grad_output`` its mean
        and its component along the normalized input.
        """
        ndim, axes, count = input.ndim, _all_but_channels(input.ndim), _values_per_channel(input.shape)
        rstd = rstd.astype(np.float64)
        normalized = (input - _per_channel(mean, ndim).astype(np.float64)) * _per_channel(rstd, ndim)
        grad_bias = grad_output.sum(axis=axes, dtype=np.float64)
        grad_weight = (grad_output * normalized).sum(axis=axes)
        grad_input = grad_output.astype(np.float64)
        if training and count:
            grad_input -= _per_channel(grad_bias / count, ndim) + normalized * _per_channel(grad_weight / count, ndim)
        grad_input *= _per_channel(rstd if weight is None else rstd * weight, ndim)
        return (grad_input.astype(input.dtype, order="C"), grad_weight.astype(input.dtype),
                grad_bias.astype(input.dtype))

    @np.errstate(all="ignore")
    def dropout_apply(self, input: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
        """input * mask * scale; ``mask`` is bool or uint8 (0 or 1) of the same shape"""
        return np.asarray(input * (mask * input.dtype.type(scale)), order="C")


def check_batch_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool) -> None:
    """Whether the arguments of batch_norm, arrays of any device, fit together; raises what PyTorch raises."""
    shape = input.shape
    if not 2 <= len(shape) <= 5:
        raise ValueError(f"batch_norm: expected an input of 2 to 5 dimensions (N, C, ...), got {shape}")
    named = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, array in named.items():
        if array is not None and array.shape != (shape[1],):
            raise RuntimeError(f"batch_norm: {name} should contain {shape[1]} elements, one for each channel of the "
                               f"input {shape}, not {math.prod(array.shape)}; set num_features={shape[1]}")
        if array is None and not training and name.startswith("running"):
            raise RuntimeError(f"batch_norm: {name} must be defined in evaluation mode; pass it, or training=True")
    if training and _values_per_channel(shape) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {shape}; "
                         "the variance of one value is zero: use a larger batch, or eval() for a single example")


def _values_per_channel(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:1] + shape[2:])


def _all_but_channels(ndim: int) -> tuple[int, ...]:
    return 0, *range(2, ndim)


def _per_channel(values: np.ndarray, ndim: int) -> np.ndarray:
    """(C,) as (C, 1, ...), to be combined with an array of ``ndim`` dimensions."""
    return values.reshape(-1, *[1] * (ndim - 2))
