"""Seconds from the start of a process to a test accuracy: importing, reading, training, and testing on the way.

LeNet-5, batch 64, SGD with momentum 0.9 and weight decay 5e-4, the learning rate in one cycle up to 0.05 over five
epochs; tested after every epoch, with the library's own layers, optimizer, schedule and loader, from the same seed.  On
MNIST's files the mark is 99 %; without them it is 97 % on the digits of the package.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from benchmarks.case import Library, Options
from benchmarks.timing import Row

EPOCHS, PEAK = 5, 0.05
GOALS = {True: 99.0, False: 97.0}


def main() -> None:
    """``python -m benchmarks.time_to_accuracy LIBRARY GOAL SEED [ROOT]``: prints the accuracy after every epoch."""
    from benchmarks import digits, mnist_accuracy

    name, goal, seed, *root = sys.argv[1:]
    data = [digits.arrays(root[0] if root else None, train) for train in (True, False)]
    for accuracy in mnist_accuracy.accuracies(Library(name), data, int(seed), EPOCHS, PEAK):
        print(accuracy, flush=True)
        if accuracy >= float(goal):
            return


def seconds_to(goal: float, library: str, seed: int, root: str | None) -> float | None:
    """From before the process starts until it tells that accuracy; None where it never does."""
    command = [sys.executable, "-m", "benchmarks.time_to_accuracy", library, str(goal), str(seed)]
    start = time.perf_counter()
    reached: float | None = None
    with subprocess.Popen([*command, *([root] if root else [])], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if float(line) >= goal:
                reached = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"benchmarks: {' '.join(command)} failed; see above")
    return reached


def rows(options: Options, kinds: list[str], goal: float | None = None) -> list[Row]:
    """One row; a library that never got there has no figure."""
    goal = GOALS[options.mnist is not None] if goal is None else goal
    figures: dict[str, list[float]] = {kind: [] for kind in ("minidl", "torch") if kind in kinds}
    for seed in range(1 if options.quick else 3):
        for kind, seconds in figures.items():
            reached = seconds_to(goal, kind, seed, options.mnist)
            if reached is not None:
                seconds.append(reached)
    return rows_of(figures, goal, "MNIST" if options.mnist else "the embedded digits")


def rows_of(figures: dict[str, list[float]], goal: float, origin: str) -> list[Row]:
    """None where minidl did not get there."""
    reached: dict[str, Any] = {kind: seconds for kind, seconds in figures.items() if seconds}
    name = f"process start to {goal:g} % on {origin}"
    return [Row("target", name, 0, "s", reached)] if "minidl" in reached else []


if __name__ == "__main__":
    main()
