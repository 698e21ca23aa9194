"""``python -m benchmarks.plot REPORT.json PICTURE.png``: the ratios of a run as bars.

One bar per case and peer: the peer's smallest time over minidl's, on a logarithmic axis; to the right of 1 minidl is
ahead, to the left the peer.  ``--threads`` chooses among the thread counts of the report, ``--only`` its families.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.peers import KINDS

COLOURS = {"torch": "#d1495b", "torch-malloc": "#edae49", "torch-channels-last": "#8d6a9f", "jax": "#30638e"}
FAMILIES = ("step", "inference", "epoch", "networks", "conv")


def chosen(report: dict[str, Any], threads: int | None, families: list[str]) -> tuple[list[dict[str, Any]], int]:
    """The rows to draw, and their number of threads: the largest in the report unless it is given."""
    rows = [row for row in report["rows"] if row["family"] in families and row["ratios"]]
    counts = {row["threads"] for row in rows}
    if not rows or (threads is not None and threads not in counts):
        raise SystemExit(f"plot: the report has no rows of {', '.join(families)} with {threads or 'any'} threads; it "
                         f"has {sorted({row['family'] for row in report['rows']})} with {sorted(counts)}")
    wanted = max(counts) if threads is None else threads
    return [row for row in rows if row["threads"] == wanted], wanted


def draw(report: dict[str, Any], picture: str, threads: int | None, families: list[str]) -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    rows, used = chosen(report, threads, families)
    kinds = [kind for kind in COLOURS if any(kind in row["ratios"] for row in rows)]
    figure = Figure(figsize=(9, 1.2 + len(rows) * (0.1 + 0.11 * len(kinds))), layout="constrained")
    axes = figure.subplots()
    thick = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        points = [(place + (number - (len(kinds) - 1) / 2) * thick, row["ratios"][kind]["min"])
                  for place, row in enumerate(rows) if kind in row["ratios"]]
        places, ratios = zip(*points, strict=True)
        label = KINDS[kind].title if kind in ("torch", "jax") else f"PyTorch, {KINDS[kind].title}"
        axes.barh(places, [ratio - 1 for ratio in ratios], height=thick, left=1, color=COLOURS[kind], label=label)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if _within(tick, rows)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(f"times as fast as the peer, {used} thread{'s' * (used > 1)}; right of 1 minidl is ahead")
    figure.legend(loc="outside upper center", ncols=len(kinds), fontsize=8)
    figure.savefig(picture, dpi=110)


def _within(tick: float, rows: list[dict[str, Any]]) -> bool:
    ratios = [figures["min"] for row in rows for figures in row["ratios"].values()]
    return tick == 1 or min(ratios) / 2 <= tick <= max(ratios) * 2


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("report")
    parser.add_argument("picture")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(FAMILIES))
    options = parser.parse_args()
    with open(options.report) as file:
        report = json.load(file)
    draw(report, options.picture, options.threads, options.only)


if __name__ == "__main__":
    main()
