"""``ConvTranspose1d`` and ``ConvTranspose2d``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl._tensor import Tensor
from minidl.geometry import conv_transpose_size
from minidl.nn import functional as F
from minidl.nn.conv import ConvNd
from minidl.nn.errors import InputError, explained
from minidl.nn.functional.convolution import IntOrPair


class _ConvTranspose(ConvNd):
    """``function`` is that of its number of sides."""

    function: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrPair, stride: IntOrPair = 1,
                 padding: IntOrPair = 0, output_padding: IntOrPair = 0, groups: int = 1, bias: bool = True,
                 dilation: IntOrPair = 1, padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {name}')
        if isinstance(padding, str):
            raise ValueError(f"{name}: padding must be given in numbers, got {padding!r}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, True, output_padding,
                         groups, bias, padding_mode, device, dtype)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        try:
            output_padding = self.output_padding if output_size is None else self._reaching(input, output_size)
            return self.function(input, self.weight, self.bias, self.stride, self.padding, output_padding, self.groups,
                                 self.dilation)
        except RuntimeError as error:
            raise explained(error, self, self._cure(input)) from None

    def _reaching(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The ``output_padding`` that gives ``output_size``: sizes of the sides, or a whole shape."""
        sides = self.sides
        shape, wanted = tuple(input.shape), tuple(output_size)
        others = 2 if len(shape) == sides + 2 else 1
        if len(wanted) == others + sides:
            wanted = wanted[others:]
        if len(wanted) != sides:
            raise InputError(f"for {len(shape)}D input, output_size must have {sides} or {others + sides} elements "
                             f"(got {len(output_size)})", self)
        options = shape[others:], self.kernel_size, self.stride, self.padding, self.dilation
        least = [conv_transpose_size(*option) for option in zip(*options, strict=True)]
        most = [size + stride - 1 for size, stride in zip(least, self.stride, strict=True)]
        if any(not low <= size <= high for low, size, high in zip(least, wanted, most, strict=True)):
            raise InputError(f"requested an output size of {wanted}, but valid sizes range from {least} to {most} (for "
                             f"an input of {shape[others:]})", self)
        return tuple(size - low for size, low in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """1-d transposed convolution of signals: (N, in_channels, L) -> (N, out_channels, OL); with or without N.

    ``weight`` is (in_channels, out_channels/groups, K); everything else is as in ``ConvTranspose2d``, with one number
    where that takes a pair.  For the arithmetic see ``nn.functional.conv_transpose1d``.
    """

    sides = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """2-d transposed convolution of images: (N, in_channels, H, W) -> (N, out_channels, OH, OW); with or without N.

    With the same options it brings what ``Conv2d`` made back to the size before: with a stride, several sizes come to
    the same one, and ``output_padding`` or, in the call, ``output_size`` (the sides, or the whole shape) chooses.
    ``weight`` (in_channels, out_channels/groups, KH, KW) and ``bias`` (out_channels,) start uniform in
    +-1/sqrt(out_channels/groups * KH * KW).  Sizes are numbers or pairs (rows, columns); ``padding_mode`` can only be
    ``'zeros'``.  For the arithmetic see ``nn.functional.conv_transpose2d``.

    Raises ``ValueError`` for options that contradict each other and for an ``output_size`` out of reach; a call raises
    ``RuntimeError`` for an input that does not fit.
    """

    sides = 2
    function = staticmethod(F.conv_transpose2d)
