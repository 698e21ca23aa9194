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
from typing import Any, NamedTuple

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


class Window(NamedTuple):
    """How a kernel slides along one side of an input: what the size of the output there is made of."""

    side: str  # "long" of a line, "high" and "wide" of an image, "deep" before them of a volume
    size: int
    kernel: int
    stride: int
    before: int  # padding, at the beginning
    after: int   # and at the end
    dilation: int
    output: int


class Sliding(NamedTuple):
    """A convolution or pooling over any number of sides; a pooling has ``groups`` and ``OC`` of C."""

    N: int
    C: int
    OC: int
    groups: int
    windows: tuple[Window, ...]


def conv2d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: IntOrPair = 1,
                    padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Conv2dGeometry:
    """The geometry of ``conv2d`` for an input ``(N, C, H, W)`` and a weight ``(OC, C/groups, KH, KW)``.

    ``padding`` is a number, a pair (rows, columns), ``'valid'`` (none) or ``'same'`` (the output is as large as the
    input; an odd total puts the extra row or column at the bottom or right; only with stride 1).  Output size
    (https://arxiv.org/abs/1603.07285, relationship 15): ``(H + padding - dilation * (KH - 1) - 1) // stride + 1``.

    Raises ``RuntimeError`` for shapes that do not fit each other, ``TypeError`` for what is not an integer.
    """
    return _kept(_conv_geometry, "conv2d", input_shape, weight_shape, stride, padding, dilation, groups)


def conv1d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: int | Sequence[int] = 1,
                    padding: int | Sequence[int] | str = 0, dilation: int | Sequence[int] = 1,
                    groups: int = 1) -> Conv2dGeometry:
    """The geometry of ``conv1d``, ``(N, C, L)`` with ``(OC, C/groups, K)``: that of an image of one row.

    Otherwise as ``conv2d_geometry``.
    """
    return _kept(_conv_geometry, "conv1d", input_shape, weight_shape, stride, padding, dilation, groups)


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
    return _kept(_conv_transpose_geometry, "conv_transpose2d", input_shape, weight_shape, stride, padding,
                 output_padding, groups, dilation)


def conv_transpose1d_geometry(input_shape: Sequence[int], weight_shape: Sequence[int], stride: int | Sequence[int] = 1,
                              padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0,
                              groups: int = 1, dilation: int | Sequence[int] = 1) -> Conv2dGeometry:
    """The same of ``conv_transpose1d``, ``(N, C, L)`` with ``(C, OC/groups, K)``, as an image of one row."""
    return _kept(_conv_transpose_geometry, "conv_transpose1d", input_shape, weight_shape, stride, padding,
                 output_padding, groups, dilation)


def conv_windows(op: str, input_shape: Sequence[int], weight_shape: Sequence[int], stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1) -> Sliding:
    """The same for any number of sides: ``op`` is ``conv1d``, ``conv2d`` or ``conv3d``."""
    return _kept(_conv_windows, op, input_shape, weight_shape, stride, padding, dilation, groups)


