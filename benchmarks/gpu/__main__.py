"""``python -m benchmarks.gpu``: minidl on a GPU beside PyTorch, in turns in one process, as tables and as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import Options
from benchmarks.gpu import FAMILIES
from benchmarks.gpu.lenet import Check, checks
from benchmarks.gpu.libraries import KINDS, absent
from benchmarks.gpu.report import as_dict, check_line, columns, heading, line, peers_of, setting, verdict
from benchmarks.gpu.timing import Timed, copy_bandwidth, measure
from benchmarks.timing import DisagreementError

MINUTES = 9.0   # after which nothing more is begun


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    names = ["losses", *FAMILIES]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, default=names,
                        help=f"some of {', '.join(names)}; without it all")
    parser.add_argument("--quick", action="store_true", help="fewer calls: minutes become seconds, noise grows")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: whether it works, not how fast")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="begin nothing more after so many; default: "
                        f"{MINUTES:g}")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run what was asked for, print it, write it; ends the program with 1 without a GPU and where numbers are wrong."""
    asked = arguments(words)
    try:
        from minidl._devices.registry import cuda_backend

        cuda_backend(0)
    except RuntimeError as error:
        sys.exit(f"benchmarks.gpu: nothing to measure on: {error}")
    options = Options(asked.quick, None, asked.tiny)
    kinds = [kind for kind in KINDS if not absent(kind)]
    end = time.monotonic() + 60 * asked.minutes
    bandwidth = copy_bandwidth(options)
    found = setting() | {"copy_gb_s": bandwidth / 1e9, "quick": asked.quick, "tiny": asked.tiny}
    print(heading(found), flush=True)
    compared: list[Check] = []
    rows: list[Timed] = []
    wrong = []
    try:
        if "losses" in asked.only:
            print("\nlosses")
            try:
                compared = checks(kinds, options)
            except RuntimeError as error:
                wrong.append(f"losses: {error}")
                print(error, flush=True)
            for check in compared:
                print(check_line(check), flush=True)
            wrong += [check.name for check in compared if not check.fine]
        for family in FAMILIES:
            if family in asked.only:
                wrong += _family(family, kinds, options, bandwidth, end, rows)
    except KeyboardInterrupt:
        wrong.append("interrupted")
    print("\n" + "\n".join(verdict(rows, compared, bandwidth)))
    if asked.json:
        _write(Path(asked.json), {
            "setting": found, "losses": [check._asdict() | {"met": check.fine} for check in compared],
            "rows": [as_dict(row, bandwidth) for row in rows], "wrong": wrong})
    if wrong:
        sys.exit("benchmarks.gpu: " + "\n".join(wrong))


def _family(family: str, kinds: list[str], options: Options, bandwidth: float, end: float,
            rows: list[Timed]) -> list[str]:
    """Time and print its cases, and put them to the rows; what went wrong, in sentences."""
    cases = importlib.import_module(f"benchmarks.gpu.{FAMILIES[family]}").cases(family, options)
    beside, wrong = peers_of(cases), []
    print(f"\n{family}\n{columns(beside)}", flush=True)
    for number, case in enumerate(cases):
        if time.monotonic() > end:
            wrong.append(f"{family}: the time was over before {len(cases) - number} of its cases; --only {family} has "
                         "them")
            break
        try:
            rows.append(measure(family, case, kinds, options))
        except (DisagreementError, RuntimeError) as error:  # a failing kernel must not cost the figures of the others
            wrong.append(f"{case.name}, {case.precision}: {error}")
            print(wrong[-1], flush=True)
        else:
            print(line(rows[-1], beside, bandwidth), flush=True)
    return wrong


def _write(path: Path, report: dict[str, Any]) -> None:
    """The file as a whole, or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


if __name__ == "__main__":
    main()
