"""``explain.algorithms``: five ways to compute one convolution, each in a dozen lines, timed against the layer.

Every way takes ``input`` (N, C, H, W), ``weight`` (OC, C/groups, KH, KW), ``bias`` (OC,) or None and the geometry
``g``, and gives the output (N, OC, OH, OW).  The shifted sums are ``minidl``'s own reference, which judges its kernels.
"""

from __future__ import annotations

import inspect
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minidl import nn
from minidl._devices.reference.conv import ConvReference
from minidl.autograd import no_grad
from minidl.backends.cpu import conv_plan
from minidl.explain.style import new_figure, plain_axes, signed_colours
from minidl.explain.taps import as_batch
from minidl.explain.text import Text, html_table, table
from minidl.geometry import Conv2dGeometry, conv2d_geometry
from minidl.nn import functional as F

MOST_LOOPS = 3_000_000  # multiply-adds that Python's loops are asked for: some seconds


def direct_loops(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry) -> np.ndarray:
    """The definition: for every output number the sum over its window."""
    padded = _framed(input, g)
    output = np.zeros(g.output_shape, input.dtype)
    for n, oc, oh, ow in np.ndindex(*g.output_shape):
        first = oc // (g.OC // g.groups) * (g.C // g.groups)  # of the channels that this group sees
        total = 0 if bias is None else bias[oc]
        for c, kh, kw in np.ndindex(*weight.shape[1:]):
            ih, iw = oh * g.stride_h + kh * g.dilation_h, ow * g.stride_w + kw * g.dilation_w
            total += weight[oc, c, kh, kw] * padded[n, first + c, ih, iw]
        output[n, oc, oh, ow] = total
    return output


