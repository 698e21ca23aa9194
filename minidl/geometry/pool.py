"""Geometries of pooling, adaptive pooling too."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

from minidl.geometry.checks import NUMBERS, IntOrPair, axes_of, checked_index, checked_shape, kept, per_side
from minidl.geometry.formulas import kernel_span, pool_formula, pool_size
from minidl.geometry.layouts import Pool2dGeometry, Sliding, Window


def max_pool2d_geometry(input_shape: Sequence[int], kernel_size: IntOrPair, stride: IntOrPair | None = None,
                        padding: IntOrPair = 0, dilation: IntOrPair = 1, ceil_mode: bool = False) -> Pool2dGeometry:
    """The geometry of ``max_pool2d`` over an input ``(N, C, H, W)``; ``stride`` is the kernel size when omitted.

    For ``ceil_mode`` see ``pool_size``.  Raises ``RuntimeError`` for sizes that do not fit, ``TypeError`` for what is
    not an integer.
    """
    return kept(_pool2d_geometry, "max_pool2d", input_shape, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d_geometry(input_shape: Sequence[int], kernel_size: IntOrPair, stride: IntOrPair | None = None,
                        padding: IntOrPair = 0, ceil_mode: bool = False,
                        divisor_override: int | None = None) -> Pool2dGeometry:
    """The geometry of ``avg_pool2d``: as ``max_pool2d_geometry``, without dilation.

    ``divisor_override`` is only checked here (it must not be zero); the kernels take it beside the geometry.
    """
    if divisor_override is not None and operator.index(divisor_override) == 0:
        raise RuntimeError("avg_pool2d: divisor_override must not be zero; None divides by the size of the window")
    return kept(_pool2d_geometry, "avg_pool2d", input_shape, kernel_size, stride, padding, 1, ceil_mode)


def adaptive_pool_size(op: str, input_shape: Sequence[int],
                       output_size: int | Sequence[int | None] | None) -> tuple[int, ...]:
    """``(OH, OW)`` of an adaptive pooling over ``(N, C, H, W)``; ``None`` keeps the input's size on that side.

    ``op`` ends with the number of sides.  Raises ``RuntimeError`` for a negative size, an empty input plane or another
    number of sizes.
    """
    input_axes, _, sides = axes_of(op)
    shape = checked_shape(op, "input", input_axes, input_shape)
    if 0 in shape[2:]:
        raise RuntimeError(f"{op}: input {shape} has no pixels to look at; each side must be at least 1")
    sizes = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size,) * len(sides)
    if len(sizes) != len(sides):
        raise RuntimeError(f"{op}: output_size must be {NUMBERS[len(sides)]}, got {output_size!r}")
    found = tuple(side if size is None else checked_index(op, "output_size", size)
                  for size, side in zip(sizes, shape[2:], strict=True))
    if min(found) < 0:
        raise RuntimeError(f"{op}: output_size must not be negative, got {output_size!r}")
    return found


def pool_windows(op: str, input_shape: Sequence[int], kernel_size: Any, stride: Any = None, padding: Any = 0,
                 dilation: Any = 1, ceil_mode: bool = False) -> Sliding:
    """The same of a pooling: ``op`` ends with the number of its sides, ``max_pool1d``."""
    return kept(_pool_windows, op, input_shape, kernel_size, stride, padding, dilation, ceil_mode)


@functools.lru_cache(maxsize=1024, typed=True)
def _pool2d_geometry(*arguments: Any) -> Pool2dGeometry:
    N, C, _, _, (rows, columns) = _pool_windows(*arguments)
    return Pool2dGeometry(
        N=N, C=C, H=rows.size, W=columns.size, KH=rows.kernel, KW=columns.kernel, OH=rows.output, OW=columns.output,
        stride_h=rows.stride, stride_w=columns.stride, pad_h=rows.before, pad_w=columns.before,
        dilation_h=rows.dilation, dilation_w=columns.dilation)


def _pool_windows(op: str, input_shape: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
                  ceil_mode: bool) -> Sliding:
    input_axes, _, sides = axes_of(op)
    N, C, *sizes = input_shape = checked_shape(op, "input", input_axes, input_shape)
    if min(C, *sizes) < 1:
        raise RuntimeError(f"{op}: input {input_shape} is empty; only N may be 0")
    kernels = per_side(op, "kernel_size", kernel_size, len(sides), least=1)
    strides = kernels if stride is None or stride == () else per_side(op, "stride", stride, len(sides), least=1)
    pads = per_side(op, "padding", padding, len(sides), least=0)
    dilations = per_side(op, "dilation", dilation, len(sides), least=1)
    halves = tuple(kernel // 2 for kernel in kernels)
    if any(pad > half for pad, half in zip(pads, halves, strict=True)):
        raise RuntimeError(f"{op}: padding {pads} is more than half of the kernel {kernels}: a window could lie in the "
                           f"padding alone; use at most {halves}")
    windows = []
    for i, side in enumerate(sides):
        size, pad, span = sizes[i], pads[i], kernel_span(kernels[i], dilations[i])
        numbers = size, kernels[i], strides[i], pad, dilations[i], ceil_mode
        output = pool_size(*numbers)
        if output < 1:
            dilated = f" that dilation spreads over {span}" if span > kernels[i] else ""
            raise RuntimeError(f"{op}: input {input_shape} is {size} + 2 * {pad} (padding) = {size + 2 * pad} {side}, "
                               f"too small for a window of {kernels[i]}{dilated}; the output would be "
                               f"{pool_formula(*numbers)} = {output} {side}; use a larger input or a smaller "
                               "kernel_size")
        windows.append(Window(side, size, kernels[i], strides[i], pad, pad, dilations[i], output))
    return Sliding(N, C, C, C, tuple(windows))
