"""What a library costs before the first step: megabytes on disk, seconds to import, memory of a training run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from benchmarks.case import Options
from benchmarks.timing import Row

PACKAGES = {"minidl": ["minidl"], "torch": ["torch"], "jax": ["jax", "jaxlib"]}

TRAIN = """
import {lib}
from benchmarks.lenet import step_of
step = step_of("{lib}", 64)
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
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak_megabytes(package: str) -> float:
    """Largest resident memory of a process that trains LeNet 50 steps at batch 64."""
    return _printed(TRAIN.format(lib=package)) * 1024 / 1e6


def rows(options: Options, kinds: list[str]) -> list[Row]:
    """Size, import, memory."""
    found = [kind for kind in PACKAGES if kind in kinds]
    imports: dict[str, list[float]] = {kind: [] for kind in found}
    for _ in range(1 if options.tiny else 2 if options.quick else 5):
        for kind in found:  # in turns
            imports[kind].append(_printed(IMPORT.format(lib=kind)))
    sizes = {kind: [sum(map(installed_megabytes, PACKAGES[kind]))] for kind in found}
    memory = {kind: [peak_megabytes(kind)] for kind in found}
    return [Row("footprint", "installed, without what it needs", 0, "MB", sizes),
            Row("footprint", "import, after NumPy", 0, "s", imports),
            Row("footprint", "peak memory of a LeNet run", 0, "MB", memory)]
