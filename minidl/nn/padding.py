"""Padding layers: (N, C, H, W) -> the same in a frame; sizes are one number or (left, right, top, bottom)."""

from __future__ import annotations

from collections.abc import Sequence

from minidl._tensor import Tensor
from minidl.nn import functional as F
from minidl.nn.errors import explained
from minidl.nn.module import Module


class _Pad2d(Module):
    mode: str

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = (padding,) * 4 if isinstance(padding, int) else tuple(padding)

    def forward(self, input: Tensor) -> Tensor:
        try:
            return F.pad(input, self.padding, self.mode)
        except RuntimeError as error:
            raise explained(error, self) from None

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad2d(_Pad2d):
    """A frame of zeros."""

    mode = "constant"


class ReflectionPad2d(_Pad2d):
    """A frame that mirrors the image without repeating its edge."""

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """A frame that repeats the edge."""

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """A frame that shows the image from its other side on."""

    mode = "circular"
