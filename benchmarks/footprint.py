"""What a framework costs before the first step: megabytes on disk, seconds to import, memory of a training run."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
from pathlib import Path

TRAIN = """
import {lib} as lib
from benchmarks.lenet_step import step_of
step = step_of(lib, 64)
for _ in range(50):
    step()
# not getrusage: that counts what the parent held when it forked
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

IMPORT = "import time, numpy; start = time.perf_counter(); import {lib}; print(time.perf_counter() - start)"


def installed_megabytes(package: str) -> float:
    """Size of a package's files, without what it depends on and without byte code."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    files = [f for f in root.rglob("*") if f.is_file() and f.suffix != ".pyc"]
    bundled = root.parent / f"{package}.libs"
    files += [f for f in bundled.rglob("*") if f.is_file()]
    return sum(f.stat().st_size for f in files) / 1e6


def _printed(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def import_seconds(package: str, runs: int) -> float:
    """Median seconds to import the package where NumPy already is."""
    return statistics.median(_printed(IMPORT.format(lib=package)) for _ in range(runs))


def peak_megabytes(package: str) -> float:
    """Largest resident memory of a process that trains LeNet 50 steps at batch 64."""
    return _printed(TRAIN.format(lib=package)) * 1024 / 1e6


def run(quick: bool) -> list[tuple[str, float, float]]:
    """(what, ours, PyTorch's) rows."""
    runs = 2 if quick else 5
    return [
        ("installed, without NumPy (MB)", installed_megabytes("minidl"), installed_megabytes("torch")),
        ("import after NumPy (s)", import_seconds("minidl", runs), import_seconds("torch", runs)),
        ("peak memory of a LeNet run (MB)", peak_megabytes("minidl"), peak_megabytes("torch")),
    ]
