"""The same LeNet, the same seed, the same batches in PyTorch and in minidl: how near, how fast, how heavy.

    python examples/compare_pytorch.py              everything, a few minutes
    python examples/compare_pytorch.py --quick      a glance

Prints, layer by layer, the largest difference of outputs and of gradients at the first step; the loss curves with
their differences, in float32 and in float64, and how far PyTorch goes from itself when its weights are moved by 1e-7
(in float32 training amplifies rounding, so no two programs stay together for long); the test accuracy of both;
seconds per step, peak memory and import time. Draws it all on one page, where matplotlib is installed.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from digits import DATASETS, ROOT, load_data
from whole_file import whole_file

import minidl

PAGE = "comparison.png"
SHOWN_STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 150, 200)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compare_pytorch", description="Compare minidl with PyTorch on LeNet.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--data", choices=DATASETS, default="embedded", help="data set")
    add("--root", default=ROOT, metavar="DIR", help="folder of the files of mnist or fashion-mnist")
    add("--steps", type=int, default=200, metavar="N", help="steps of the loss curves")
    add("--epochs", type=int, default=5, metavar="N", help="epochs before the test accuracy; 0: leave it out")
    add("--rounds", type=int, default=15, metavar="N", help="rounds of 20 timed steps; 0: measure no time and memory")
    add("--batch-size", type=int, default=64, metavar="N", help="images per step of the curves and epochs")
    add("--lr", type=float, default=0.05, help="highest learning rate of the cycle")
    add("--seed", type=int, default=0, metavar="N", help="of weights and shuffles")
    add("--threads", type=int, default=minidl.get_num_threads(), metavar="N", help="CPU threads of both")
    add("--out", type=Path, default=Path("runs/compare"), metavar="DIR", help="folder for the page")
    add("--quick", action="store_true", help="short for --steps 30 --epochs 1 --rounds 3")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.quick:
        options.steps, options.epochs, options.rounds = 30, 1, 3
    if importlib.util.find_spec("torch") is None:
        print("compare_pytorch: PyTorch is not installed; pip install torch==2.13.0", file=sys.stderr)
        return 1
    try:
        train, test = (arrays(dataset) for dataset in load_data(options.data, options.root))
    except (OSError, RuntimeError, ValueError) as error:
        print(f"compare_pytorch: {error}", file=sys.stderr)
        return 1
    found = measure(options, train, test)
    if importlib.util.find_spec("matplotlib") is None:
        print("\nno page: matplotlib is not installed (pip install matplotlib)")
        return 0
    from comparison_page import draw_page

    options.out.mkdir(parents=True, exist_ok=True)
    with whole_file(options.out / PAGE) as part:
        draw_page(part, found)
    print(f"\npage: {options.out / PAGE}")
    return 0


def arrays(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a data set."""
    images, labels = dataset.fetch(np.arange(len(dataset)))
    return np.asarray(images), np.asarray(labels)


def measure(options: argparse.Namespace, train: Any, test: Any) -> dict[str, Any]:
    """Measure and print one thing after the other; returns all that was found."""
    import comparison
    import torch

    torch.set_num_threads(options.threads)
    minidl.set_num_threads(options.threads)
    settings = {"batch_size": options.batch_size, "lr": options.lr, "seed": options.seed}
    title = (f"minidl {minidl.__version__} and PyTorch {torch.__version__}: LeNet-5 on {options.data}, "
             f"batch {options.batch_size}, seed {options.seed}, threads: {options.threads}")
    print(title)
    found: dict[str, Any] = {"title": title, "nudge": comparison.NUDGE}
    found["layers"] = comparison.layers_at_step_0(train, **settings)
    print_layers(found["layers"])
    for double in (False, True):
        name = "float64" if double else "float32"
        found[name] = comparison.curves(train, options.steps, double, **settings)
        print_curves(name, found[name], comparison.NUDGE)
    if options.epochs > 0:
        found["epochs"] = options.epochs
        found["accuracy"] = comparison.accuracies(train, test, options.epochs, **settings)
        theirs, ours = found["accuracy"]
        print(f"\ntest accuracy (epochs: {options.epochs}): PyTorch {100 * theirs:.2f} %, minidl {100 * ours:.2f} %")
    if options.rounds > 0:
        found["costs"] = comparison.costs(options.rounds, options.threads)
        print_costs(found["costs"])
    return found


def print_layers(rows: list[dict[str, Any]]) -> None:
    print("\nlargest difference at step 0, float32")
    print(f"{'layer':9}{'output':18}{'output':>10}{'its grad':>10}{'weight.grad':>13}{'bias.grad':>11}")
    for row in rows:
        line = f"{row['layer']:9}{row['shape']!s:18}{row['output']:10.1e}{row['grad_output']:10.1e}"
        if "grad_weight" in row:
            line += f"{row['grad_weight']:13.1e}{row['grad_bias']:11.1e}"
        print(line)


def print_curves(name: str, curves: dict[str, np.ndarray], nudge: float) -> None:
    theirs, ours, nudged = curves["torch"], curves["minidl"], curves["nudged"]
    print(f"\nloss, {name}; beside the difference PyTorch's own, from weights moved by {nudge:g}")
    print(f"{'step':>5}{'PyTorch':>18}{'minidl':>18}{'difference':>13}{'PyTorch moved':>15}")
    for step in (step for step in SHOWN_STEPS if step <= len(theirs)):
        i = step - 1
        print(f"{step:5}{theirs[i]:18.12f}{ours[i]:18.12f}{abs(theirs[i] - ours[i]):13.1e}"
              f"{abs(theirs[i] - nudged[i]):15.1e}")
    print(f"  max{abs(theirs - ours).max():49.1e}{abs(theirs - nudged).max():15.1e}")


def print_costs(costs: list[tuple[str, str, list[float]]]) -> None:
    print(f"\n{'':22}{'PyTorch':>12}{'minidl':>12}{'ratio':>9}")
    for name, unit, (theirs, ours) in costs:
        print(f"{f'{name} ({unit})':22}{theirs:12.3f}{ours:12.3f}{theirs / ours:8.1f}x")


if __name__ == "__main__":
    sys.exit(main())