def conv_transpose_windows(op: str, input_shape: Sequence[int], weight_shape: Sequence[int], stride: Any = 1,
                           padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Sliding:
    """The same of the convolution that ``conv_transpose1d``, ``2d`` or ``3d`` is the transpose of."""
    return _kept(_conv_transpose_windows, op, input_shape, weight_shape, stride, padding, output_padding, groups,
                 dilation)


def pool_windows(op: str, input_shape: Sequence[int], kernel_size: Any, stride: Any = None, padding: Any = 0,
                 dilation: Any = 1, ceil_mode: bool = False) -> Sliding:
    """The same of a pooling: ``op`` ends with the number of its sides, ``max_pool1d``."""
    return _kept(_pool_windows, op, input_shape, kernel_size, stride, padding, dilation, ceil_mode)


def kernel_span(kernel: int, dilation: int) -> int:
    """Pixels from the first to the last that a kernel sees."""
    return dilation * (kernel - 1) + 1


def conv_size(size: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> int:
    """What a convolution makes of one side; less than 1 where the kernel does not fit."""
    return (size + before + after - kernel_span(kernel, dilation)) // stride + 1


def conv_formula(size: object, before: object, after: object, kernel: object, stride: object, dilation: object) -> str:
    """``conv_size`` in numbers or in words, as PyTorch's documentation writes it."""
    return f"({size} + {before} + {after} - {dilation} * ({kernel} - 1) - 1) // {stride} + 1"


def conv_transpose_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """The smallest size that a convolution brings to ``size``; the next ``stride - 1`` sizes come to it as well."""
    return (size - 1) * stride - 2 * padding + kernel_span(kernel, dilation)


def conv_transpose_formula(size: object, kernel: object, stride: object, padding: object, dilation: object,
                           extra: object) -> str:
    """``conv_transpose_size`` and ``extra`` beyond it (output_padding) in numbers or in words."""
    return f"({size} - 1) * {stride} - 2 * {padding} + {dilation} * ({kernel} - 1) + {extra} + 1"


def pool_size(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    """Windows along one side; ``ceil_mode`` rounds up, but leaves out a last one that begins behind the input."""
    room = size + 2 * pad - kernel_span(kernel, dilation)
    windows = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    return windows - 1 if ceil_mode and (windows - 1) * stride >= size + pad else windows


def pool_formula(size: object, kernel: object, stride: object, pad: object, dilation: object, ceil_mode: bool) -> str:
    """``pool_size`` in numbers or in words, before a last window behind the input is left out."""
    if not ceil_mode:
        return conv_formula(size, pad, pad, kernel, stride, dilation)
    return f"ceil(({size} + {pad} + {pad} - {dilation} * ({kernel} - 1) - 1) / {stride}) + 1"


def adaptive_window(size: int, outputs: int, i: int) -> slice:
    """The pixels of window ``i`` of an adaptive pooling: from floor(i * size / outputs) to ceil((i + 1) * size /
    outputs)."""
    return slice(i * size // outputs, -(-(i + 1) * size // outputs))


def _kept(make: Any, *arguments: Any) -> Any:
    try:
        return make(*arguments)
    except TypeError:  # a list does not hash; anything else is found wrong again, with a message
        return make(*map(_hashable, arguments))


def max_pool2d_geometry(input_shape: Sequence[int], kernel_size: IntOrPair, stride: IntOrPair | None = None,
                        padding: IntOrPair = 0, dilation: IntOrPair = 1, ceil_mode: bool = False) -> Pool2dGeometry:
    """The geometry of ``max_pool2d`` over an input ``(N, C, H, W)``; ``stride`` is the kernel size when omitted.

    For ``ceil_mode`` see ``pool_size``.  Raises ``RuntimeError`` for sizes that do not fit, ``TypeError`` for what is
    not an integer.
    """
    return _kept(_pool2d_geometry, "max_pool2d", input_shape, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d_geometry(input_shape: Sequence[int], kernel_size: IntOrPair, stride: IntOrPair | None = None,
                        padding: IntOrPair = 0, ceil_mode: bool = False,
                        divisor_override: int | None = None) -> Pool2dGeometry:
    """The geometry of ``avg_pool2d``: as ``max_pool2d_geometry``, without dilation.

    ``divisor_override`` is only checked here (it must not be zero); the kernels take it beside the geometry.
    """
    if divisor_override is not None and operator.index(divisor_override) == 0:
        raise RuntimeError("avg_pool2d: divisor_override must not be zero; None divides by the size of the window")
    return _kept(_pool2d_geometry, "avg_pool2d", input_shape, kernel_size, stride, padding, 1, ceil_mode)


def adaptive_pool_size(op: str, input_shape: Sequence[int],
                       output_size: int | Sequence[int | None] | None) -> tuple[int, ...]:
    """``(OH, OW)`` of an adaptive pooling over ``(N, C, H, W)``; ``None`` keeps the input's size on that side.

    ``op`` ends with the number of sides.  Raises ``RuntimeError`` for a negative size, an empty input plane or another
    number of sizes.
    """
    input_axes, _, sides = _axes(op)
    shape = _shape(op, "input", input_axes, input_shape)
    if 0 in shape[2:]:
        raise RuntimeError(f"{op}: input {shape} has no pixels to look at; each side must be at least 1")
    sizes = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size,) * len(sides)
    if len(sizes) != len(sides):
        raise RuntimeError(f"{op}: output_size must be {_NUMBERS[len(sides)]}, got {output_size!r}")
    found = tuple(kept if size is None else _index(op, "output_size", size)
                  for size, kept in zip(sizes, shape[2:], strict=True))
    if min(found) < 0:
        raise RuntimeError(f"{op}: output_size must not be negative, got {output_size!r}")
    return found


# By the number of sides: what the axes of an input and of a kernel are called, and the sides in a message.
_AXES = {1: ("(N, C, L)", "K", ("long",)), 2: ("(N, C, H, W)", "KH, KW", ("high", "wide")),
         3: ("(N, C, D, H, W)", "KD, KH, KW", ("deep", "high", "wide"))}
_NUMBERS = {1: "one integer", 2: "one integer or a pair (rows, columns)",
            3: "one integer or three (depth, rows, columns)"}


def _axes(op: str) -> tuple[str, str, tuple[str, ...]]:
    """The axes of the input, those of the weight, and the sides of an op by its name."""
    input_axes, kernel_axes, sides = _AXES[int(op[-2])]
    channels = "C, OC/groups" if "transpose" in op else "OC, C/groups"
    return input_axes, f"({channels}, {kernel_axes})", sides


@functools.lru_cache(maxsize=1024, typed=True)
def _conv_geometry(*arguments: Any) -> Conv2dGeometry:
    return _laid_out(_conv_windows(*arguments))


@functools.lru_cache(maxsize=1024, typed=True)
def _conv_transpose_geometry(*arguments: Any) -> Conv2dGeometry:
    return _laid_out(_conv_transpose_windows(*arguments))


def _conv_windows(op: str, input_shape: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any,
                  groups: Any) -> Sliding:
    input_axes, weight_axes, sides = _axes(op)
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
    spans = tuple(map(kernel_span, kernels, dilations))
    if isinstance(padding, str):
        before, after = _named_padding(op, padding, spans, strides)
    else:
        before = after = _per_side(op, "padding", padding, len(sides), least=0)
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
    input_axes, weight_axes, sides = _axes(op)
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
    groups = _index(op, "groups", groups)
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


@functools.lru_cache(maxsize=1024, typed=True)
def _pool2d_geometry(*arguments: Any) -> Pool2dGeometry:
    N, C, _, _, (rows, columns) = _pool_windows(*arguments)
    return Pool2dGeometry(
        N=N, C=C, H=rows.size, W=columns.size, KH=rows.kernel, KW=columns.kernel, OH=rows.output, OW=columns.output,
        stride_h=rows.stride, stride_w=columns.stride, pad_h=rows.before, pad_w=columns.before,
        dilation_h=rows.dilation, dilation_w=columns.dilation)


def _pool_windows(op: str, input_shape: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
                  ceil_mode: bool) -> Sliding:
    input_axes, _, sides = _axes(op)
    N, C, *sizes = input_shape = _shape(op, "input", input_axes, input_shape)
    if min(C, *sizes) < 1:
        raise RuntimeError(f"{op}: input {input_shape} is empty; only N may be 0")
    kernels = _per_side(op, "kernel_size", kernel_size, len(sides), least=1)
    strides = kernels if stride is None or stride == () else _per_side(op, "stride", stride, len(sides), least=1)
    pads = _per_side(op, "padding", padding, len(sides), least=0)
    dilations = _per_side(op, "dilation", dilation, len(sides), least=1)
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


def _shape(op: str, what: str, axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    dimensions = axes.count(",") + 1
    if len(shape) != dimensions:
        raise RuntimeError(f"{op}: {what} must have the {dimensions} dimensions {axes}, got {len(shape)} in "
                           f"{tuple(shape)}")
    return tuple(map(operator.index, shape))


def _per_side(op: str, name: str, value: IntOrPair, sides: int, least: int) -> tuple[int, ...]:
    """One number for all sides, or one for each."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if len(values) not in (1, sides):
        raise RuntimeError(f"{op}: {name} must be {_NUMBERS[sides]}, got {value!r}")
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
