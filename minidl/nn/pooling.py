"""Pooling layers: (N, C, H, W) -> (N, C, OH, OW); with or without N.  For the arithmetic see ``nn.functional``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl import geometry
from minidl._tensor import Tensor
from minidl.nn import functional as F
from minidl.nn.errors import explained
from minidl.nn.functional.pooling import IntOrPair
from minidl.nn.module import Module
from minidl.nn.sliding import SlidingWindow
from minidl.ops import pool
from minidl.ops.pool import max_pool2d


class MaxPool2d(SlidingWindow):
    """The largest value of each window; with ``return_indices`` also where it was, counted along the plane."""

    def __init__(self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0,
                 dilation: IntOrPair = 1, return_indices: bool = False, ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        try:
            fit = self._geometries.get(input._shape)
        except AttributeError:  # no tensor: said properly below
            fit = None
        return max_pool2d(input, fit) if fit is not None else self._forward_checked(input)

    def _forward_checked(self, input: Tensor) -> Any:
        options = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        try:
            output = F.max_pool2d(input, *options, self.return_indices)
        except RuntimeError as error:
            raise explained(error, self) from None
        if input.ndim == 4 and not self.return_indices:
            self._keep(tuple(input.shape), geometry.max_pool2d_geometry(tuple(input.shape), *options))
        return output

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class AvgPool2d(SlidingWindow):
    """The average of each window, over its pixels (those of the padding counted or not) or ``divisor_override``."""

    def __init__(self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0,
                 ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        try:
            fit = self._geometries.get(input._shape)
            if fit is not None:
                return pool.avg_pool2d(input, fit, self.count_include_pad, self.divisor_override)
        except (AttributeError, TypeError):  # no tensor, or one of integers: said properly below
            pass
        return self._forward_checked(input)

    def _forward_checked(self, input: Tensor) -> Tensor:
        options = self.kernel_size, self.stride, self.padding, self.ceil_mode
        try:
            output = F.avg_pool2d(input, *options, self.count_include_pad, self.divisor_override)
        except RuntimeError as error:
            raise explained(error, self) from None
        if input.ndim == 4:
            self._keep(tuple(input.shape), geometry.avg_pool2d_geometry(tuple(input.shape), *options))
        return output

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Averages over windows that cover the plane evenly, to a given output size; None keeps a size."""

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        try:
            return F.adaptive_avg_pool2d(input, self.output_size)
        except RuntimeError as error:
            raise explained(error, self) from None

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
