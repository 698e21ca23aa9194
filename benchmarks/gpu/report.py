"""The figures of a GPU as tables and as JSON, and which of them reach what they have to."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu.lenet import Check
from benchmarks.gpu.libraries import KINDS, absent
from benchmarks.gpu.timing import Timed
from benchmarks.report import BUSY

_NAME = 60      # characters for the name of a row


class Goal(NamedTuple):
    """What a row has to reach, and what it reached."""

    what: str
    wanted: float
    found: float

    @property
    def met(self) -> bool:
        """Whether it did."""
        return self.found >= self.wanted


def setting() -> dict[str, Any]:
    """Card, driver, versions, date and command."""
    import minidl
    from minidl._devices.cuda import kernels
    from minidl._devices.cuda.process import driver

    major, minor = minidl.cuda.get_device_capability()
    cuda = driver().get_driver_version()
    return {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "device": minidl.cuda.get_device_name(), "capability": f"{major}.{minor}", "driver": _driver(),
        "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}", "nvcc": _nvcc(kernels.compiler()),
        "minidl": minidl.__version__, "torch": _version("torch"), "torch_absent": absent("PyTorch"),
        "pycuda": _version("pycuda"), "python": platform.python_version(), "numpy": _version("numpy"),
        "processors": os.cpu_count(), "load": os.getloadavg()[0],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    """The version of NVIDIA's kernel driver, such as 580.65.06."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return None
    return found[1] if found else None


def _nvcc(command: str) -> str | None:
    """The version of the compiler of the kernels."""
    try:
        said = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return None
    found = re.search(r"release [\d.]+, V([\d.]+)", said)
    return found[1] if found else None


def heading(found: dict[str, Any]) -> str:
    """What was measured, on what, when."""
    peer = f"PyTorch {found['torch']}" if not found["torch_absent"] else f"no PyTorch ({found['torch_absent']})"
    return (f"{found['date']}: minidl {found['minidl']} beside {peer}, on {found['device']} (compute capability "
            f"{found['capability']}), driver {found['driver'] or 'unknown'}, CUDA {found['cuda']}, nvcc "
            f"{found['nvcc']}, PyCUDA {found['pycuda']}, Python {found['python']}\n"
            f"A copy on the device moves {found['copy_gb_s']:.0f} GB/s, read and written.")


def columns(beside: Sequence[str]) -> str:
    """The head of a table: minidl by events and on the wall, then the columns beside it."""
    peers = "".join(f" | {kind:>13} {'ratio':>13}" for kind in beside)
    return (f"{'microseconds':<{_NAME}} {'minidl':>9} {'median':>9} {'wall':>9} {'rate':>12}{peers} | {'spread':>6}  "
            "goals")


def line(timed: Timed, beside: Sequence[str], bandwidth: float) -> str:
    """Our smallest time, our median, our median on the wall, the rate; each column's median and the ratios; goals."""
    name = f"{timed.case.name}, {timed.case.precision}"[:_NAME]
    if timed.note:
        return f"{name:<{_NAME}} not timed: {timed.note}"
    row, cells = timed.events, ""
    for kind in beside:
        if kind in row.figures:
            best, middle = row.ratios(kind)
            cells += f" | {row.median(kind):13.2f} {best:5.2f} / {middle:5.2f}"
        else:
            cells += f" | {'no PyTorch' if absent(kind) else '-':>13} {'':>13}"
    reached = "; ".join(f"{goal.found:.2f} {goal.what} ({goal.wanted:g} wanted): {'met' if goal.met else 'MISSED'}"
                        for goal in goals(timed, bandwidth))
    return (f"{name:<{_NAME}} {row.least('minidl'):9.2f} {row.median('minidl'):9.2f} "
            f"{timed.wall.median('minidl'):9.2f} {_rate(timed):>12}{cells} | {row.spread:6.2f}  {reached}")


def _seconds(timed: Timed) -> float:
    """Our median for the work that ``flops`` and ``nbytes`` are told of."""
    return timed.events.median("minidl") * 1e-6


def _rate(timed: Timed) -> str:
    if timed.case.flops:
        return f"{timed.case.flops / _seconds(timed) / 1e12:.2f} TFLOP/s"
    return f"{timed.case.nbytes / _seconds(timed) / 1e9:.0f} GB/s" if timed.case.nbytes else ""


def goals(timed: Timed, bandwidth: float) -> list[Goal]:
    """What the row has to reach, as far as it was measured here; by medians of events."""
    if timed.note:
        return []
    found = [Goal(f"of {kind}'s speed", wanted, timed.events.ratios(kind)[1])
             for kind, wanted in timed.case.goals.items() if kind in timed.events.figures]
    if timed.case.share:
        found.append(Goal("of a copy's bandwidth", timed.case.share,
                          timed.case.nbytes / _seconds(timed) / bandwidth))
    return found


def as_dict(timed: Timed, bandwidth: float) -> dict[str, Any]:
    """For JSON."""
    def clock(figures: dict[str, list[float]]) -> dict[str, Any]:
        return {kind: {"min": min(values), "median": statistics.median(values),
                       "spread": statistics.median(values) / min(values), "blocks": len(values)}
                for kind, values in figures.items()}

    case = timed.case
    found = {"family": timed.events.family, "case": case.name, "precision": case.precision}
    if timed.note:
        return found | {"note": timed.note}
    return found | {
        "unit": case.unit, "compared_with": timed.judge, "apart": timed.apart, "events": clock(timed.events.figures),
        "wall": clock(timed.wall.figures),
        "ratios": {kind: dict(zip(("min", "median"), timed.events.ratios(kind), strict=True))
                   for kind in timed.events.peers},
        "tflop_s": case.flops / _seconds(timed) / 1e12, "gb_s": case.nbytes / _seconds(timed) / 1e9,
        "goals": [{**goal._asdict(), "met": goal.met} for goal in goals(timed, bandwidth)],
    }


def check_line(check: Check) -> str:
    """One comparison of losses."""
    return (f"{check.name + ', beside ' + check.judge:<{_NAME}} apart by {check.apart:.2g}, {check.allowed:g} allowed: "
            f"{'met' if check.fine else 'MISSED'}")


def verdict(rows: Sequence[Timed], checks: Sequence[Check], bandwidth: float) -> list[str]:
    """How the columns are read, how many goals were met, how noisy it was."""
    met = [check.fine for check in checks] + [goal.met for row in rows for goal in goals(row, bandwidth)]
    spreads = sorted(row.events.spread for row in rows if not row.note)
    lines = ["times by CUDA events: minidl's smallest and median, the others' median; wall: minidl's median with",
             "the launch and the wait.  ratio: the peer's time / minidl's, of the smallest / of the medians; above 1",
             "minidl is ahead.  tuned, channels_last: PyTorch with cudnn.benchmark = True, and in that format too.",
             "spread: median / smallest of the column that was disturbed most.",
             f"goals: {sum(met)} of {len(met)} that could be looked at are met"]
    if spreads:
        lines.append(f"noise: spread {statistics.median(spreads):.2f} in the middle, {spreads[-1]:.2f} at most; "
                     f"{sum(each > BUSY for each in spreads)} of {len(spreads)} rows above {BUSY}")
    return lines


def peers_of(rows: Sequence[Any]) -> list[str]:
    """The columns besides minidl's that any of these cases has, in their usual order."""
    return [kind for kind in KINDS if any(kind in case.beside for case in rows)]
