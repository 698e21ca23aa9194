"""The page of ``compare_pytorch.py``: everything it found, in six drawings."""

from pathlib import Path
from typing import Any

import numpy as np
from pictures import BLUE, GREEN, GREY, ORANGE

SMALLEST = 1e-18  # stands for "no difference" on a logarithmic axis


def draw_page(path: Path, found: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.2), dpi=100, layout="constrained")
    figure.suptitle(found["title"], fontsize=12)
    (curves, differences, layers), (seconds, memory, accuracy) = figure.subplots(2, 3)
    _draw_curves(curves, found["float32"])
    _draw_differences(differences, found)
    _draw_layers(layers, found["layers"])
    if "seconds" in found:
        _draw_pairs(seconds, {f"batch {size}": pair for size, pair in found["seconds"].items()}, 1e3, "{:.2f}")
        seconds.set(title="One training step", ylabel="median (ms)")
        weights = {"peak memory (MB)": found["memory"], "import (ms)": [1e3 * value for value in found["import"]]}
        _draw_pairs(memory, weights, 1, "{:.0f}")
        memory.set(title="Memory and import", ylabel="MB, ms")
    if "accuracy" in found:
        _draw_pairs(accuracy, {f"{found['epochs']} epochs": found["accuracy"]}, 100, "{:.2f} %")
        accuracy.set(title="Test accuracy", ylabel="right answers (%)",
                     ylim=(max(0, 100 * min(found["accuracy"]) - 3), 100))
    for axes in (curves, differences, layers, seconds, memory, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
        if not axes.has_data():
            axes.set_axis_off()
            axes.text(0.5, 0.5, "not measured", ha="center", color=GREY)
    figure.savefig(path, format="png")


def _draw_curves(axes: Any, curves: dict[str, np.ndarray]) -> None:
    steps = np.arange(1, len(curves["torch"]) + 1)
    axes.plot(steps, curves["torch"], color=ORANGE, linewidth=3, alpha=0.5, label="PyTorch")
    axes.plot(steps, curves["minidl"], color=BLUE, linewidth=1, label="minidl")
    axes.set(title="Loss, float32", xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, None))
    axes.legend(frameon=False)


def _draw_differences(axes: Any, found: dict[str, Any]) -> None:
    for name, other, label, colour in (
        ("float32", "nudged", f"PyTorch, weights moved by {found['nudge']:g}", GREY),
        ("float32", "minidl", "minidl, float32", BLUE),
        ("float64", "minidl", "minidl, float64", GREEN),
    ):
        gap = np.abs(found[name]["torch"] - found[name][other])
        axes.plot(np.arange(1, len(gap) + 1), np.maximum(gap, SMALLEST), color=colour, linewidth=1, label=label)
    axes.set(title="Difference to PyTorch's loss", xlabel="step", ylabel="absolute difference (nats)", yscale="log")
    axes.legend(frameon=False, fontsize=8)


def _draw_layers(axes: Any, rows: list[dict[str, Any]]) -> None:
    places = np.arange(len(rows))
    for key, label, colour, marker in (("output", "output", BLUE, "o"), ("grad_output", "its gradient", ORANGE, "s"),
                                       ("grad_weight", "weight's gradient", GREEN, "^")):
        there = [i for i in places if key in rows[i]]
        axes.plot(there, [max(rows[i][key], 1e-12) for i in there], marker, color=colour, label=label, markersize=5)
    axes.set(title="First step, layer by layer (float32)", ylabel="largest difference", yscale="log")
    axes.set_xticks(places, [row["layer"] for row in rows], rotation=60, fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _draw_pairs(axes: Any, pairs: dict[str, Any], scale: float, form: str) -> None:
    """Two bars, PyTorch and minidl, for each name."""
    places = np.arange(len(pairs))
    for k, (label, colour) in enumerate((("PyTorch", ORANGE), ("minidl", BLUE))):
        values = [scale * pair[k] for pair in pairs.values()]
        bars = axes.bar(places + 0.4 * k - 0.2, values, 0.36, color=colour, label=label)
        axes.bar_label(bars, [form.format(value) for value in values], fontsize=8)
    axes.set_xticks(places, pairs)
    axes.set_xlim(-0.7, len(pairs) - 0.3)
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=8)
