"""``python -m benchmarks``: minidl beside PyTorch and JAX, in turns in one run, as tables and as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys

from benchmarks import FAMILIES, MEASURES
from benchmarks.case import Options
from benchmarks.peers import KINDS, Peer, Processes, installed
from benchmarks.report import columns, heading, line, means, setting, verdict
from benchmarks.timing import DisagreementError, Row, measure


def arguments() -> argparse.Namespace:
    """What the command line says; ends the program where that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[*FAMILIES, *MEASURES], default=None,
                        help=f"some of {', '.join([*FAMILIES, *MEASURES])}; without it all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2] if (os.cpu_count() or 1) > 1 else [1])
    parser.add_argument("--peers", nargs="+", metavar="PEER", choices=list(KINDS)[1:], default=list(KINDS)[1:],
                        help=f"beside whom: {', '.join(list(KINDS)[1:])}; without it all that are installed")
    parser.add_argument("--bind", action="store_true", help="OMP_PROC_BIND=true for minidl and PyTorch: on a busy "
                        "machine two threads may otherwise sit on one processor through a whole run")
    parser.add_argument("--quick", action="store_true", help="fewer calls: minutes become seconds, noise grows")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: whether it works, not how fast")
    parser.add_argument("--mnist", metavar="ROOT", help="folder with MNIST's files, for epoch, target and mnist")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    if options.only == ["mnist"] and not options.mnist:
        parser.error("--only mnist needs --mnist ROOT, the folder that MNIST's files are in")
    if not installed("torch"):
        sys.exit("benchmarks: PyTorch is not installed, and there is nothing to compare with: pip install '.[torch]'")
    return options


def main() -> None:
    """Run what was asked for, print it, write it."""
    asked = arguments()
    options = Options(asked.quick, asked.mnist, asked.tiny)
    kinds = ["minidl", *(kind for kind in KINDS if kind in asked.peers)]
    names = asked.only or [*FAMILIES, *MEASURES]
    found = setting() | {"bind": asked.bind}
    print(heading(found))
    rows: list[Row] = []
    wrong = ""
    try:
        timed = [name for name in names if name in FAMILIES]
        for threads in dict.fromkeys(asked.threads) if timed else ():
            with Processes([kind for kind in kinds if installed(kind)], threads, asked.bind) as peers:
                for family in timed:
                    _family(family, peers, threads, options, kinds, rows)
    except DisagreementError as error:
        wrong = f"benchmarks: {error}"
    except KeyboardInterrupt:
        wrong = "benchmarks: interrupted"
    present = [kind for kind in kinds if installed(kind)]
    for name in names:
        if name in MEASURES and not wrong:
            module = importlib.import_module(f"benchmarks.{MEASURES[name]}")
            _print(name, columns(kinds))
            for row in module.rows(options, present):
                print(line(row, kinds), flush=True)
                rows.append(row)
    print("\n" + "\n".join(verdict(rows)))
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump({"setting": found, "rows": [row.as_dict() for row in rows]}, file, indent=1)
    if wrong:
        sys.exit(wrong)


def _family(family: str, peers: dict[str, Peer], threads: int, options: Options, kinds: list[str],
            rows: list[Row]) -> None:
    """Time and print its cases, and put them to the rows."""
    cases = importlib.import_module(f"benchmarks.{FAMILIES[family]}").cases(family, options)
    _print(f"{family}, {threads} thread{'s' * (threads > 1)}", columns(kinds))
    first = len(rows)
    for case in cases:
        row = measure(family, case, peers, threads, options)
        if row is not None:
            print(line(row, kinds), flush=True)
            rows.append(row)
    for told in means(rows[first:], kinds):
        print(told)


def _print(title: str, head: str) -> None:
    print(f"\n{title}\n{head}", flush=True)


if __name__ == "__main__":
    main()
