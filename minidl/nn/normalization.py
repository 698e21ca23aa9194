"""Batch normalisation layers (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167)."""

from __future__ import annotations

from typing import Any

from minidl._tensor import Parameter, Tensor
from minidl.nn import functional as F
from minidl.nn import init
from minidl.nn.errors import InputError, explained
from minidl.nn.module import Module
from minidl.ops.creation import empty, ones, tensor, zeros


class _BatchNorm(Module):
    """Brings each channel to mean 0 and variance 1 over the batch, then scales by ``weight`` and shifts by ``bias``.

    The running mean and variance move towards each batch's by ``momentum`` in training (None: their average over all
    batches so far) and take their place in ``eval`` mode.  Without ``affine`` there are no weights and no
    bias, without ``bias`` only weights; without ``track_running_stats`` the batch's own statistics are always used.
    """

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    dimensions: tuple[int, ...]  # what the input may have

    def __init__(self, num_features: int, eps: float = 1e-05, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *,
                 bias: bool = True) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            values = Parameter(empty(num_features, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, values)
        if track_running_stats:
            self.register_buffer("running_mean", zeros(num_features, device=device, dtype=dtype))
            self.register_buffer("running_var", ones(num_features, device=device, dtype=dtype))
            self.register_buffer("num_batches_tracked", tensor(0, device=device))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weights 1, bias 0, and the running statistics as at first."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in self.dimensions:
            wanted = " or ".join(f"{n}D" for n in self.dimensions)
            raise InputError(f"expected {wanted} input (got {input.ndim}D input)", self)
        tracking = self.training and self.track_running_stats
        momentum = self.momentum
        if tracking and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        batch_statistics = self.training or (self.running_mean is None and self.running_var is None)
        running = tracking or not self.training
        try:
            return F.batch_norm(input, self.running_mean if running else None, self.running_var if running else None,
                                self.weight, self.bias, batch_statistics, momentum or 0.0, self.eps)
        except (RuntimeError, ValueError) as error:
            raise explained(error, self) from None

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W)."""

    dimensions = (4,)
