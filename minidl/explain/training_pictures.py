"""Pictures of a training run: what the network learned, what it makes of an image, where it errs, how it got there."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minidl._tensor import Tensor
from minidl.autograd import no_grad
from minidl.explain.networks import leaves
from minidl.explain.style import BLUE, GREEN, GREY, ORANGE, need, new_figure, plain_axes, signed_colours
from minidl.explain.taps import kernels_of
from minidl.explain.text import Text, html_table, table
from minidl.nn import Module
from minidl.nn.conv import ConvNd
from minidl.ops.creation import as_tensor

_MOST = 16  # kernels, channels or maps in a row of a picture


def filters(model: Module, layer: str | None = None) -> Any:
    """A figure of the kernels that a convolution has learned: a column for each, its channels below each other.

    ``layer`` is the path of a Conv2d or ConvTranspose2d in ``model``, by default the first.  Kernels over three
    channels are drawn in colour, each stretched to the full range.  There is room for 16 kernels and channels.

    Raises ``TypeError`` for a layer that is none over images, ``ValueError`` where there is none.
    """
    found = dict(model.named_modules())
    if layer is None:
        layer = next((path for path, module in found.items() if isinstance(module, ConvNd) and module.sides == 2), None)
        if layer is None:
            raise ValueError(f"explain.filters: {type(model).__name__} has no Conv2d and no ConvTranspose2d")
    conv = found.get(layer)
    if not isinstance(conv, ConvNd) or conv.sides != 2:
        raise TypeError(f"explain.filters: {layer!r} is {'no layer' if conv is None else type(conv).__name__}; a "
                        "Conv2d or ConvTranspose2d has filters to be seen")
    kernels = kernels_of(conv)
    OC, C = kernels.shape[:2]
    coloured = C == 3
    rows, columns = 1 if coloured else min(C, _MOST), min(OC, _MOST)
    some = "" if (OC <= _MOST and (coloured or C <= _MOST)) else f"; {columns} of {OC} kernels, {rows} of {C} channels"
    figure = new_figure("explain.filters", max(0.75 * columns + 1.4, 5), 0.75 * rows + 1.2,
                        f"{layer or type(model).__name__}: {OC} kernels over {C} channel{'s' if C > 1 else ''}{some}")
    grid = figure.subplots(rows, columns, squeeze=False)
    bound = np.abs(kernels).max() or 1
    drawn = None
    for oc in range(columns):
        grid[0, oc].set_title(f"kernel {oc}" if columns < 10 else str(oc), fontsize=7)
        for c in range(rows):
            axes = grid[c, oc]
            if coloured:
                low, high = kernels[oc].min(), kernels[oc].max()
                axes.imshow(np.moveaxis((kernels[oc] - low) / ((high - low) or 1), 0, -1), interpolation="nearest")
            else:
                drawn = axes.imshow(kernels[oc, c], cmap=signed_colours(), vmin=-bound, vmax=bound,
                                    interpolation="nearest")
            plain_axes(axes)
            if oc == 0 and not coloured:
                axes.set_ylabel(f"channel {c}", fontsize=7)
    if drawn is not None:
        figure.colorbar(drawn, ax=grid, fraction=0.03, pad=0.01).set_label("weight", fontsize=8)
    return figure


class Activations(NamedTuple):
    """The picture, and what each layer made of the whole input: path -> array (N, ...), in the order of the calls."""

    figure: Any
    maps: dict[str, np.ndarray]


def activations(model: Module, input: Any, n: int = 0, classes: Sequence[str] | None = None) -> Activations:
    """What every layer of ``model`` makes of image ``n`` of ``input`` (N, C, H, W): a row of maps for each layer.

    Layers that give numbers instead of maps are drawn as bars; ``classes`` names those of the last.  The model runs in
    ``eval()`` and is left as it was.  There is room for 16 maps of a layer.

    Raises ``TypeError`` for what is no Module, ``IndexError`` for an ``n`` that is not there, ``ImportError`` without
    matplotlib, and what the model raises for an input that does not fit.
    """
    if not isinstance(model, Module):
        raise TypeError(f"explain.activations: needs a Module, got {type(model).__name__}")
    batch = as_tensor(input).detach()
    if not 0 <= n < len(batch):
        raise IndexError(f"explain.activations: there is no image {n}; the input {tuple(batch.shape)} has {len(batch)}")
    maps: dict[str, np.ndarray] = {}
    kinds: dict[str, str] = {}

    def noting(path: str) -> Any:
        def note(module: Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                maps[path], kinds[path] = output.detach().cpu().numpy().copy(), type(module).__name__

        return note

    with leaves(model) as paths, no_grad():
        handles = [module.register_forward_hook(noting(path or type(module).__name__)) for path, module in paths]
        try:
            model(batch)
        finally:
            for handle in handles:
                handle.remove()
    rows = [("input", batch.cpu().numpy()[n], "")]
    rows += [(path, made[n], kinds[path]) for path, made in maps.items()]
    return Activations(_drawn_activations(rows, type(model).__name__, classes), maps)


def _drawn_activations(rows: list[tuple[str, np.ndarray, str]], title: str, classes: Sequence[str] | None) -> Any:
    """A row for each layer: (path, maps (C, H, W) or numbers (K,), kind); flattened maps are left out."""
    rows = [row for row in rows if row[2] != "Flatten"]
    columns = min(_MOST, max([len(values) for _, values, _ in rows if values.ndim == 3], default=1))
    figure = new_figure("explain.activations", max(0.72 * columns, 6) + 1.6, 0.78 * len(rows) + 0.8,
                        f"{title}: what each layer makes of one image")
    grid = figure.add_gridspec(len(rows), columns)
    for i, (path, values, kind) in enumerate(rows):
        label = f"{path}\n{kind}" if kind else path
        if values.ndim == 3:
            bound, signed = np.abs(values).max() or 1, values.min() < 0
            for c in range(min(len(values), columns)):
                axes = figure.add_subplot(grid[i, c])
                axes.imshow(values[c], cmap=signed_colours() if signed else "gray", interpolation="nearest",
                            vmin=-bound if signed else 0, vmax=bound)
                plain_axes(axes)
                if c == 0:
                    axes.set_ylabel(label, fontsize=7, rotation=0, ha="right", va="center")
            continue
        axes = figure.add_subplot(grid[i, :])
        flat = values.ravel()
        last = i == len(rows) - 1
        axes.bar(range(len(flat)), flat, color=[ORANGE if last and k == flat.argmax() else BLUE
                                                for k in range(len(flat))])
        axes.set_ylabel(label, fontsize=7, rotation=0, ha="right", va="center")
        axes.set(xticks=[], yticks=[0], yticklabels=[], xlim=(-0.6, len(flat) - 0.4))
        axes.axhline(0, color=GREY, linewidth=0.6)
        if last and classes is not None:
            axes.set_xticks(range(len(flat)), list(classes), fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


@dataclass(frozen=True, repr=False)
class Confusion(Text):
    """``counts[truth, answer]`` of a classifier; prints as a table, ``figure()`` draws it."""

    counts: np.ndarray
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(np.trace(self.counts) / max(self.counts.sum(), 1))

    def lines(self) -> list[str]:
        return [self._title(), "", *table(*self._table())]

    def _repr_html_(self) -> str:
        return f"<p>{self._title()}</p>{html_table(*self._table())}"

    def figure(self) -> Any:
        """The table in colours: the right answers are counted on the diagonal, the colours show the mistakes."""
        size = len(self.classes)
        figure = new_figure("explain.confusion", 0.48 * size + 2.6, 0.46 * size + 1.6, self._title())
        axes = figure.subplots()
        wrong = np.where(np.eye(size, dtype=bool), 0, self.counts)
        drawn = axes.imshow(wrong, cmap="Blues", vmin=0, vmax=max(wrong.max(initial=0), 1))
        for (truth, answer), count in np.ndenumerate(self.counts):
            if count:
                dark = wrong[truth, answer] > 0.55 * wrong.max(initial=0) and truth != answer
                axes.text(answer, truth, f"{count:,}", ha="center", va="center", fontsize=8,
                          color="white" if dark else "black", fontweight="bold" if truth == answer else "normal")
        axes.set(xlabel="answer", ylabel="truth")
        turned = {"rotation": 45, "ha": "right"} if max(map(len, self.classes)) > 3 else {}
        axes.set_xticks(range(size), self.classes, fontsize=8, **turned)
        axes.set_yticks(range(size), self.classes, fontsize=8)
        figure.colorbar(drawn, ax=axes, fraction=0.045, pad=0.02).set_label("wrong answers", fontsize=8)
        return figure

    def _title(self) -> str:
        return f"{100 * self.accuracy:.2f} % of {self.counts.sum():,} answers are right"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        return (["truth \\ answer", *self.classes],
                [[name, *(str(count) if count else "." for count in row)]
                 for name, row in zip(self.classes, self.counts, strict=True)])


def confusion(labels: Any, answers: Any, classes: Sequence[str] | None = None) -> Confusion:
    """Count which class was taken for which.

    ``labels`` (N,) are the true classes, ``answers`` the classes (N,) that were said, or logits (N, K); ``classes``
    names them.  Tensors or arrays.

    Raises ``ValueError`` for shapes that do not belong together, or a class without a name.
    """
    truth, said = (np.asarray(as_tensor(given).detach().cpu().numpy()) for given in (labels, answers))
    found = said.shape[1] if said.ndim == 2 else 0
    said = said.argmax(1) if said.ndim == 2 else said
    if truth.ndim != 1 or truth.shape != said.shape:
        raise ValueError(f"explain.confusion: labels (N,) and answers (N,) or (N, K) belong together, got "
                         f"{truth.shape} and {said.shape}")
    highest = int(max(truth.max(initial=-1), said.max(initial=-1)))
    size = max(highest + 1, found) if classes is None else len(classes)
    if highest >= size or min(truth.min(initial=0), said.min(initial=0)) < 0:
        raise ValueError(f"explain.confusion: classes are 0 to {size - 1}, got "
                         f"{min(truth.min(initial=0), said.min(initial=0))} to {highest}")
    counts = np.bincount(truth.astype(np.int64) * size + said.astype(np.int64), minlength=size * size)
    return Confusion(counts.reshape(size, size), tuple(map(str, range(size) if classes is None else classes)))


def curves(record: str | os.PathLike[str] | Sequence[Mapping[str, float]], losses: Sequence[float] = (),
           rates: Sequence[float] = (), title: str = "") -> Any:
    """A figure of loss and accuracy over the epochs, and of the learning rate where ``rates`` are given.

    ``record`` is a CSV file such as the ``run.csv`` of ``examples/train_lenet.py``, or its rows: columns ``epoch``,
    ``train_loss``, ``train_accuracy``, ``test_loss``, ``test_accuracy`` (shares from 0 to 1).  ``losses`` and ``rates``
    have a value for every step of the run.

    Raises ``ValueError`` for a record without rows or without one of these columns.
    """
    if isinstance(record, (str, os.PathLike)):
        with open(record, newline="", encoding="utf-8") as file:
            rows: list[Mapping[str, Any]] = list(csv.DictReader(file))
    else:
        rows = list(record)
    names = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    missing = [name for name in names if not rows or name not in rows[0]]
    if missing:
        raise ValueError(f"explain.curves: the record has {len(rows)} rows and lacks {', '.join(missing)}")
    epochs, train_loss, train_right, test_loss, test_right = (
        np.array([float(row[name]) for row in rows]) for name in names)
    figure = new_figure("explain.curves", 10.5 if len(rates) else 7.2, 3.4, title)
    loss, accuracy, *others = figure.subplots(1, 3 if len(rates) else 2)
    if len(losses):
        loss.plot(np.arange(1, len(losses) + 1) * epochs[-1] / len(losses), losses, color=BLUE, alpha=0.25,
                  linewidth=0.7,
                  label="training, each batch")
    for axes, trained, tested in ((loss, train_loss, test_loss), (accuracy, 100 * train_right, 100 * test_right)):
        axes.plot(epochs, trained, "o-", color=BLUE, markersize=4, label="training")
        axes.plot(epochs, tested, "s-", color=ORANGE, markersize=4, label="test")
    loss.set(yscale="log", ylabel="cross-entropy (nats)", title="Loss")
    # The first epoch is far below the others; they are the ones to tell apart.
    lowest = min(np.concatenate([train_right[1:], test_right[1:]] if len(rows) > 1 else [train_right, test_right]))
    accuracy.set(ylabel="right answers (%)", title="Accuracy", ylim=(100 * lowest - 1, 100.2))
    for axes in others:
        axes.plot(np.arange(1, len(rates) + 1) * epochs[-1] / len(rates), rates, color=GREEN)
        axes.set(ylabel="learning rate", title="Learning rate", ylim=(0, None))
    for axes in (loss, accuracy, *others):
        axes.set(xlabel="epoch", xlim=(0, max(epochs) + 0.3))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    loss.legend(fontsize=8, frameon=False)
    accuracy.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def mistakes(images: Any, labels: Any, beliefs: Any, classes: Sequence[str], rows: int = 4, columns: int = 6,
             title: str = "") -> Any:
    """A figure of the ``images`` (N, H, W) or (N, H, W, 3) that were taken for something else, the surest first.

    ``labels`` (N,) are the true classes, ``beliefs`` (N, K) the probabilities that the network gave to the ``classes``,
    drawn as bars under each image.

    Raises ``ValueError`` for beliefs of another shape than (N, K).
    """
    pictures, truths, shares = (np.asarray(as_tensor(given).detach().cpu().numpy())
                                for given in (images, labels, beliefs))
    if shares.shape != (len(truths), len(classes)):
        raise ValueError(f"explain.mistakes: beliefs must be ({len(truths)}, {len(classes)}), got {shares.shape}")
    answers = shares.argmax(1)
    wrong = np.flatnonzero(answers != truths)
    wrong = wrong[np.argsort(-shares[wrong, answers[wrong]], kind="stable")]
    figure = need("matplotlib.figure", "explain.mistakes").Figure(figsize=(1.65 * columns, 2.35 * rows + 0.9), dpi=80)
    cells = figure.add_gridspec(rows, columns, left=0.03, right=0.97, top=1 - 0.95 / figure.get_figheight(),
                                bottom=0.03,
                                hspace=0.28, wspace=0.25)
    figure.suptitle(f"{title}{': ' if title else ''}{len(wrong)} of {len(truths):,} images are wrong, "
                    f"{min(len(wrong), rows * columns)} shown, the surest first", fontsize=11)
    patch = need("matplotlib.patches", "explain.mistakes").Patch
    meaning = [patch(color=ORANGE, label="what the network believes"), patch(color=BLUE, label="the truth")]
    figure.legend(handles=meaning, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.3 / figure.get_figheight()), ncols=2,
                  fontsize=9, frameon=False)
    for cell, n in zip(cells, wrong, strict=False):
        truth, answer = int(truths[n]), int(answers[n])
        image, bars = cell.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.04).subplots()
        image.imshow(pictures[n], cmap="gray_r")
        image.set_axis_off()
        image.set_title(f"says {classes[answer]} ({_percent(shares[n, answer])}), is {classes[truth]}", fontsize=8,
                        pad=3)
        bars.bar(range(len(classes)), shares[n],
                 color=[ORANGE if k == answer else BLUE if k == truth else GREY for k in range(len(classes))])
        bars.set(ylim=(0, 1), yticks=[], xticks=range(len(classes)))
        bars.tick_params(labelsize=6.5, length=0, pad=1)
        bars.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _percent(share: float) -> str:
    return f"{100 * min(share, 0.999):.0f} %" if share < 0.995 else f"{100 * min(share, 0.999):.1f} %"
