"""The figures as tables, and what can be said about how far to trust them."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from benchmarks.peers import KINDS, installed
from benchmarks.timing import Row, geometric_mean

_NAME = 58   # characters for the name of a row
BUSY = 1.3   # spread above which a row was disturbed


def setting() -> dict[str, Any]:
    """Versions, machine and load."""
    import minidl
    from minidl._ext import blas

    found: dict[str, Any] = {"minidl": minidl.__version__, "python": platform.python_version(),
                             "openblas": blas.core_name()}
    for package in ("numpy", "torch", "jax"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found | {"machine": platform.machine(), "processor": _processor(), "processors": os.cpu_count(),
                    "load": os.getloadavg()[0]}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def heading(found: dict[str, Any]) -> str:
    """One line about all of them."""
    jax = f"JAX {found['jax']}" if found["jax"] else "no JAX (pip install jax jaxlib: its column is empty)"
    return (f"minidl {found['minidl']} (BLAS for {found['openblas'] or 'unknown'}), "
            f"PyTorch {found['torch']}, {jax}, Python {found['python']}, "
            f"{found['processor']} ({found['machine']}), {found['processors']} processors, load {found['load']:.1f}")


def columns(kinds: Sequence[str]) -> str:
    """The head of a table."""
    peers = "".join(f" | {KINDS[kind].title:>10} {'ratio':>13}" for kind in kinds if kind != "minidl")
    return f"{'':<{_NAME}} {'minidl':>10} {'median':>10}{peers} | {'spread':>6}"


def line(row: Row, kinds: Sequence[str]) -> str:
    """One row: our best and median; each peer's best, and the ratio of bests and of medians."""
    name = f"{row.case} ({row.unit})"[:_NAME]
    cells = ""
    for kind in kinds:
        if kind == "minidl":
            continue
        if kind not in row.figures:
            why = "-" if installed(kind) else "no " + KINDS[kind].title.split()[0]
            cells += f" | {why:>10} {'':>13}"
            continue
        best, middle = row.ratios(kind)
        cells += f" | {row.least(kind):10.3f} {best:5.2f} / {middle:5.2f}"
    return f"{name:<{_NAME}} {row.least('minidl'):10.3f} {row.median('minidl'):10.3f}{cells} | {row.spread:6.2f}"


def means(rows: Sequence[Row], kinds: Sequence[str]) -> list[str]:
    """The geometric means of the ratios, one line for every group of cases."""
    lines = []
    for group in dict.fromkeys(row.group for row in rows if row.group):
        cells = ""
        for kind in kinds:
            ratios = [row.ratios(kind) for row in rows if row.group == group and kind in row.figures]
            if kind == "minidl":
                continue
            told = " / ".join(f"{geometric_mean(side):5.2f}" for side in zip(*ratios, strict=True)) if ratios else ""
            cells += f" | {'':>10} {told:>13}"
        lines.append(f"{'geometric mean, ' + group:<{_NAME}} {'':>10} {'':>10}{cells} |")
    return lines


def verdict(rows: Sequence[Row]) -> list[str]:
    """How noisy the run was, and how to quiet it."""
    timed = [row for row in rows if row.threads]
    lines = ["ratio: the peer's time / minidl's, of the smallest times / of the medians; above 1 minidl is ahead.  "
             "spread:\n       median / smallest of the column that was disturbed most"]
    if not timed:
        return lines
    spreads = sorted(row.spread for row in timed)
    disturbed = sum(spread > BUSY for spread in spreads)
    lines.append(f"noise: spread {statistics.median(spreads):.2f} in the middle, {spreads[-1]:.2f} at most; "
                 f"{disturbed} of {len(spreads)} rows above {BUSY}; load {os.getloadavg()[0]:.1f} on "
                 f"{os.cpu_count()} processors")
    if disturbed * 4 > len(spreads) or os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1):
        lines.append(
            "       That was a busy machine.  Stop what else runs, or give the run a group and a priority of its own,\n"
            "       as root: setsid bash -c 'echo -15 > /proc/self/autogroup; exec python -m benchmarks --bind'\n"
            "       --bind keeps each thread of a library on one processor (OMP_PROC_BIND=true); left alone, threads\n"
            "       that sleep while they wait, as minidl's do after microseconds, may both wake on the same one.\n"
            "       PyTorch's spin for milliseconds; OMP_WAIT_POLICY=passive stops that.")
    return lines
