"""The two pictures of a training run, drawn with matplotlib: its curves, and the images that it got wrong."""

from pathlib import Path
from typing import Any

import numpy as np
from whole_file import whole_file

CURVES = "curves.png"
MISTAKES = "mistakes.png"

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"


def draw_curves(path: Path, title: str, history: list[dict[str, float]], losses: list[float], rates: list[float],
                steps_per_epoch: int) -> None:
    """Loss, accuracy and learning rate over the epochs: ``history`` has a row per epoch, the lists a value per step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    loss, accuracy, rate = figure.subplots(1, 3)
    steps = np.arange(1, len(losses) + 1) / steps_per_epoch
    epochs = [row["epoch"] for row in history]

    loss.plot(steps, losses, color=BLUE, alpha=0.25, linewidth=0.7, label="training, each batch")
    loss.plot(epochs, [row["train_loss"] for row in history], "o-", color=BLUE, markersize=4, label="training")
    loss.plot(epochs, [row["test_loss"] for row in history], "s-", color=ORANGE, markersize=4, label="test")
    loss.set(yscale="log", ylabel="cross-entropy (nats)", title="Loss")

    accuracy.plot(epochs, [100 * row["train_accuracy"] for row in history], "o-", color=BLUE, markersize=4,
                  label="training")
    accuracy.plot(epochs, [100 * row["test_accuracy"] for row in history], "s-", color=ORANGE, markersize=4,
                  label="test")
    # The first epoch is far below the others; they are the ones to tell apart.
    lowest = min(min(row["train_accuracy"], row["test_accuracy"]) for row in history[1:] or history)
    accuracy.set(ylabel="right answers (%)", title="Accuracy", ylim=(100 * lowest - 1, 100.2))

    rate.plot(steps, rates, color=GREEN)
    rate.set(ylabel="learning rate", title="Schedule (one cycle)", ylim=(0, None))

    for axes in (loss, accuracy, rate):
        axes.set(xlabel="epoch", xlim=(0, max(epochs) + 0.3))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    loss.legend(fontsize=8, frameon=False)
    accuracy.legend(fontsize=8, frameon=False, loc="lower right")
    _save(figure, path)


def draw_mistakes(path: Path, title: str, images: Any, labels: Any, beliefs: Any, classes: list[str],
                  rows: int = 4, columns: int = 6) -> int:
    """The wrongly recognized ``images`` (N, 28, 28), those first of which the network was surest; returns how many.

    ``beliefs`` (N, 10) are the probabilities that the network gave to the classes, drawn as bars under each image.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    answers = beliefs.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    wrong = wrong[np.argsort(-beliefs[wrong, answers[wrong]], kind="stable")]
    figure = Figure(figsize=(1.65 * columns, 2.35 * rows + 0.9), dpi=80)
    cells = figure.add_gridspec(rows, columns, left=0.03, right=0.97, top=1 - 0.95 / figure.get_figheight(),
                                bottom=0.03, hspace=0.28, wspace=0.25)
    figure.suptitle(f"{title}: {len(wrong)} of {len(labels):,} test images are wrong, "
                    f"{min(len(wrong), rows * columns)} shown, the surest first", fontsize=11)
    meaning = [Patch(color=ORANGE, label="what the network believes"), Patch(color=BLUE, label="the truth")]
    figure.legend(handles=meaning, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.3 / figure.get_figheight()),
                  ncols=2, fontsize=9, frameon=False)
    for cell, n in zip(cells, wrong, strict=False):
        truth, answer = int(labels[n]), int(answers[n])
        image, bars = cell.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.04).subplots()
        image.imshow(images[n], cmap="gray_r")
        image.set_axis_off()
        sure = _percent(beliefs[n, answer])
        image.set_title(f"says {classes[answer]} ({sure}), is {classes[truth]}", fontsize=8, pad=3)
        colours = [ORANGE if k == answer else BLUE if k == truth else GREY for k in range(len(classes))]
        bars.bar(range(len(classes)), beliefs[n], color=colours)
        bars.set(ylim=(0, 1), yticks=[], xticks=range(len(classes)))
        bars.tick_params(labelsize=6.5, length=0, pad=1)
        bars.spines[["top", "right", "left"]].set_visible(False)
    _save(figure, path)
    return len(wrong)


def _percent(share: float) -> str:
    return f"{100 * min(share, 0.999):.0f} %" if share < 0.995 else f"{100 * min(share, 0.999):.1f} %"


def _save(figure: Any, path: Path) -> None:
    with whole_file(path) as part:
        figure.savefig(part, format="png")
