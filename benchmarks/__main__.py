"""``python -m benchmarks``: minidl beside PyTorch, interleaved in one process, as tables or as JSON."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=["step", "tape", "footprint", "mnist"], help="one part instead of all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--quick", action="store_true", help="fewer calls: minutes become seconds, noise grows")
    parser.add_argument("--mnist", metavar="ROOT", help="folder with MNIST's files: train both on all of it")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    if options.only == "mnist" and not options.mnist:
        parser.error("--only mnist needs --mnist ROOT, the folder that MNIST's files are in")
    if importlib.util.find_spec("torch") is None:
        sys.exit("benchmarks: PyTorch is not installed, and there is nothing to compare with: pip install '.[torch]'")

    import torch

    import minidl
    from benchmarks import footprint, lenet_step, mnist_accuracy, tape
    from benchmarks.timing import HEADER

    print(f"minidl {minidl.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}, "
          f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    report: dict[str, object] = {"torch": torch.__version__, "load": os.getloadavg()[0]}
    if options.only in (None, "step"):
        print(f"\n{HEADER}")
        steps = []
        for threads in dict.fromkeys(options.threads):
            for pair in lenet_step.run(threads, options.quick):
                print(pair.row(), flush=True)
                steps.append(pair.as_dict())
        report["steps"] = steps
        print("ratio: PyTorch's time / minidl's; spread: minidl's median / minimum, above 1.3 the machine was busy")
    if options.only in (None, "tape"):
        print()
        report["tape"] = tape.run(options.quick)
    if options.only in (None, "footprint"):
        rows = footprint.run(options.quick)
        print(f"\n{'':<34} {'minidl':>10} {'PyTorch':>10} {'ratio':>7}")
        for name, ours, peer in rows:
            print(f"{name:<34} {ours:10.3f} {peer:10.3f} {peer / ours:7.1f}")
        report["footprint"] = [{"what": name, "minidl": ours, "torch": peer} for name, ours, peer in rows]
    if options.mnist and options.only in (None, "mnist"):
        epochs, seeds = (1, 1) if options.quick else (10, 3)
        print(f"\nAll of MNIST, {epochs} epoch{'s' * (epochs > 1)}, batch 64")
        report["mnist"] = mnist_accuracy.run(options.mnist, epochs, seeds)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
