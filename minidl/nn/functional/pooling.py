"""Pooling over windows of (N, C, H, W) or (C, H, W)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minidl import geometry
from minidl._tensor import Tensor
from minidl.ops import pool

IntOrPair = int | Sequence[int]


def max_pool2d(input: Tensor, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0,
               dilation: IntOrPair = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest value of each window: (N, C, H, W) -> (N, C, OH, OW); with or without N.

    ``stride`` is the kernel size when left out; padding counts as minus infinity; ``ceil_mode`` rounds the output size
    up.  With ``return_indices`` also the places of the winners (int64), counted along the plane of the input.

    Raises ``RuntimeError`` for sizes that do not fit.
    """
    shape = batched_shape("max_pool2d", input)
    fit = geometry.max_pool2d_geometry(shape, kernel_size, stride, padding, dilation, ceil_mode)
    if return_indices:
        output, indices = pool.max_pool2d_with_indices(input.reshape(shape), fit)
        return (output, indices) if input.ndim == 4 else (output.squeeze(0), indices.squeeze(0))
    return over_batch(input, lambda batch: pool.max_pool2d(batch, fit))


def avg_pool2d(input: Tensor, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The average of each window: (N, C, H, W) -> (N, C, OH, OW); with or without N.

    A window's sum is divided by the number of its pixels, those of the padding counted or not, or by
    ``divisor_override``.  Raises ``RuntimeError`` for sizes that do not fit.
    """
    shape = batched_shape("avg_pool2d", input)
    fit = geometry.avg_pool2d_geometry(shape, kernel_size, stride, padding, ceil_mode, divisor_override)
    need_floating("avg_pool2d", input)
    return over_batch(input, lambda batch: pool.avg_pool2d(batch, fit, count_include_pad, divisor_override))


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Averages over windows that cover the plane evenly: (N, C, H, W) -> (N, C, *output_size); with or without N.

    Window i of OH covers the rows from ``floor(i * H / OH)`` to ``ceil((i + 1) * H / OH)``; None keeps a size.
    """
    shape = batched_shape("adaptive_avg_pool2d", input)
    rows, columns = geometry.adaptive_pool_size("adaptive_avg_pool2d", shape, output_size)
    need_floating("adaptive_avg_pool2d", input)
    return over_batch(input, lambda batch: pool.adaptive_avg_pool2d(batch, (rows, columns)))


def batched_shape(op: str, input: Tensor) -> tuple[int, ...]:
    """The input's shape with its batch."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{op}(): argument 'input' must be Tensor, not {type(input).__name__}")
    if input.ndim not in (3, 4):
        raise RuntimeError(f"{op}: expected 3D (C, H, W) or 4D (N, C, H, W) input, but got input of size "
                           f"{list(input.shape)}")
    return tuple(input.shape) if input.ndim == 4 else (1, *input.shape)


def over_batch(input: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function`` on the input as a batch."""
    return function(input) if input.ndim == 4 else function(input.unsqueeze(0)).squeeze(0)


def need_floating(op: str, input: Tensor) -> None:
    """Raise for an input of integers."""
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"{op} is not implemented for {input.dtype}; convert the input first with .float()")
