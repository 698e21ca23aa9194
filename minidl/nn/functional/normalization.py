"""Batch normalisation, and vectors brought to length one."""

from __future__ import annotations

from minidl._tensor import Tensor
from minidl.ops import normalization


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
               eps: float = 1e-05) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel of (N, C, ...).

    In training mean and variance are the batch's, and the running ones are moved towards them by ``momentum`` (the
    variance being the unbiased one); otherwise the running ones are used.  Ioffe and Szegedy 2015
    (https://arxiv.org/abs/1502.03167).

    Raises ``RuntimeError`` for shapes and dtypes that do not fit and for missing running statistics outside training,
    ``ValueError`` for a single value per channel in training and for one running statistic without the other.
    """
    if not training:
        for name, tensor in (("running_mean", running_mean), ("running_var", running_var)):
            if tensor is None:
                raise RuntimeError(f"batch_norm: {name} must be defined in evaluation mode; give it, or use the "
                                   "batch's own statistics with training=True")
    elif (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var must either both be None or neither be None")
    for name, tensor in (("weight", weight), ("bias", bias), ("running_mean", running_mean)):
        if tensor is not None and tensor.dtype is not input.dtype:
            raise RuntimeError(f"batch_norm: input has dtype {input.dtype}, {name} has dtype {tensor.dtype}; convert "
                               "one with .to(...)")
    return normalization.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """``input`` over its ``p``-norm along ``dim``, or over ``eps`` where the norm is smaller."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)
