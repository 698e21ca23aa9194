"""``Conv1d`` and ``Conv2d``, and what all convolution layers share."""

from __future__ import annotations

from typing import Any

from minidl import geometry
from minidl._tensor import Tensor
from minidl.nn import functional as F
from minidl.nn.errors import explained
from minidl.nn.functional.convolution import IntOrPair, batched, conv_shapes
from minidl.nn.sliding import SlidingWindow, per_side
from minidl.nn.weighted import Weighted
from minidl.ops import conv

_PADDINGS = ("same", "valid")
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class ConvNd(SlidingWindow, Weighted):
    """The options, weights and name of a convolution layer over ``sides`` dimensions."""

    sides: int

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
                 transposed: bool, output_padding: Any, groups: int, bias: bool, padding_mode: str, device: Any,
                 dtype: Any) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(
                    f"{name} must be divisible by groups: {channels} / {groups} = {channels // groups}, remainder "
                    f"{channels % groups}; each group has as many of the {in_channels} input and of the "
                    f"{out_channels} output channels")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_side(kernel_size, self.sides)
        self.stride = per_side(stride, self.sides)
        self.padding = padding if isinstance(padding, str) else per_side(padding, self.sides)
        self.dilation = per_side(dilation, self.sides)
        self.transposed = transposed
        self.output_padding = per_side(output_padding, self.sides)
        self.groups = groups
        self.padding_mode = padding_mode
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self._make_parameters((first, second // groups, *self.kernel_size), out_channels if bias else None, device,
                              dtype)

    def _cure(self, input: Tensor) -> str:
        """What would make the layer fit an input with another number of channels."""
        channels = self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups
        if input.ndim in (self.sides + 1, self.sides + 2) and input.shape[-self.sides - 1] != channels:
            return f"set in_channels={input.shape[-self.sides - 1]}"
        return ""

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        for name, plain in (("padding", 0), ("dilation", 1), ("output_padding", 0)):
            value = getattr(self, name)
            if value != (plain,) * self.sides:
                parts.append(f"{name}={value}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Conv(ConvNd):
    """A convolution, not transposed.  ``op``, ``function`` and ``geometry_of`` are those of its number of sides."""

    op: Any
    function: Any
    geometry_of: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
                 groups: int, bias: bool, padding_mode: str, device: Any, dtype: Any) -> None:
        if isinstance(padding, str):
            if padding not in _PADDINGS:
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {_PADDINGS}")
            if padding == "same" and any(step != 1 for step in per_side(stride, self.sides)):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {_PADDING_MODES}, but got padding_mode='{padding_mode}'")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, False, 0, groups, bias,
                         padding_mode, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        try:
            weight, bias = self.weight, self.bias
            fit = self._geometries.get((input._shape, weight._shape))
            if fit is not None and (bias is None or bias._shape == (fit.OC,)):
                return self.op(input, weight, bias, fit)
        except (AttributeError, TypeError):  # no tensor, or another dtype: said properly below
            pass
        return self._forward_checked(input)

    def _forward_checked(self, input: Tensor) -> Tensor:
        """The long way: for a shape not met before, for other paddings than zeros, and to say what is wrong."""
        weight, bias = self.weight, self.bias
        try:
            shape = conv_shapes(self.function.__name__, input, weight, bias)
            if self.padding_mode != "zeros":
                input = F.pad(input, self._frame(), self.padding_mode)
                return self.function(input, weight, bias, self.stride, 0, self.dilation, self.groups)
            fit = self.geometry_of(shape, tuple(weight.shape), self.stride, self.padding, self.dilation, self.groups)
        except RuntimeError as error:
            raise explained(error, self, self._cure(input)) from None
        if input.ndim == weight.ndim:
            self._keep((shape, tuple(weight.shape)), fit)
        return batched(self.op, input, weight, bias, fit)

    def _frame(self) -> list[int]:
        """The padding as ``pad`` takes it: left, right, top, bottom; an odd total has the larger part at the end."""
        if not isinstance(self.padding, str):
            amounts = [(pad, pad) for pad in per_side(self.padding, self.sides)]
        elif self.padding == "valid":
            amounts = [(0, 0)] * self.sides
        else:
            totals = [dilation * (size - 1) for dilation, size in zip(self.dilation, self.kernel_size, strict=True)]
            amounts = [(total // 2, total - total // 2) for total in totals]
        return [amount for pair in reversed(amounts) for amount in pair]


class Conv1d(_Conv):
    """1-d convolution of signals: (N, in_channels, L) -> (N, out_channels, OL); with or without N.

    ``weight`` is (out_channels, in_channels/groups, K); everything else is as in ``Conv2d``, with one number where that
    takes a pair.  For the arithmetic see ``nn.functional.conv1d``.
    """

    sides = 1
    op = staticmethod(conv.conv1d)
    function = staticmethod(F.conv1d)
    geometry_of = staticmethod(geometry.conv1d_geometry)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrPair, stride: IntOrPair = 1,
                 padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
                         device, dtype)


class Conv2d(_Conv):
    """2-d convolution of images: (N, in_channels, H, W) -> (N, out_channels, OH, OW); with or without N.

    ``weight`` (out_channels, in_channels/groups, KH, KW) and ``bias`` (out_channels,) start uniform in
    +-1/sqrt(in_channels/groups * KH * KW).  Sizes are numbers or pairs (rows, columns); ``padding`` also ``'same'`` or
    ``'valid'``; ``padding_mode`` is ``'zeros'``, ``'reflect'``, ``'replicate'`` or ``'circular'``.  For the arithmetic
    see ``nn.functional.conv2d``.

    Raises ``ValueError`` for options that contradict each other; a call raises ``RuntimeError`` for an input that does
    not fit.
    """

    sides = 2
    op = staticmethod(conv.conv2d)
    function = staticmethod(F.conv2d)
    geometry_of = staticmethod(geometry.conv2d_geometry)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrPair, stride: IntOrPair = 1,
                 padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
                         device, dtype)
