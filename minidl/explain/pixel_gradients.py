"""``explain.pixel_grad``: one number of a gradient, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl._tensor import Tensor
from minidl.autograd import enable_grad, grad
from minidl.explain.taps import Taps, as_batch, need_conv, read
from minidl.explain.text import Text, html_table, number, table
from minidl.ops.creation import as_tensor

_SHOWN = 12  # contributions in the text; all of them are in the arrays


@dataclass(frozen=True, repr=False)
class PixelGrad(Text):
    """One entry of ``grad_weight`` or ``grad_input`` and the products that it is the sum of, as float64.

    ``contributions`` is a structured array with a row per product: the output number that it comes from (``n``, ``oc``,
    ``oh``, ``ow``, or ``ol``), its ``grad_output``, the ``factor`` that it is multiplied by (for a weight: the input
    that the tap saw there; for an input: the weight of the tap ``kh``, ``kw`` that met it), and the ``product``.
    ``grad`` is what autograd itself gives.
    """

    layer: str
    of: str
    index: tuple[int, ...]
    contributions: np.ndarray
    grad: float

    @property
    def value(self) -> float:
        """The sum of the products."""
        return float(self.contributions["product"].sum())

    def lines(self) -> list[str]:
        return [self.layer, *self._about(), "", *table(*self._table(), left=0), *self._rest(), "", self._compared()]

    def _repr_html_(self) -> str:
        about, rest = "<br>".join(self._about()), "<br>".join(self._rest())
        return (f"<p><b>{self.layer}</b><br>{about}</p>{html_table(*self._table(), left=0)}<p>{rest}</p>"
                f"<p>{self._compared()}</p>")

    def _about(self) -> list[str]:
        count = len(self.contributions)
        what = "input number that this weight met" if self.of == "weight" else "weight that met this input number"
        return [f"grad_{self.of}[{', '.join(map(str, self.index))}] is the sum of {count} products: each output number "
                f"that has it in its sum gives grad_output times the {what}"]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        names = [name for name in self.contributions.dtype.names or ()
                 if name not in ("factor", "product", "grad_output")]
        factor = "input" if self.of == "weight" else "weight"
        largest = np.sort(np.argsort(-np.abs(self.contributions["product"]), kind="stable")[:_SHOWN])
        rows = [[*(str(row[name]) for name in names),
                 *(number(row[name]) for name in ("grad_output", "factor", "product"))]
                for row in self.contributions[largest]]
        return [*names, "grad_output", factor, "product"], rows

    def _rest(self) -> list[str]:
        count = len(self.contributions)
        if count <= _SHOWN:
            return []
        return [f"... the {_SHOWN} largest of {count}; all are in .contributions"]

    def _compared(self) -> str:
        return (f"sum = {number(self.value)}; autograd says {number(self.grad)}; the difference is "
                f"{abs(self.value - self.grad):.1e}")


def pixel_grad(layer: Any, input: Any, index: Sequence[int], of: str = "weight",
               grad_output: Any = None) -> PixelGrad:
    """Take apart one entry of the gradient of a convolution layer's weight or input.

    ``index`` is the entry, as long as the shape: of the weight (OC, C/groups, KH, KW), of a transposed layer (C,
    OC/groups, KH, KW), or with ``of="input"`` of the input with its batch (N, C, H, W).  ``grad_output`` (N, OC, OH,
    OW) is the gradient of the loss with respect to the layer's output; None stands for ones, the gradient of
    ``layer(input).sum()``.  Layers and inputs are those of ``explain.pixel``.

    Raises ``TypeError`` for another layer, ``ValueError`` for another ``of``, ``IndexError`` for an entry that is not
    there, ``RuntimeError`` for a ``grad_output`` of another shape.
    """
    need_conv(layer, "pixel_grad")
    if of not in ("weight", "input"):
        raise ValueError(f"explain.pixel_grad: of must be 'weight' or 'input', got {of!r}")
    batch = as_batch(layer, input)
    taps = read(layer, tuple(batch.shape))
    output_shape = taps.case.output_shape
    grads = np.ones(output_shape) if grad_output is None else as_tensor(grad_output).detach().numpy().astype(np.float64)
    if grads.shape == output_shape[1:]:
        grads = grads[None]
    if grads.shape != output_shape:
        raise RuntimeError(f"explain.pixel_grad: grad_output {grads.shape} must have the output's shape {output_shape}")
    entry = tuple(int(at) for at in index)
    shape = tuple(layer.weight.shape) if of == "weight" else tuple(batch.shape)
    if len(entry) != len(shape) or not all(0 <= at < size for at, size in zip(entry, shape, strict=True)):
        raise IndexError(f"explain.pixel_grad: {entry} is no entry of the {of}, which is {shape}")
    find = _of_weight if of == "weight" else _of_input
    images = batch.numpy().astype(np.float64)
    return PixelGrad(str(layer), of, entry, find(layer, taps, images, grads, entry),
                     _by_autograd(layer, batch, grads, of)[entry])


def _of_weight(layer: Any, taps: Taps, images: np.ndarray, grads: np.ndarray, entry: tuple[int, ...]) -> np.ndarray:
    """A row for each output number whose window has an input number under the tap."""
    first, second, *tap = entry
    groups = taps.case.groups
    if layer.transposed:  # (C, OC/groups, K...)
        c = first
        oc = first // (layer.in_channels // groups) * (layer.out_channels // groups) + second
    else:
        oc = first
        c = int(taps.channels(oc)[second])
    sources = [side[:, k] for side, k in zip(taps.sources, tap, strict=True)]
    met = [np.flatnonzero(side >= 0) for side in sources]
    seen = images[:, c][np.ix_(np.arange(len(images)),
                               *(side[place] for side, place in zip(sources, met, strict=True)))]
    given = grads[:, oc][np.ix_(np.arange(len(images)), *met)]
    places = np.meshgrid(np.arange(len(images)), *met, indexing="ij")
    columns = [places[0].ravel(), np.full(seen.size, oc), *(place.ravel() for place in places[1:])]
    return _rows(("n", "oc", *_names(taps, "o")), columns, given.ravel(), seen.ravel())


def _of_input(layer: Any, taps: Taps, images: np.ndarray, grads: np.ndarray, entry: tuple[int, ...]) -> np.ndarray:
    """A row for each output number and tap that met the input number; one that is repeated in a frame is met there
    too."""
    n, c, *place = entry
    OC, seen = taps.kernels.shape[:2]
    per_group = OC // taps.case.groups
    group = c // seen
    ocs = np.arange(group * per_group, (group + 1) * per_group)
    met = [np.argwhere(side == at) for side, at in zip(taps.sources, place, strict=True)]  # rows (o, k) of each side
    which = np.meshgrid(ocs, *(np.arange(len(pairs)) for pairs in met), indexing="ij")
    oc = which[0].ravel()
    outputs = [pairs[at.ravel(), 0] for pairs, at in zip(met, which[1:], strict=True)]
    tap = [pairs[at.ravel(), 1] for pairs, at in zip(met, which[1:], strict=True)]
    given = grads[n, oc, *outputs]
    weights = taps.kernels[oc, c - group * seen, *tap]
    columns = [np.full(oc.size, n), oc, *outputs, *tap]
    return _rows(("n", "oc", *_names(taps, "o"), *_names(taps, "k")), columns, given, weights)


def _names(taps: Taps, letter: str) -> list[str]:
    sides = ("l",) if taps.case.sides == 1 else ("h", "w")
    return ["k" if letter == "k" and sides == ("l",) else letter + side for side in sides]


def _rows(names: Sequence[str], columns: Sequence[np.ndarray], grads: np.ndarray, factors: np.ndarray) -> np.ndarray:
    fields = [(name, np.int64) for name in names] + [(name, np.float64)
                                                     for name in ("grad_output", "factor", "product")]
    rows = np.empty(len(grads), dtype=fields)
    for name, column in zip(names, columns, strict=True):
        rows[name] = column
    rows["grad_output"], rows["factor"], rows["product"] = grads, factors, grads * factors
    return rows


def _by_autograd(layer: Any, batch: Tensor, grads: np.ndarray, of: str) -> np.ndarray:
    """The whole gradient; nothing is left in ``layer.weight.grad``."""
    leaf = layer.weight if of == "weight" else batch.clone().requires_grad_()
    frozen = not layer.weight.requires_grad
    with enable_grad():
        if of == "weight" and frozen:
            layer.weight.requires_grad_(True)
        try:
            output = layer(batch if of == "weight" else leaf)
            (found,) = grad(output, (leaf,), grad_outputs=(as_tensor(grads).to(output.dtype),))
        finally:
            if frozen:
                layer.weight.requires_grad_(False)
    assert found is not None
    return found.numpy().astype(np.float64)
