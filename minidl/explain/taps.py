"""A convolution layer as a list of taps: which number of the input each tap of a kernel meets, for every output.

Convolutions and transposed convolutions, all padding modes, dilation and groups become one and the same sum:

    output[n, oc, o] = bias[oc] + sum over c, k of kernels[oc, c, k] * input[n, channels(oc)[c], sources[o, k]]

with o and k over one side or two.  ``sources`` is -1 where a tap meets no number: in a padding of zeros, and in a
transposed convolution at the pixels that its stride leaves empty.

Both are a kernel that slides over a ground: the input in its padding, or the input spread by the stride of a transposed
convolution, over which the kernel slides turned by 180 degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minidl._tensor import Tensor
from minidl.autograd import no_grad
from minidl.explain.kinds import Case, case
from minidl.geometry import Window
from minidl.nn.conv import ConvNd
from minidl.ops.creation import as_tensor

_NUMPYS_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Ground(NamedTuple):
    """One side of what the kernel slides over.

    ``cells`` (P,) has the place in the input of the number that stands there, or -1 for none; ``frame`` (P,) says that
    it is padding; ``places`` (O, K) is the cell under tap k for output o.
    """

    cells: np.ndarray
    frame: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Taps:
    """A layer over an input; arrays are float64 and int.

    ``kernels`` (OC, C/groups, K...), ``bias`` (OC,) (zeros where the layer has none), and the ground of each side.
    """

    case: Case
    kernels: np.ndarray
    bias: np.ndarray
    grounds: tuple[Ground, ...]

    @property
    def sources(self) -> tuple[np.ndarray, ...]:
        """For each side (O, K): the place in the input that tap k meets for output o, or -1."""
        return tuple(ground.cells[ground.places] for ground in self.grounds)

    @property
    def framed(self) -> tuple[np.ndarray, ...]:
        """For each side (O, K): whether the tap lies in the padding."""
        return tuple(ground.frame[ground.places] for ground in self.grounds)

    def channels(self, oc: int) -> np.ndarray:
        """The input channels that an output channel sees."""
        seen = self.kernels.shape[1]
        group = oc // (self.kernels.shape[0] // self.case.groups)
        return np.arange(group * seen, (group + 1) * seen)


def need_conv(layer: Any, what: str) -> None:
    """Raise ``TypeError`` for what is no convolution layer of minidl."""
    if not isinstance(layer, ConvNd):
        raise TypeError(f"explain.{what}: needs a convolution layer (Conv1d, Conv2d, ConvTranspose1d, "
                        f"ConvTranspose2d), got {type(layer).__name__}")


def need_planes(layer: Any, what: str) -> None:
    """Raise ``TypeError`` for what is no layer over images."""
    need_conv(layer, what)
    if layer.sides != 2:
        raise TypeError(f"explain.{what}: needs a layer over images (Conv2d, ConvTranspose2d), got "
                        f"{type(layer).__name__}; a line is an image of one row: input.unsqueeze(-2)")


def as_batch(layer: ConvNd, input: Any) -> Tensor:
    """The input (a tensor or array) as a batch, with the layer's dtype, off the tape."""
    tensor = as_tensor(input).detach()
    return (tensor.unsqueeze(0) if tensor.ndim == layer.sides + 1 else tensor).to(layer.weight.dtype)


def read(layer: ConvNd, input_shape: tuple[int, ...]) -> Taps:
    """The taps of a layer over an input of this shape.  Raises as ``explain.shape`` for one that does not fit."""
    found = case(layer, input_shape, {})
    assert found.sliding is not None
    if found.family == "conv_transpose":
        sizes = found.input_shape[-found.sides:]
        grounds = [_spread(window, size) for window, size in zip(found.sliding.windows, sizes, strict=True)]
    else:
        grounds = [_padded(window, found.padding_mode) for window in found.sliding.windows]
    kernels = kernels_of(layer)
    bias = np.zeros(len(kernels)) if layer.bias is None else layer.bias.detach().numpy().astype(np.float64)
    return Taps(found, kernels, bias, tuple(grounds))


def kernels_of(layer: ConvNd) -> np.ndarray:
    """The weight as (OC, C/groups, K...), also of a transposed convolution, whose own is (C, OC/groups, K...)."""
    weight = layer.weight.detach().numpy().astype(np.float64)
    if not layer.transposed:
        return weight
    groups = layer.groups
    by_group = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]).swapaxes(1, 2)
    return by_group.reshape(groups * weight.shape[1], weight.shape[0] // groups, *weight.shape[2:])


def output_of(layer: ConvNd, input: Tensor) -> np.ndarray:
    """The layer's own output (N, OC, O...) as float64."""
    with no_grad():
        return layer(input).numpy().astype(np.float64)


def _padded(window: Window, mode: str) -> Ground:
    """The ground of a convolution: the input with its padding."""
    pads = window.before, window.after
    inside = np.arange(window.size)
    if mode == "zeros":
        cells = np.pad(inside, pads, constant_values=-1)
    else:
        cells = np.pad(inside, pads, mode=_NUMPYS_MODES[mode])  # type: ignore[call-overload]
    places = np.arange(window.output)[:, None] * window.stride + np.arange(window.kernel) * window.dilation
    return Ground(cells, np.pad(np.zeros(window.size, bool), pads, constant_values=True), places)


def _spread(window: Window, size: int) -> Ground:
    """The ground of a transposed convolution: its input with stride - 1 empty cells between the numbers.

    ``window`` brings its output, of ``window.size``, to its input, of ``size``.
    """
    at = np.arange(size) * window.stride
    places = np.arange(window.size)[:, None] + window.before - np.arange(window.kernel) * window.dilation
    first, last = min(places.min(), 0), max(places.max(), at[-1])
    cells = np.full(last - first + 1, -1)
    cells[at - first] = np.arange(size)
    frame = np.ones(cells.shape, bool)
    frame[-first:at[-1] - first + 1] = False
    return Ground(cells, frame, places - first)
