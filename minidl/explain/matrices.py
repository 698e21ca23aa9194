"""``explain.matrix``: a convolution is a linear map, so it is a matrix, and its backward is that matrix transposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.explain.style import new_figure, plain_axes, signed_colours
from minidl.explain.taps import need_conv, read
from minidl.explain.text import Text
from minidl.explain.text import matrix as text_matrix

MOST_DENSE = 4_000_000  # numbers that dense() makes
_SHOWN = 16


@dataclass(frozen=True, repr=False)
class Matrix(Text):
    """A matrix of which only the entries that are not always zero are kept: ``values[i]`` at (``rows[i]``,
    ``columns[i]``); several entries at one place add up, as where a padding repeats a pixel.

    ``matrix @ x`` multiplies a vector, ``matrix.T`` is the transpose.
    """

    title: str
    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @property
    def T(self) -> Matrix:  # noqa: N802 - NumPy's name
        return Matrix(f"the transpose of {self.title}", self.shape[::-1], self.columns, self.rows, self.values)

    def __matmul__(self, x: Any) -> np.ndarray:
        x = np.asarray(x, np.float64)
        if x.shape != (self.shape[1],):
            raise ValueError(f"a matrix {self.shape} times a vector needs {self.shape[1]} numbers, got {x.shape}")
        return np.bincount(self.rows, self.values * x[self.columns], self.shape[0])

    def dense(self) -> np.ndarray:
        """All of it.  Raises ``ValueError`` for more than four million numbers."""
        if self.shape[0] * self.shape[1] > MOST_DENSE:
            raise ValueError(f"the matrix {self.shape} has {self.shape[0] * self.shape[1]:,} numbers; use a smaller "
                             f"input")
        flat = np.bincount(self.rows * self.shape[1] + self.columns, self.values, self.shape[0] * self.shape[1])
        return flat.reshape(self.shape)

    def lines(self) -> list[str]:
        share = len(self.values) / max(self.shape[0] * self.shape[1], 1)
        lines = [self.title, f"{self.shape[0]:,} x {self.shape[1]:,}: {len(self.values):,} of "
                 f"{self.shape[0] * self.shape[1]:,} entries can be other than zero ({100 * share:.3g} %)"]
        return lines + (["", *text_matrix(self.dense())] if max(self.shape) <= _SHOWN else [])

    def figure(self) -> Any:
        """The matrix as a picture."""
        values = self.dense()
        height = min(7.0, max(2.5, 6 * self.shape[0] / self.shape[1]))
        figure = new_figure("explain.matrix", 1.5 + height * min(2.5, self.shape[1] / self.shape[0]), height + 0.8,
                            f"{self.title}\nas a matrix, {self.shape[0]} x {self.shape[1]}")
        axes = figure.subplots()
        bound = np.abs(values).max(initial=0) or 1
        drawn = axes.imshow(values, cmap=signed_colours(), vmin=-bound, vmax=bound, interpolation="nearest")
        axes.set_xlabel("input number (c, ih, iw)")
        axes.set_ylabel("output number (oc, oh, ow)")
        plain_axes(axes)
        figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
        return figure


def matrix(layer: Any, input_shape: Sequence[int]) -> Matrix:
    """The matrix that takes one input (C, H, W) as a vector to the layer's output (OC, OH, OW) without its bias.

    ``layer`` is a Conv1d, Conv2d, ConvTranspose1d or ConvTranspose2d, ``input_shape`` (C, H, W); a batch of such has
    the same matrix for each.  The transpose takes ``grad_output`` to ``grad_input``, and the matrix of a
    ConvTranspose2d is the transpose of that of the Conv2d with the same weight.

    Raises ``TypeError`` for another layer, and what ``explain.shape`` raises.
    """
    need_conv(layer, "matrix")
    shape = tuple(input_shape)[-layer.sides - 1:]
    taps = read(layer, shape)
    OC, seen, *kernel = taps.kernels.shape
    sizes, outputs = shape[1:], taps.case.output_shape[1:]
    channels = np.stack([taps.channels(oc) for oc in range(OC)])  # (OC, C/groups)
    # All of (OC, C/groups, O..., K...), then those where a tap meets an input number.
    sides = len(kernel)
    axes = (OC, seen, *outputs, *kernel)
    place = np.zeros(axes, np.int64)
    met = np.ones(axes, bool)
    for i, (side, size) in enumerate(zip(taps.sources, sizes, strict=True)):
        laid = [1] * len(axes)
        laid[2 + i], laid[2 + sides + i] = side.shape
        place = place * size + side.reshape(laid)
        met &= side.reshape(laid) >= 0
    columns = channels.reshape(OC, seen, *[1] * 2 * sides) * int(np.prod(sizes)) + place
    pixels = np.arange(np.prod(outputs)).reshape(1, 1, *outputs, *[1] * sides)
    rows = np.arange(OC).reshape(OC, *[1] * (len(axes) - 1)) * int(np.prod(outputs)) + pixels
    values = taps.kernels.reshape(OC, seen, *[1] * sides, *kernel)
    return Matrix(f"{layer} over {shape}", (OC * int(np.prod(outputs)), int(np.prod(shape))),
                  np.broadcast_to(rows, axes)[met], columns[met], np.broadcast_to(values, axes)[met])
