"""Geometries of convolutions and transposed convolutions over one, two or three sides."""

import functools
from collections.abc import Sequence
from typing import Any

from minidl.geometry.checks import IntOrPair, axes_of, checked_index, checked_shape, kept, per_side
from minidl.geometry.formulas import conv_formula, conv_size, conv_transpose_formula, conv_transpose_size, kernel_span
from minidl.geometry.layouts import Conv2dGeometry, Sliding, Window


def conv2d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: IntOrPair = 1,
                    padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Conv2dGeometry:
    """The geometry of ``conv2d`` for an input ``(N, C, H, W)`` and a weight ``(OC, C/groups, KH, KW)``.

    ``padding`` is a number, a pair (rows, columns), ``'valid'`` (none) or ``'same'`` (the output is as large as the
    input; an odd total puts the extra row or column at the bottom or right; only with stride 1).  Output size
    (https://arxiv.org/abs/1603.07285, relationship 15): ``(H + padding - dilation * (KH - 1) - 1) // stride + 1``.

    Raises ``RuntimeError`` for shapes that do not fit each other, ``TypeError`` for what is not an integer.
    """
    return kept(_conv_geometry, "conv2d", input_shape, weight_shape, stride, padding, dilation, groups)


def conv1d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: int | Sequence[int] = 1,
                    padding: int | Sequence[int] | str = 0, dilation: int | Sequence[int] = 1,
                    groups: int = 1) -> Conv2dGeometry:
    """The geometry of ``conv1d``, ``(N, C, L)`` with ``(OC, C/groups, K)``: that of an image of one row.

    Otherwise as ``conv2d_geometry``.
    """
    return kept(_conv_geometry, "conv1d", input_shape, weight_shape, stride, padding, dilation, groups)


def conv_transpose2d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: IntOrPair = 1,
                              padding: IntOrPair = 0, output_padding: IntOrPair = 0, groups: int = 1,
                              dilation: IntOrPair = 1) -> Conv2dGeometry:
    """The geometry of the convolution that ``conv_transpose2d`` is the transpose of: ``(N, OC, OH, OW)`` to the input.

    The input is ``(N, C, H, W)``, the weight ``(C, OC/groups, KH, KW)``.  Output size (https://arxiv.org/abs/1603.07285,
    relationship 14): that of ``conv_transpose_size`` and ``output_padding`` beyond it.  So the output is
    ``input_shape`` of the geometry, and the input its ``output_shape``, except that an ``output_padding`` of a whole
    stride or more (allowed where the dilation is larger) makes that one larger: rows and columns of zeros at the end.

    Raises ``RuntimeError`` for shapes that do not fit each other, ``TypeError`` for what is not an integer.
    """
    return kept(_conv_transpose_geometry, "conv_transpose2d", input_shape, weight_shape, stride, padding,
                 output_padding, groups, dilation)


def conv_transpose1d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: int | Sequence[int] = 1,
                              padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0,
                              groups: int = 1, dilation: int | Sequence[int] = 1) -> Conv2dGeometry:
    """The same of ``conv_transpose1d``, ``(N, C, L)`` with ``(C, OC/groups, K)``, as an image of one row."""
    return kept(_conv_transpose_geometry, "conv_transpose1d", input_shape, weight_shape, stride, padding,
                 output_padding, groups, dilation)


def conv_windows(op: str, input_shape: Sequence[int], weight_shape: Sequence[int], stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1) -> Sliding:
    """The same for any number of sides: ``op`` is ``conv1d``, ``conv2d`` or ``conv3d``."""
    return kept(_conv_windows, op, input_shape, weight_shape, stride, padding, dilation, groups)


