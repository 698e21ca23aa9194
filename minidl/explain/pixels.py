"""``explain.pixel``: one number of a convolution's output, taken apart."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from minidl.explain.taps import Taps, as_batch, need_conv, output_of, read
from minidl.explain.text import Text, by, html_matrix, matrix, number, side_by_side


@dataclass(frozen=True, repr=False)
class Pixel(Text):
    """One output number and what it is made of, as float64.

    ``channels`` are the input channels that it sees (C/groups of them), ``windows``, ``kernels`` and ``products`` are
    (C/groups, K...), ``sums`` (C/groups,); ``value`` is ``sums.sum() + bias``.  ``padding`` (K...) says which taps lie
    in the padding (of a transposed convolution: beyond the input); in a padding of zeros the window is 0 there.
    ``sources`` has, for each side, the row or column of the input that each tap meets, or -1.  ``output`` is what the
    layer itself gives.
    """

    layer: str
    position: tuple[int, ...]
    padding_mode: str
    transposed: bool
    channels: tuple[int, ...]
    windows: np.ndarray
    kernels: np.ndarray
    padding: np.ndarray
    sources: tuple[tuple[int, ...], ...]
    bias: float
    output: float

    @property
    def products(self) -> np.ndarray:
        """Window times kernel, element by element."""
        return self.windows * self.kernels

    @property
    def sums(self) -> np.ndarray:
        """The sum of each channel's products."""
        return self.products.reshape(len(self.channels), -1).sum(1)

    @property
    def value(self) -> float:
        """The sum over the channels, and the bias."""
        return float(self.sums.sum() + self.bias)

    def lines(self) -> list[str]:
        lines = [self.layer, self._where(), ""]
        for i, c in enumerate(self.channels):
            lines += side_by_side((f"channel {c}: window", matrix(self.windows[i], self.padding)),
                                  ("kernel", matrix(self.kernels[i])), ("products", matrix(self.products[i])))
            lines += [f"sum of the products: {number(self.sums[i])}", ""]
        lines += [self._total(), self._compared()]
        return lines + ([self._legend()] if self._legend() else [])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{c}</td><td>{html_matrix(self.windows[i], self.padding)}</td><td>·</td>"
            f"<td>{html_matrix(self.kernels[i])}</td><td>=</td><td>{html_matrix(self.products[i])}</td>"
            f"<td>{number(self.sums[i])}</td></tr>" for i, c in enumerate(self.channels))
        head = "".join(f"<th>{word}</th>" for word in ("channel", "window", "", "kernel", "", "products", "sum"))
        texts = (self._total(), self._compared(), self._legend())
        return (f"<p><b>{escape(self.layer)}</b><br>{escape(self._where())}</p><table><thead><tr>{head}</tr></thead>"
                f"<tbody>{rows}</tbody></table><p>{'<br>'.join(escape(text) for text in texts if text)}</p>")

    def _where(self) -> str:
        n, oc, *place = self.position
        names = ("oh", "ow") if len(place) == 2 else ("ol",)
        where = ", ".join(f"{name}={value}" for name, value in zip(names, place, strict=True))
        return f"output[n={n}, oc={oc}, {where}] is a sum of {by(self.windows.shape)} products"

    def _total(self) -> str:
        terms = " + ".join(number(each) if each >= 0 else f"({number(each)})" for each in (*self.sums, self.bias))
        channels = "channels" if len(self.channels) > 1 else "channel"
        return f"value = {channels} and bias = {terms} = {number(self.value)}"

    def _compared(self) -> str:
        return f"the layer itself says {number(self.output)}; the difference is {abs(self.value - self.output):.1e}"

    def _legend(self) -> str:
        if self.transposed:
            missed = -1 in sum(self.sources, ())
            return "0 in a window: no input number meets this tap; [ ]: beyond the input" if missed else ""
        filled = "zeros" if self.padding_mode == "zeros" else f"filled by {self.padding_mode}"
        return f"[ ] lies in the padding ({filled})" if self.padding.any() else ""


def pixel(layer: Any, input: Any, n: int, oc: int, *place: int, **named: int) -> Pixel:
    """Take apart the output number ``[n, oc, oh, ow]`` of a convolution layer, or ``[n, oc, ol]`` of one over lines.

    ``layer`` is a Conv1d, Conv2d, ConvTranspose1d or ConvTranspose2d; ``input`` (N, C, H, W) or (C, H, W), a tensor or
    an array; the place is given in order, or by name: ``oh=``, ``ow=``, ``ol=``.  The arithmetic is float64.

    Raises ``TypeError`` for another layer, ``IndexError`` for a place outside of the output, and what ``explain.shape``
    raises for an input that does not fit.
    """
    need_conv(layer, "pixel")
    batch = as_batch(layer, input)
    taps = read(layer, tuple(batch.shape))
    position = checked_position("pixel", taps.case.output_shape, n, oc, place, named)
    return taken_apart(layer, batch.numpy().astype(np.float64), taps, output_of(layer, batch), position)


def taken_apart(layer: Any, images: np.ndarray, taps: Taps, output: np.ndarray, position: tuple[int, ...]) -> Pixel:
    """The pixel at ``position`` of ``images`` (N, C, ...), whose taps and output are known already."""
    n, oc, *place = position
    sources = [side[at] for side, at in zip(taps.sources, place, strict=True)]
    met = functools.reduce(np.logical_and.outer, [side >= 0 for side in sources])
    channels = taps.channels(oc)
    windows = np.where(met, images[n][np.ix_(channels, *sources)], 0.0)
    padding = functools.reduce(np.logical_or.outer, [side[at] for side, at in zip(taps.framed, place, strict=True)])
    return Pixel(str(layer), position, taps.case.padding_mode, layer.transposed, tuple(map(int, channels)), windows,
                 taps.kernels[oc], padding, tuple(tuple(map(int, side)) for side in sources), float(taps.bias[oc]),
                 float(output[position]))


def checked_position(what: str, shape: tuple[int, ...], n: int, oc: int, place: tuple[int, ...],
                     named: dict[str, int]) -> tuple[int, ...]:
    """The whole index into an output of ``shape``."""
    names = ("ol",) if len(shape) == 3 else ("oh", "ow")
    unknown = [name for name in named if name not in names[len(place):]]
    if unknown or len(place) + len(named) != len(names):
        raise TypeError(f"explain.{what}: a place in the output {shape} is n, oc, {', '.join(names)}; got {len(place)} "
                        f"numbers after oc{''.join(f' and {name}=' for name in named)}")
    position = (n, oc, *place, *(named[name] for name in names[len(place):]))
    for name, at, size in zip(("n", "oc", *names), position, shape, strict=True):
        if not 0 <= at < size:
            raise IndexError(f"explain.{what}: {name}={at} is outside of the output {shape}: {name} is 0 to {size - 1}")
    return position
