"""``Conv2d``."""

from __future__ import annotations

from typing import Any

from minidl._tensor import Tensor
from minidl.geometry import conv2d_geometry
from minidl.nn import functional as F
from minidl.nn.errors import explained
from minidl.nn.functional.convolution import IntOrPair, conv_shapes
from minidl.nn.sliding import SlidingWindow, pair
from minidl.nn.weighted import Weighted
from minidl.ops.conv import conv2d

_PADDINGS = ("same", "valid")
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class Conv2d(SlidingWindow, Weighted):
    """2-d convolution of images: (N, in_channels, H, W) -> (N, out_channels, OH, OW); with or without N.

    ``weight`` (out_channels, in_channels/groups, KH, KW) and ``bias`` (out_channels,) start uniform in
    +-1/sqrt(in_channels/groups * KH * KW).  Sizes are numbers or pairs (rows, columns); ``padding`` also ``'same'`` or
    ``'valid'``; ``padding_mode`` is ``'zeros'``, ``'reflect'``, ``'replicate'`` or ``'circular'``.  For the arithmetic
    see ``nn.functional.conv2d``.

    Raises ``ValueError`` for options that contradict each other; a call raises ``RuntimeError`` for an input that does
    not fit.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrPair, stride: IntOrPair = 1,
                 padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name} must be divisible by groups")
        if isinstance(padding, str):
            if padding not in _PADDINGS:
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {_PADDINGS}")
            if padding == "same" and pair(stride) != (1, 1):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {_PADDING_MODES}, but got padding_mode='{padding_mode}'")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = pair(kernel_size)
        self.stride = pair(stride)
        self.padding = padding if isinstance(padding, str) else pair(padding)
        self.dilation = pair(dilation)
        self.groups = groups
        self.padding_mode = padding_mode
        self._make_parameters((out_channels, in_channels // groups, *self.kernel_size), bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        try:
            weight, bias = self.weight, self.bias
            geometry = self._geometries.get((input._raw.shape, weight._raw.shape))
            if geometry is not None and (bias is None or bias._raw.size == geometry.OC):
                return conv2d(input, weight, bias, geometry)
        except (AttributeError, TypeError):  # no tensor, or another dtype: said properly below
            pass
        return self._forward_checked(input)

    def _forward_checked(self, input: Tensor) -> Tensor:
        """The long way: for a shape not met before, for other paddings than zeros, and to say what is wrong."""
        weight, bias = self.weight, self.bias
        try:
            shape = conv_shapes(input, weight, bias)
            if self.padding_mode != "zeros":
                input = F.pad(input, self._frame(), self.padding_mode)
                return F.conv2d(input, weight, bias, self.stride, 0, self.dilation, self.groups)
            geometry = conv2d_geometry(shape, tuple(weight.shape), self.stride, self.padding, self.dilation,
                                       self.groups)
        except RuntimeError as error:
            raise explained(error, self, self._cure(input)) from None
        if input.ndim == 3:
            return conv2d(input.unsqueeze(0), weight, bias, geometry).squeeze(0)
        self._keep((shape, tuple(weight.shape)), geometry)
        return conv2d(input, weight, bias, geometry)

    def _frame(self) -> tuple[int, int, int, int]:
        """The padding as ``pad`` takes it: left, right, top, bottom; an odd total has the larger part at the end."""
        if not isinstance(self.padding, str):
            rows, columns = pair(self.padding)
            return columns, columns, rows, rows
        if self.padding == "valid":
            return 0, 0, 0, 0
        rows, columns = (dilation * (size - 1) for dilation, size in zip(self.dilation, self.kernel_size, strict=True))
        return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2

    def _cure(self, input: Tensor) -> str:
        if input.ndim in (3, 4) and input.shape[-3] != self.weight.shape[1] * self.groups:
            return f"set in_channels={input.shape[-3]}"
        return ""

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)
