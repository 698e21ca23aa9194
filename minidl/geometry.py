"""Geometry of convolution and pooling: sizes and options in, checked sizes out.

Everything that can be wrong with the shapes of a convolution or a pooling is found here, once, and explained with
the numbers that went in; a kernel that holds a geometry computes and checks nothing.  A training step asks for the
same few geometries again and again, so they are made once and kept (``functools.lru_cache``), and never change.

This file knows integers only: no array, no tensor, no device.  Exception types are PyTorch's.
"""

import functools
import operator
import struct
from collections.abc import Sequence
from typing import Any

IntOrPair = int | Sequence[int]


class _Geometry:
    """A fixed set of named integers.  ``packed`` holds those of ``fields`` as C ``ssize_t`` for compiled kernels."""

    __slots__ = ("input_shape", "output_shape", "packed")
    fields: tuple[str, ...] = ()
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    packed: bytes

    def __init__(self, **values: int) -> None:
        for name in self.fields:
            object.__setattr__(self, name, values[name])
        packed = struct.pack(f"{len(self.fields)}n", *(values[name] for name in self.fields))
        object.__setattr__(self, "packed", packed)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; make another one instead of setting {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; {name} cannot be deleted")

    def __reduce__(self):
        return _rebuild, (type(self), {name: getattr(self, name) for name in self.fields})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)}' for name in self.fields)})"


def _rebuild(kind: type[_Geometry], values: dict[str, int]) -> _Geometry:
    return kind(**values)


