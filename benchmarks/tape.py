"""What one small op costs: minidl against PyTorch, medians of runs in turn.

The tensors are so small that nearly all the time is overhead: finding the op, making the result, recording the step.
Both libraries run with one thread, turn by turn, so that a busy machine slows both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def chain(x: Any) -> Any:
    """Twelve ops."""
    y = x * 2.0
    y = y + x
    y = y.relu()
    y = y * y
    y = y - x
    y = y / 3.0
    y = y.tanh()
    y = y + 1.0
    y = y * x
    y = -y
    y = y.view(-1)
    return y.sum()


def cases(lib: Any) -> dict[str, Callable[[], Any]]:
    """Name -> what is timed, over one library."""
    plain = lib.ones(4, 4)
    leaf = lib.ones(4, 4, requires_grad=True)

    def chain_step() -> None:
        chain(leaf).backward()
        leaf.grad = None

    def without_recording() -> None:
        with lib.no_grad():
            chain(leaf)

    return {
        "a + a": lambda: plain + plain,
        "a * 2.0": lambda: plain * 2.0,
        "x * x, recorded": lambda: leaf * leaf,
        "x.view(-1), recorded": lambda: leaf.view(-1),
        "x[1], recorded": lambda: leaf[1],
        "a.add_(1.0)": lambda: plain.add_(1.0),
        "12 ops, no_grad": without_recording,
        "12 ops, forward": lambda: chain(leaf),
        "12 ops, forward and backward": chain_step,
    }


def once(function: Callable[[], Any], repeats: int) -> float:
    """Microseconds of one call, the mean of ``repeats``."""
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats * 1e6


def run(quick: bool) -> list[dict[str, Any]]:
    """Print and return the medians of every case, in microseconds per call."""
    import torch

    import minidl

    minidl.set_num_threads(1)
    torch.set_num_threads(1)
    rounds, repeats = (5, 40) if quick else (25, 200)
    ours, theirs = cases(minidl), cases(torch)
    rows = []
    print(f"{'microseconds per call, medians':<34} {'minidl':>10} {'PyTorch':>10} {'ratio':>7}")
    for case in ours:
        samples: tuple[list[float], list[float]] = ([], [])
        for round_number in range(rounds + 1):
            for function, figures in zip((ours[case], theirs[case]), samples, strict=True):
                figure = once(function, repeats)
                if round_number:  # the first round warms up
                    figures.append(figure)
        mine, peer = map(statistics.median, samples)
        print(f"{case:<34} {mine:10.2f} {peer:10.2f} {peer / mine:7.1f}", flush=True)
        rows.append({"case": case, "minidl_us": mine, "torch_us": peer, "ratio": peer / mine})
    return rows
