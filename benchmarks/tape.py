"""What one small op costs: minidl against PyTorch, medians of runs in turn.

    python benchmarks/tape.py [--quick]

The tensors are so small that nearly all the time is overhead: finding the op, making the result, recording the step.
Both libraries run with one thread, turn by turn, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds: seconds instead of a minute")
    quick = parser.parse_args().quick
    import minidl

    libraries = {"minidl": minidl}
    minidl.set_num_threads(1)
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: minidl's figures alone")
    else:
        torch.set_num_threads(1)
        libraries["torch"] = torch
    rounds, repeats = (5, 40) if quick else (25, 200)
    timed = {name: cases(lib) for name, lib in libraries.items()}
    print(f"{'microseconds per call, median':34s}" + "".join(f"{name:>10s}" for name in timed) + f"{'ratio':>9s}")
    for case in timed["minidl"]:
        samples: dict[str, list[float]] = {name: [] for name in timed}
        for round_number in range(rounds + 1):
            for name, table in timed.items():
                figure = once(table[case], repeats)
                if round_number:        # the first round warms up
                    samples[name].append(figure)
        medians = {name: statistics.median(figures) for name, figures in samples.items()}
        ratio = f"{medians['torch'] / medians['minidl']:8.1f}x" if "torch" in medians else ""
        print(f"{case:34s}" + "".join(f"{figure:10.2f}" for figure in medians.values()) + f"{ratio:>9s}")


if __name__ == "__main__":
    main()
