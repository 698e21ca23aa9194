"""The page of ``compare_pytorch.py``: everything it found, in six drawings."""

from pathlib import Path
from typing import Any

import numpy as np

from minidl.explain.style import BLUE, GREEN, GREY, ORANGE

NOTHING = 1e-12  # where a logarithmic axis shows "no difference"


def draw_page(path: Path, found: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.2), dpi=100, layout="constrained")
    figure.suptitle(found["title"], fontsize=12)
    drawings = figure.subplot_mosaic("ABC;DDE", gridspec_kw={"height_ratios": (1.25, 1)})
    _draw_curves(drawings["A"], found["float32"])
    _draw_differences(drawings["B"], found)
    _draw_layers(drawings["C"], found["layers"])
    if "costs" in found:
        _draw_costs(drawings["D"], found["costs"])
    if "accuracy" in found:
        _draw_accuracy(drawings["E"], found["accuracy"], found["epochs"])
    for axes in drawings.values():
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
        gap = np.maximum.accumulate(np.abs(found[name]["torch"] - found[name][other]))
        axes.plot(np.arange(1, len(gap) + 1), np.where(gap > 0, gap, np.nan), color=colour, label=label)
    axes.set(title="Difference to PyTorch's loss", xlabel="step", ylabel="largest so far (nats)", yscale="log")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1, 0.45))


def _draw_layers(axes: Any, rows: list[dict[str, Any]]) -> None:
    places = np.arange(len(rows))
    for key, label, colour, marker in (("output", "output", BLUE, "o"), ("grad_output", "its gradient", ORANGE, "s"),
                                       ("grad_weight", "weight's gradient", GREEN, "^")):
        there = [i for i in places if key in rows[i]]
        axes.plot(there, [max(rows[i][key], NOTHING) for i in there], marker, color=colour, label=label, markersize=5)
    axes.set(title="First step, layer by layer (float32)", ylabel="largest difference", yscale="log")
    axes.axhline(NOTHING, color=GREY, linewidth=0.8, linestyle=":")
    axes.text(len(rows) - 0.5, 1.3 * NOTHING, "to the bit", color=GREY, fontsize=8, ha="right")
    axes.set_xticks(places, [row["layer"] for row in rows], rotation=60, fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.22))


def _draw_costs(axes: Any, costs: list[tuple[str, str, list[float]]]) -> None:
    """Two bars for each cost, in units of minidl's."""
    places = np.arange(len(costs))[::-1]
    ratios = [theirs / ours for _, _, (theirs, ours) in costs]
    axes.barh(places + 0.18, ratios, color=ORANGE, height=0.34, label="PyTorch")
    axes.barh(places - 0.18, 1, color=BLUE, height=0.34, label="minidl")
    for place, ratio, (_, unit, (theirs, ours)) in zip(places, ratios, costs, strict=True):
        text = f"  {ratio:.1f}x: {theirs:.4g} {unit}, {ours:.4g} {unit}"
        axes.text(max(ratio, 1), place, text, va="center", fontsize=9)
    axes.set_yticks(places, [name for name, _, _ in costs])
    axes.set(title="What it costs", xlabel="times minidl's", xlim=(0, 1.35 * max([*ratios, 1])))
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_accuracy(axes: Any, accuracies: list[float], epochs: int) -> None:
    for place, (value, colour) in enumerate(zip(accuracies, (ORANGE, BLUE), strict=True)):
        axes.plot(place, 100 * value, "o", color=colour, markersize=9)
        axes.annotate(f"{100 * value:.2f} %", (place, 100 * value), (0, 9), textcoords="offset points", ha="center")
    axes.set_xticks((0, 1), ("PyTorch", "minidl"))
    axes.set(title=f"Test accuracy, epochs: {epochs}", ylabel="right answers (%)", xlim=(-0.6, 1.6),
             ylim=(100 * min(accuracies) - 1, min(100 * max(accuracies) + 1, 100.5)))
    axes.grid(axis="y", alpha=0.3)