def conv_transpose_windows(op: str, input_shape: Sequence[int], weight_shape: Sequence[int], stride: Any = 1,
                           padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Sliding:
    """The same of the convolution that ``conv_transpose1d``, ``2d`` or ``3d`` is the transpose of."""
    return kept(_conv_transpose_windows, op, input_shape, weight_shape, stride, padding, output_padding, groups,
                 dilation)


@functools.lru_cache(maxsize=1024, typed=True)
def _conv_geometry(*arguments: Any) -> Conv2dGeometry:
    return _laid_out(_conv_windows(*arguments))


@functools.lru_cache(maxsize=1024, typed=True)
def _conv_transpose_geometry(*arguments: Any) -> Conv2dGeometry:
    return _laid_out(_conv_transpose_windows(*arguments))


def _conv_windows(op: str, input_shape: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any,
                  groups: Any) -> Sliding:
    input_axes, weight_axes, sides = axes_of(op)
    N, C, *sizes = input_shape = checked_shape(op, "input", input_axes, input_shape)
    OC, weight_C, *kernels = weight_shape = checked_shape(op, "weight", weight_axes, weight_shape)
    strides = per_side(op, "stride", stride, len(sides), least=1)
    dilations = per_side(op, "dilation", dilation, len(sides), least=1)
    groups = _check_groups(op, groups, weight_axes, weight_shape)
    if weight_C * groups != C:
        raise RuntimeError(f"{op}: input {input_shape} has {C} channels, weight {weight_shape} with groups={groups} "
                           f"needs {weight_C * groups}")
    if OC % groups:
        raise RuntimeError(f"{op}: weight {weight_shape} has {OC} output channels, which groups={groups} does not "
                           "divide")
    spans = tuple(map(kernel_span, kernels, dilations))
    if isinstance(padding, str):
        before, after = _named_padding(op, padding, spans, strides)
    else:
        before = after = per_side(op, "padding", padding, len(sides), least=0)
    windows = []
    for i, side in enumerate(sides):
        size, pad = sizes[i], before[i] + after[i]
        numbers = size, before[i], after[i], kernels[i], strides[i], dilations[i]
        output = conv_size(*numbers)
        if size < 1 or output < 1:
            dilated = f" that dilation spreads over {spans[i]}" if spans[i] > kernels[i] else ""
            would_be = f"the output would be {conv_formula(*numbers)} = {output} {side}; " if size else ""
            raise RuntimeError(f"{op}: input {input_shape} is {size} + {pad} (padding) = {size + pad} {side}, too "
                               f"small for a kernel of {kernels[i]}{dilated}; {would_be}use a larger input, more "
                               "padding or a smaller kernel")
        windows.append(Window(side, size, kernels[i], strides[i], before[i], after[i], dilations[i], output))
    return Sliding(N, C, OC, groups, tuple(windows))


def _conv_transpose_windows(op: str, input_shape: Any, weight_shape: Any, stride: Any, padding: Any,
                            output_padding: Any, groups: Any, dilation: Any) -> Sliding:
    input_axes, weight_axes, sides = axes_of(op)
    N, C, *sizes = input_shape = checked_shape(op, "input", input_axes, input_shape)
    weight_C, group_OC, *kernels = weight_shape = checked_shape(op, "weight", weight_axes, weight_shape)
    if isinstance(padding, str):
        raise TypeError(f"{op}: padding must be integers, got {padding!r}; a transposed convolution has no 'same'")
    strides = per_side(op, "stride", stride, len(sides), least=1)
    dilations = per_side(op, "dilation", dilation, len(sides), least=1)
    pads = per_side(op, "padding", padding, len(sides), least=0)
    extras = per_side(op, "output_padding", output_padding, len(sides), least=0)
    groups = _check_groups(op, groups, weight_axes, weight_shape)
    if weight_C != C:
        raise RuntimeError(f"{op}: input {input_shape} has {C} channels, weight {weight_shape} needs {weight_C}; the "
                           f"weight of a transposed convolution is {weight_axes}")
    if C % groups:
        raise RuntimeError(f"{op}: input {input_shape} has {C} channels, which groups={groups} does not divide")
    windows = []
    for i, side in enumerate(sides):
        size, extra = sizes[i], extras[i]
        numbers = size, kernels[i], strides[i], pads[i], dilations[i]
        if size < 1:
            raise RuntimeError(f"{op}: input {input_shape} is empty; only N may be 0")
        if extra >= max(strides[i], dilations[i]):
            raise RuntimeError(f"{op}: output_padding {output_padding} must be smaller than either stride {strides} or "
                               f"dilation {dilations}; it only chooses among the sizes that a convolution with this "
                               "stride would bring to the input's")
        output = conv_transpose_size(*numbers) + extra
        if output < 1:
            words = conv_transpose_formula("size", "kernel", "stride", "padding", "dilation", "output_padding")
            raise RuntimeError(f"{op}: input {input_shape} is {size} {side} and would become {words} = "
                               f"{conv_transpose_formula(*numbers, extra)} = {output}; use less padding or a larger "
                               "input")
        windows.append(Window(side, output, kernels[i], strides[i], pads[i], pads[i], dilations[i],
                              size + extra // strides[i]))
    return Sliding(N, group_OC * groups, C, groups, tuple(windows))


def _laid_out(sliding: Sliding) -> Conv2dGeometry:
    """The geometry of a convolution over one or two sides; a line is an image of one row."""
    N, C, OC, groups, windows = sliding
    rows, columns = windows if len(windows) == 2 else (Window("high", 1, 1, 1, 0, 0, 1, 1), *windows)
    return Conv2dGeometry(
        N=N, C=C, H=rows.size, W=columns.size, OC=OC, KH=rows.kernel, KW=columns.kernel, OH=rows.output,
        OW=columns.output, groups=groups, stride_h=rows.stride, stride_w=columns.stride, dilation_h=rows.dilation,
        dilation_w=columns.dilation, pad_top=rows.before, pad_left=columns.before, pad_bottom=rows.after,
        pad_right=columns.after)


def _check_groups(op: str, groups: Any, weight_axes: str, weight_shape: tuple[int, ...]) -> int:
    groups = checked_index(op, "groups", groups)
    if groups < 1:
        raise RuntimeError(f"{op}: groups must be at least 1, got {groups}")
    if min(weight_shape) < 1:
        raise RuntimeError(f"{op}: weight {weight_shape} has an empty side; each of {weight_axes} must be at least 1")
    return groups


def _named_padding(op: str, padding: str, spans: tuple[int, ...],
                   strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The padding before and after that a word stands for."""
    if padding == "valid":
        return (0,) * len(spans), (0,) * len(spans)
    if padding != "same":
        raise RuntimeError(f"{op}: padding must be a number, a pair, 'same' or 'valid', got {padding!r}")
    if max(strides) > 1:
        raise RuntimeError(f"{op}: padding='same' needs stride 1, got stride {strides}; give the padding as numbers")
    return tuple((span - 1) // 2 for span in spans), tuple(span // 2 for span in spans)
