"""Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167)."""

from __future__ import annotations

from minidl._ext.core import Op, Tensor, register
from minidl.ops.rules import recorded


def _batch_norm_backward(F, node, grad, input, weight, mean, rstd):
    training, _, eps = node.args[5:]
    if recorded(F) and training:
        # The kept statistics are bare numbers; a second derivative needs them as functions of the input.
        dims = (0, *range(2, input.ndim))
        mean = F.mean(input, dims, False)
        rstd = F.rsqrt(F.add(F.var(input, dims, 0, False), eps))
    return F.batch_norm_backward(grad, input, weight, mean, rstd, training)


def _recorded_batch_norm_backward(grad: Tensor, input: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor,
                                  training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same from plain ops:  x^ = (x - mean) * rstd,  y = weight * x^ + bias."""
    dims = (0, *range(2, input.ndim))
    per_channel = (1, -1, *(1,) * (input.ndim - 2))
    rstd = rstd.reshape(per_channel)
    normalized = (input - mean.reshape(per_channel)) * rstd
    grad_weight = (grad * normalized).sum(dims)
    grad_bias = grad.sum(dims)
    scaled = grad if weight is None else grad * weight.reshape(per_channel)
    if training:
        scaled = scaled - scaled.mean(dims, True) - normalized * (scaled * normalized).mean(dims, True)
    return scaled * rstd, grad_weight, grad_bias


_batch_norm = Op("batch_norm", "NativeBatchNormBackward0", backward=_batch_norm_backward,
                 saves={0: (0, 1, 2), 1: (0, 1, 2)})
register("batch_norm_backward", _recorded_batch_norm_backward)


def batch_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
               running_var: Tensor | None, training: bool, momentum: float, eps: float) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` per channel; updates the running statistics in training."""
    output = _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)
    if training:
        for statistic in (running_mean, running_var):
            if statistic is not None:
                statistic._bump_version()
    return output
