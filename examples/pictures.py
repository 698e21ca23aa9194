"""The pictures of a training run as files, drawn by ``minidl.explain``; none is ever half written."""

from pathlib import Path
from typing import Any

from whole_file import whole_file

from minidl import explain

CURVES = "curves.png"
MISTAKES = "mistakes.png"
CONFUSION = "confusion.png"
FILTERS = "filters.png"
ACTIVATIONS = "activations.png"
PICTURES = (CURVES, MISTAKES, CONFUSION, FILTERS, ACTIVATIONS)


def draw_curves(path: Path, title: str, history: list[dict[str, float]], losses: list[float],
                rates: list[float]) -> None:
    """Loss, accuracy and learning rate: ``history`` has a row per epoch, the lists a value per step."""
    save(explain.curves(history, losses, rates, title), path)


def draw_mistakes(path: Path, title: str, images: Any, labels: Any, beliefs: Any, classes: list[str]) -> None:
    """The ``images`` that were taken for something else, those first of which the network was surest."""
    save(explain.mistakes(images, labels, beliefs, classes, title=title), path)


def draw_network(folder: Path, net: Any, image: Any, classes: list[str]) -> None:
    """The first layer's kernels, and what each layer makes of one ``image`` (1, 1, 28, 28)."""
    save(explain.filters(net), folder / FILTERS)
    save(explain.activations(net, image, classes=classes).figure, folder / ACTIVATIONS)


def draw_confusion(path: Path, labels: Any, beliefs: Any, classes: list[str]) -> None:
    """Which class was taken for which."""
    save(explain.confusion(labels, beliefs, classes).figure(), path)


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole_file(path) as part:
        figure.savefig(part, format="png")
