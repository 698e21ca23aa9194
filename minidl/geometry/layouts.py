"""What a geometry holds: named sizes of a convolution or a pooling, checked and immutable."""

import functools
import struct
from typing import NamedTuple


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