class Conv2dGeometry(_Geometry):
    """Sizes of one 2-d convolution: ``(N, C, H, W)`` with ``(OC, C/groups, KH, KW)`` to ``(N, OC, OH, OW)``."""

    # struct Conv2d in minidl/_ext/geometry.pxd lists the same fields in the same order.
    fields = ("N", "C", "H", "W", "OC", "KH", "KW", "OH", "OW", "stride_h", "stride_w",
              "pad_top", "pad_left", "pad_bottom", "pad_right", "dilation_h", "dilation_w", "groups")
    __slots__ = (*fields, "weight_shape")
    N: int
    C: int
    H: int
    W: int
    OC: int
    KH: int
    KW: int
    OH: int
    OW: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    pad_bottom: int
    pad_right: int
    dilation_h: int
    dilation_w: int
    groups: int
    weight_shape: tuple[int, int, int, int]

    def __init__(self, **values: int) -> None:
        super().__init__(**values)
        set_field = functools.partial(object.__setattr__, self)
        set_field("input_shape", (self.N, self.C, self.H, self.W))
        set_field("weight_shape", (self.OC, self.C // self.groups, self.KH, self.KW))
        set_field("output_shape", (self.N, self.OC, self.OH, self.OW))


class Pool2dGeometry(_Geometry):
    """Sizes of one 2-d pooling: windows of ``(KH, KW)`` over ``(N, C, H, W)`` to ``(N, C, OH, OW)``."""

    # struct Pool2d in minidl/_ext/geometry.pxd lists the same fields in the same order.
    fields = ("N", "C", "H", "W", "KH", "KW", "OH", "OW", "stride_h", "stride_w", "pad_h", "pad_w",
              "dilation_h", "dilation_w")
    __slots__ = (*fields, "halves")
    N: int
    C: int
    H: int
    W: int
    KH: int
    KW: int
    OH: int
    OW: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    halves: bool  # windows of 2x2 side by side, all of them inside

    def __init__(self, **values: int) -> None:
        super().__init__(**values)
        object.__setattr__(self, "halves", (
            self.KH, self.KW, self.stride_h, self.stride_w, self.pad_h, self.pad_w, self.dilation_h, self.dilation_w,
            self.OH, self.OW) == (2, 2, 2, 2, 0, 0, 1, 1, self.H // 2, self.W // 2))
        object.__setattr__(self, "input_shape", (self.N, self.C, self.H, self.W))
        object.__setattr__(self, "output_shape", (self.N, self.C, self.OH, self.OW))


def conv2d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: IntOrPair = 1,
                    padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Conv2dGeometry:
    """The geometry of ``conv2d`` for an input ``(N, C, H, W)`` and a weight ``(OC, C/groups, KH, KW)``.

    ``padding`` is a number, a pair (rows, columns), ``'valid'`` (none) or ``'same'`` (the output is as large as the
    input; an odd total puts the extra row or column at the bottom or right; only with stride 1).  Output size
    (https://arxiv.org/abs/1603.07285, relationship 15): ``(H + padding - dilation * (KH - 1) - 1) // stride + 1``.

    Raises ``RuntimeError`` for shapes that do not fit each other, ``TypeError`` for what is not an integer.
    """
    return _kept(_conv_geometry, "conv2d", _IMAGE, input_shape, weight_shape, stride, padding, dilation, groups)


def conv1d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: int | Sequence[int] = 1,
                    padding: int | Sequence[int] | str = 0, dilation: int | Sequence[int] = 1,
                    groups: int = 1) -> Conv2dGeometry:
    """The geometry of ``conv1d``, ``(N, C, L)`` with ``(OC, C/groups, K)``: that of an image of one row.

    Otherwise as ``conv2d_geometry``.
    """
    return _kept(_conv_geometry, "conv1d", _LINE, input_shape, weight_shape, stride, padding, dilation, groups)


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
    return _kept(_conv_transpose_geometry, "conv_transpose2d", _TRANSPOSED_IMAGE, input_shape, weight_shape, stride,
                 padding, output_padding, groups, dilation)


def conv_transpose1d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: int | Sequence[int] = 1,
                              padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0,
                              groups: int = 1, dilation: int | Sequence[int] = 1) -> Conv2dGeometry:
    """The same of ``conv_transpose1d``, ``(N, C, L)`` with ``(C, OC/groups, K)``, as an image of one row."""
    return _kept(_conv_transpose_geometry, "conv_transpose1d", _TRANSPOSED_LINE, input_shape, weight_shape, stride,
                 padding, output_padding, groups, dilation)


def conv_transpose_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """The smallest size that a convolution brings to ``size``; the next ``stride - 1`` sizes come to it as well."""
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1


def _kept(make: Any, op: str, names: Any, *arguments: Any) -> Conv2dGeometry:
    try:
        return make(op, names, *arguments)
    except TypeError:  # a list does not hash; anything else is found wrong again, with a message
        return make(op, names, *map(_hashable, arguments))


def max_pool2d_geometry(input_shape: Sequence[int], kernel_size: IntOrPair, stride: IntOrPair | None = None,
                        padding: IntOrPair = 0, dilation: IntOrPair = 1, ceil_mode: bool = False) -> Pool2dGeometry:
    """The geometry of ``max_pool2d`` over an input ``(N, C, H, W)``; ``stride`` is the kernel size when omitted.

    ``ceil_mode`` rounds the output size up, but the last window must start inside the input or its top or left
    padding.  Raises ``RuntimeError`` for sizes that do not fit, ``TypeError`` for what is not an integer.
    """
    try:
        return _pool2d_geometry("max_pool2d", input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    except TypeError:
        return _pool2d_geometry("max_pool2d", *map(_hashable, (input_shape, kernel_size, stride, padding, dilation)),
                                ceil_mode)


def avg_pool2d_geometry(input_shape: Sequence[int], kernel_size: IntOrPair, stride: IntOrPair | None = None,
                        padding: IntOrPair = 0, ceil_mode: bool = False,
                        divisor_override: int | None = None) -> Pool2dGeometry:
    """The geometry of ``avg_pool2d``: as ``max_pool2d_geometry``, without dilation.

    ``divisor_override`` is only checked here (it must not be zero); the kernels take it beside the geometry.
    """
    if divisor_override is not None and operator.index(divisor_override) == 0:
        raise RuntimeError("avg_pool2d: divisor_override must not be zero; None divides by the size of the window")
    try:
        return _pool2d_geometry("avg_pool2d", input_shape, kernel_size, stride, padding, 1, ceil_mode)
    except TypeError:
        return _pool2d_geometry("avg_pool2d", *map(_hashable, (input_shape, kernel_size, stride, padding, 1)),
                                ceil_mode)


def adaptive_pool2d_size(op: str, input_shape: Sequence[int],
                         output_size: int | Sequence[int | None] | None) -> tuple[int, int]:
    """``(OH, OW)`` of an adaptive pooling over ``(N, C, H, W)``; ``None`` keeps the input's size on that side.

    Raises ``RuntimeError`` for a negative size, an empty input plane or more than two sizes.
    """
    shape = _shape(op, "input", "(N, C, H, W)", input_shape)
    if shape[2] == 0 or shape[3] == 0:
        raise RuntimeError(f"{op}: input {shape} has no pixels to average; H and W must be at least 1")
    sizes = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size, output_size)
    if len(sizes) != 2:
        raise RuntimeError(f"{op}: output_size must be one size or a pair (rows, columns), got {output_size!r}")
    rows, columns = (kept if size is None else _index(op, "output_size", size)
                     for size, kept in zip(sizes, shape[2:], strict=True))
    if rows < 0 or columns < 0:
        raise RuntimeError(f"{op}: output_size must not be negative, got {output_size!r}")
    return rows, columns


# What the axes of an input and of a weight are called, and what its sides are in a message.
_IMAGE = "(N, C, H, W)", "(OC, C/groups, KH, KW)", ("high", "wide")
_LINE = "(N, C, L)", "(OC, C/groups, K)", ("long",)
_TRANSPOSED_IMAGE = "(N, C, H, W)", "(C, OC/groups, KH, KW)", ("high", "wide")
_TRANSPOSED_LINE = "(N, C, L)", "(C, OC/groups, K)", ("long",)


@functools.lru_cache(maxsize=1024, typed=True)
def _conv_geometry(op: str, names: Any, input_shape: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any,
                   groups: Any) -> Conv2dGeometry:
    input_axes, weight_axes, sides = names
    N, C, *sizes = input_shape = _shape(op, "input", input_axes, input_shape)
    OC, weight_C, *kernels = weight_shape = _shape(op, "weight", weight_axes, weight_shape)
    strides = _per_side(op, "stride", stride, len(sides), least=1)
    dilations = _per_side(op, "dilation", dilation, len(sides), least=1)
    groups = _check_groups(op, groups, weight_axes, weight_shape)
    if weight_C * groups != C:
        raise RuntimeError(f"{op}: input {input_shape} has {C} channels, weight {weight_shape} with groups={groups} "
                           f"needs {weight_C * groups}")
    if OC % groups:
        raise RuntimeError(f"{op}: weight {weight_shape} has {OC} output channels, which groups={groups} does not "
                           "divide")
    spans = _spans(kernels, dilations)
    if isinstance(padding, str):
        before, after = _named_padding(op, padding, spans, strides)
    else:
        before = after = _per_side(op, "padding", padding, len(sides), least=0)
    outputs = []
    for i, side in enumerate(sides):
        size, pad, span = sizes[i], before[i] + after[i], spans[i]
        if size < 1 or span > size + pad:
            dilated = f" that dilation spreads over {span}" if span > kernels[i] else ""
            raise RuntimeError(f"{op}: input {input_shape} is {size} + {pad} (padding) = {size + pad} {side}, too "
                               f"small for a kernel of {kernels[i]}{dilated}; use a larger input, more padding or a "
                               "smaller kernel")
        outputs.append((size + pad - span) // strides[i] + 1)
    return _laid_out(N, C, OC, groups, sizes, kernels, outputs, strides, dilations, before, after)


@functools.lru_cache(maxsize=1024, typed=True)
def _conv_transpose_geometry(op: str, names: Any, input_shape: Any, weight_shape: Any, stride: Any, padding: Any,
                             output_padding: Any, groups: Any, dilation: Any) -> Conv2dGeometry:
    input_axes, weight_axes, sides = names
    N, C, *sizes = input_shape = _shape(op, "input", input_axes, input_shape)
    weight_C, group_OC, *kernels = weight_shape = _shape(op, "weight", weight_axes, weight_shape)
    if isinstance(padding, str):
        raise TypeError(f"{op}: padding must be integers, got {padding!r}; a transposed convolution has no 'same'")
    strides = _per_side(op, "stride", stride, len(sides), least=1)
    dilations = _per_side(op, "dilation", dilation, len(sides), least=1)
    pads = _per_side(op, "padding", padding, len(sides), least=0)
    extras = _per_side(op, "output_padding", output_padding, len(sides), least=0)
    groups = _check_groups(op, groups, weight_axes, weight_shape)
    if weight_C != C:
        raise RuntimeError(f"{op}: input {input_shape} has {C} channels, weight {weight_shape} needs {weight_C}; the "
                           f"weight of a transposed convolution is {weight_axes}")
    if C % groups:
        raise RuntimeError(f"{op}: input {input_shape} has {C} channels, which groups={groups} does not divide")
    spans = _spans(kernels, dilations)
    inputs, outputs = [], []
    for i, side in enumerate(sides):
        size, step, extra = sizes[i], strides[i], extras[i]
        if size < 1:
            raise RuntimeError(f"{op}: input {input_shape} is empty; only N may be 0")
        if extra >= max(step, dilations[i]):
            raise RuntimeError(f"{op}: output_padding {output_padding} must be smaller than either stride {strides} or "
                               f"dilation {dilations}; it only chooses among the sizes that a convolution with this "
                               "stride would bring to the input's")
        output = conv_transpose_size(size, kernels[i], step, pads[i], dilations[i]) + extra
        if output < 1:
            raise RuntimeError(f"{op}: input {input_shape} is {size} {side} and would become ({size} - 1) * {step} "
                               f"(stride) - 2 * {pads[i]} (padding) + {spans[i]} (kernel) + {extra} (output_padding) = "
                               f"{output}; use less padding or a larger input")
        inputs.append(size + extra // step)
        outputs.append(output)
    return _laid_out(N, group_OC * groups, C, groups, outputs, kernels, inputs, strides, dilations, pads, pads)


def _laid_out(N: int, C: int, OC: int, groups: int, *per_side: Sequence[int]) -> Conv2dGeometry:
    """The geometry for input sizes, kernels, output sizes, strides, dilations and padding before and after.

    A line is an image of one row: every list then begins with what a row needs, which is nothing.
    """
    if len(per_side[0]) == 1:
        per_side = tuple((lone, *values) for lone, values in zip((1, 1, 1, 1, 1, 0, 0), per_side, strict=True))
    (H, W), (KH, KW), (OH, OW), strides, dilations, (pad_top, pad_left), (pad_bottom, pad_right) = per_side
    return Conv2dGeometry(
        N=N, C=C, H=H, W=W, OC=OC, KH=KH, KW=KW, OH=OH, OW=OW, groups=groups, stride_h=strides[0],
        stride_w=strides[1], dilation_h=dilations[0], dilation_w=dilations[1], pad_top=pad_top, pad_left=pad_left,
        pad_bottom=pad_bottom, pad_right=pad_right)


def _check_groups(op: str, groups: Any, weight_axes: str, weight_shape: tuple[int, ...]) -> int:
    groups = _index(op, "groups", groups)
    if groups < 1:
        raise RuntimeError(f"{op}: groups must be at least 1, got {groups}")
    if min(weight_shape) < 1:
        raise RuntimeError(f"{op}: weight {weight_shape} has an empty side; each of {weight_axes} must be at least 1")
    return groups


def _spans(kernels: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Pixels from the first to the last that a kernel sees."""
    return tuple(dilation * (kernel - 1) + 1 for kernel, dilation in zip(kernels, dilations, strict=True))


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


@functools.lru_cache(maxsize=1024, typed=True)
def _pool2d_geometry(op: str, input_shape: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
                     ceil_mode: bool) -> Pool2dGeometry:
    N, C, H, W = input_shape = _shape(op, "input", "(N, C, H, W)", input_shape)
    if min(C, H, W) < 1:
        raise RuntimeError(f"{op}: input {input_shape} is empty; only N may be 0")
    KH, KW = _pair(op, "kernel_size", kernel_size, least=1)
    stride_h, stride_w = (KH, KW) if stride is None or stride == () else _pair(op, "stride", stride, least=1)
    pad_h, pad_w = _pair(op, "padding", padding, least=0)
    dilation_h, dilation_w = _pair(op, "dilation", dilation, least=1)
    if pad_h > KH // 2 or pad_w > KW // 2:
        raise RuntimeError(f"{op}: padding {(pad_h, pad_w)} is more than half of the kernel {(KH, KW)}: a window "
                           f"could lie in the padding alone; use at most {(KH // 2, KW // 2)}")
    OH = _pool_size(op, "high", input_shape, H, KH, stride_h, pad_h, dilation_h, ceil_mode)
    OW = _pool_size(op, "wide", input_shape, W, KW, stride_w, pad_w, dilation_w, ceil_mode)
    return Pool2dGeometry(N=N, C=C, H=H, W=W, KH=KH, KW=KW, OH=OH, OW=OW, stride_h=stride_h, stride_w=stride_w,
                          pad_h=pad_h, pad_w=pad_w, dilation_h=dilation_h, dilation_w=dilation_w)


def _pool_size(op: str, side: str, input_shape: tuple[int, ...], size: int, kernel: int, stride: int, pad: int,
               dilation: int, ceil_mode: bool) -> int:
    """Windows along one side: ``(size + 2 * pad - span) / stride + 1``, rounded down, or up with ``ceil_mode``."""
    span = dilation * (kernel - 1) + 1
    room = size + 2 * pad - span
    windows = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (windows - 1) * stride >= size + pad:
        windows -= 1
    if windows < 1:
        dilated = f" that dilation spreads over {span}" if span > kernel else ""
        raise RuntimeError(f"{op}: input {input_shape} is {size} + 2 * {pad} (padding) = {size + 2 * pad} {side}, too "
                           f"small for a window of {kernel}{dilated}; use a larger input or a smaller kernel_size")
    return windows


def _shape(op: str, what: str, axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    dimensions = axes.count(",") + 1
    if len(shape) != dimensions:
        raise RuntimeError(f"{op}: {what} must have the {dimensions} dimensions {axes}, got {len(shape)} in "
                           f"{tuple(shape)}")
    return tuple(map(operator.index, shape))


def _pair(op: str, name: str, value: IntOrPair, least: int) -> tuple[int, int]:
    """One number for both sides, or a pair (rows, columns)."""
    rows, columns = _per_side(op, name, value, 2, least)
    return rows, columns


def _per_side(op: str, name: str, value: IntOrPair, sides: int, least: int) -> tuple[int, ...]:
    """One number for all sides, or one for each."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if len(values) not in (1, sides):
        wanted = "one integer or a pair (rows, columns)" if sides == 2 else "one integer"
        raise RuntimeError(f"{op}: {name} must be {wanted}, got {value!r}")
    numbers = tuple(_index(op, name, number) for number in values)
    if min(numbers) < least:
        raise RuntimeError(f"{op}: {name} must be at least {least}, got {value!r}")
    return numbers if len(numbers) == sides else numbers * sides


def _index(op: str, name: str, value: object) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be integers, got bool {value}")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{op}: {name} must be integers, got {type(value).__name__} {value!r}") from None


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