def im2col_product(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry) -> np.ndarray:
    """One matrix product per image and group: the kernels as rows times the windows as columns."""
    kernels = weight.reshape(g.groups, g.OC // g.groups, -1)
    output = (kernels @ columns(input, g)).reshape(g.output_shape)
    return output if bias is None else output + bias.reshape(1, -1, 1, 1)


def columns(input: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    """im2col, (N, groups, C/groups*KH*KW, OH*OW): a row for each tap of each channel, a column for each output
    pixel."""
    padded = _framed(input, g)
    taps = [
        padded[:, :, top:top + (g.OH - 1) * g.stride_h + 1:g.stride_h,
               left:left + (g.OW - 1) * g.stride_w + 1:g.stride_w]
        for top in range(0, g.KH * g.dilation_h, g.dilation_h) for left in range(0, g.KW * g.dilation_w, g.dilation_w)
    ]
    return np.stack(taps, axis=2).reshape(g.N, g.groups, -1, g.OH * g.OW)


def fourier(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry) -> np.ndarray:
    """A product of spectra: correlation is multiplication by the conjugate.  The stride only picks from the result."""
    padded = _framed(input, g)
    PH, PW = padded.shape[2:]
    taps = np.zeros((g.OC, g.C // g.groups, PH, PW), input.dtype)
    taps[:, :, :g.KH * g.dilation_h:g.dilation_h, :g.KW * g.dilation_w:g.dilation_w] = weight
    spectrum = np.fft.rfft2(padded).reshape(g.N, g.groups, g.C // g.groups, PH, -1)
    kernels = np.fft.rfft2(taps).conj().reshape(g.groups, g.OC // g.groups, g.C // g.groups, PH, -1)
    product = np.einsum("ngchw,gochw->ngohw", spectrum, kernels).reshape(g.N, g.OC, PH, -1)
    everywhere = np.fft.irfft2(product, (PH, PW))  # around the edges it wraps: those pixels are not asked for
    rows, steps = (g.OH - 1) * g.stride_h + 1, (g.OW - 1) * g.stride_w + 1
    output = everywhere[:, :, :rows:g.stride_h, :steps:g.stride_w].astype(input.dtype)
    return output if bias is None else output + bias.reshape(1, -1, 1, 1)


# F(2x2, 3x3) of Lavin and Gray (https://arxiv.org/abs/1509.09308): 16 products for four outputs instead of 36.
_DATA = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_INVERSE = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def winograd(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry) -> np.ndarray:
    """Tiles of 4x4 pixels become 2x2 outputs by 16 products per channel; 3x3 with stride and dilation 1 only."""
    data, kernel, inverse = (matrix.astype(input.dtype) for matrix in (_DATA, _KERNEL, _INVERSE))
    padded = np.pad(_framed(input, g), ((0, 0), (0, 0), (0, g.OH % 2), (0, g.OW % 2)))  # whole tiles
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(2, 3))[:, :, ::2, ::2]
    seen = (data @ tiles @ data.T).reshape(g.N, g.groups, g.C // g.groups, *tiles.shape[2:])
    kernels = (kernel @ weight @ kernel.T).reshape(g.groups, g.OC // g.groups, g.C // g.groups, 4, 4)
    products = np.einsum("gocij,ngctuij->ngotuij", kernels, seen)
    output = (inverse @ products @ inverse.T).reshape(g.N, g.OC, *tiles.shape[2:4], 2, 2)
    output = output.swapaxes(3, 4).reshape(g.N, g.OC, 2 * tiles.shape[2], 2 * tiles.shape[3])[:, :, :g.OH, :g.OW]
    return output if bias is None else output + bias.reshape(1, -1, 1, 1)


WAYS: dict[str, Callable[..., np.ndarray]] = {
    "direct loops": direct_loops, "shifted sums": ConvReference().conv2d, "im2col + product": im2col_product,
    "FFT": fourier, "Winograd": winograd}


@dataclass(frozen=True)
class Way:
    """``seconds`` of the fastest call and the largest ``difference`` to the layer; None and a ``reason`` if left
    out."""

    name: str
    seconds: float | None
    difference: float | None
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Algorithms(Text):
    """The ways beside the layer itself, and its column matrix.

    ``ways`` has the layer first; ``outputs`` the result of each way by its name; ``columns`` is the column matrix of
    the first image and group, (C/groups*KH*KW, OH*OW), ``kernels`` the matrix (OC/groups, C/groups*KH*KW) before it.
    """

    layer: str
    geometry: Conv2dGeometry
    ways: tuple[Way, ...]
    outputs: dict[str, np.ndarray]
    columns: np.ndarray
    kernels: np.ndarray

    def lines(self) -> list[str]:
        return [f"{self.layer}, input {self.geometry.input_shape} to {self.geometry.output_shape}", "",
                *table(*self._table()), *self._reasons()]

    def _repr_html_(self) -> str:
        return (f"<p><b>{self.layer}</b>, input {self.geometry.input_shape}</p>{html_table(*self._table())}"
                f"<p>{'<br>'.join(self._reasons())}</p>")

    def _table(self) -> tuple[list[str], list[list[str]]]:
        fastest = self.ways[0].seconds or 1e-9
        rows = [[way.name, f"{way.seconds * 1e3:.3g} ms", f"{way.seconds / fastest:,.1f}x", f"{way.difference:.1e}"]
                for way in self.ways if way.seconds is not None]
        return ["way", "time", "beside minidl", "largest difference"], rows

    def _reasons(self) -> list[str]:
        return [f"{way.name} is left out: {way.reason}" for way in self.ways if way.reason]

    def source(self, name: str) -> str:
        """The lines of a way, by its name in the table."""
        if name not in WAYS:
            raise ValueError(f"explain.algorithms: there is no way {name!r}; there are {', '.join(WAYS)}")
        return textwrap.dedent(inspect.getsource(WAYS[name]))

    def figure(self) -> Any:
        """The matrix product behind the first group of the first image, drawn: kernels @ columns = output."""
        g = self.geometry
        product = self.kernels @ self.columns
        parts = ((f"kernels\n(OC/groups,\nC/groups*KH*KW)\n{_by(self.kernels)}", "tap (c, kh, kw)", "output channel",
                  self.kernels),
                 (f"column matrix\n(C/groups*KH*KW, OH*OW)\n{_by(self.columns)}", "output pixel (oh, ow): a window",
                  "tap (c, kh, kw)", self.columns),
                 (f"output\n(OC/groups, OH*OW)\n{_by(product)}", "output pixel (oh, ow)", "output channel", product))
        widths = [max(part.shape[1], 0.35 * self.columns.shape[1]) for *_, part in parts]
        height = 1.8 + min(3.6, max(1.6, 9 * len(self.columns) / sum(widths)))
        figure = new_figure("explain.algorithms", 10.5, height, f"im2col: {self.layer} as one matrix product")
        taps = g.KH * g.KW
        for axes, (title, x, y, values), sign in zip(
                figure.subplots(1, 3, width_ratios=widths), parts, ("@", "=", ""), strict=True):
            bound = np.abs(values).max() or 1
            drawn = axes.imshow(values, cmap=signed_colours(), vmin=-bound, vmax=bound, interpolation="nearest",
                                aspect="auto")
            axes.set_title(title, fontsize=9)
            axes.set_xlabel(x, fontsize=8)
            axes.set_ylabel(y, fontsize=8)
            plain_axes(axes)
            axes.annotate(sign, (1.02, 0.5), xycoords="axes fraction", fontsize=14, va="center", annotation_clip=False)
            for c in range(1, self.columns.shape[0] // taps):  # a line between the channels
                if values is self.columns:
                    axes.axhline(c * taps - 0.5, color="black", linewidth=0.6)
                elif values is self.kernels:
                    axes.axvline(c * taps - 0.5, color="black", linewidth=0.6)
            figure.colorbar(drawn, ax=axes, orientation="horizontal", fraction=0.08,
                            pad=0.02).ax.tick_params(labelsize=7)
        return figure


def algorithms(layer: Any, input: Any) -> Algorithms:
    """Compute ``layer(input)`` in five more ways and compare: time, and the largest difference.

    ``layer`` is a Conv2d, ``input`` (N, C, H, W) or (C, H, W).  The arithmetic is the layer's dtype: in float64 all
    agree to 1e-10.  Direct loops in Python are left out above 3 million multiply-adds, Winograd where it does not
    apply; the reason stands in the table.  Times are the smallest of a few calls and differ from run to run.

    Raises ``TypeError`` for another layer, and what the layer raises for an input that does not fit.
    """
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"explain.algorithms: needs a Conv2d, got {type(layer).__name__}")
    batch = as_batch(layer, input)
    padding: Any = layer.padding
    with no_grad():
        seconds, expected = _timed(lambda: layer(batch).numpy())
        if layer.padding_mode != "zeros":
            batch, padding = F.pad(batch, layer._frame(), layer.padding_mode), 0
        weight = layer.weight.detach().numpy()
        bias = None if layer.bias is None else layer.bias.detach().numpy()
    options = tuple(batch.shape), weight.shape, layer.stride, padding, layer.dilation, layer.groups
    g = conv2d_geometry(*options)
    kernel = conv_plan(*options, dtype=layer.weight.dtype).forward.kernel
    ways, outputs = [Way(f"minidl: {kernel}", seconds, 0.0)], {}
    images = batch.numpy()
    for name, way in WAYS.items():
        reason = _left_out(name, g)
        if reason:
            ways.append(Way(name, None, None, reason))
            continue
        seconds, outputs[name] = _timed(partial(way, images, weight, bias, g))
        ways.append(Way(name, seconds, float(np.abs(outputs[name] - expected).max(initial=0))))
    kernels = weight.reshape(g.groups, g.OC // g.groups, -1)[0]
    return Algorithms(str(layer), g, tuple(ways), outputs, columns(images, g)[0, 0], kernels)


def _left_out(name: str, g: Conv2dGeometry) -> str:
    """Why a way is not taken, or nothing."""
    work = g.N * g.OC * g.OH * g.OW * (g.C // g.groups) * g.KH * g.KW
    if name == "direct loops" and work > MOST_LOOPS:
        return f"{work:,} multiply-adds are too many for Python"
    if name == "Winograd" and (g.KH, g.KW, g.stride_h, g.stride_w, g.dilation_h, g.dilation_w) != (3, 3, 1, 1, 1, 1):
        return "F(2x2, 3x3) is for kernels of 3x3 with stride 1 and dilation 1"
    return ""


def _timed(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """The smallest time of up to five calls, fewer where they take long, and the result."""
    times: list[float] = []
    while len(times) < 5 and sum(times) < 0.2:
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def _framed(input: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    """The input in its padding of zeros."""
    return np.pad(input, ((0, 0), (0, 0), (g.pad_top, g.pad_bottom), (g.pad_left, g.pad_right)))


def _by(values: np.ndarray) -> str:
    return " x ".join(map(str, values.shape))
