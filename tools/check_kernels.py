"""Compiles every CUDA kernel with NVIDIA's nvcc for every architecture, without a GPU.

    python tools/check_kernels.py [--require] [--json FILE] [FOLDER]

A warning, a spilled register, a stack frame, more static shared memory than a block may have, or launch bounds that
leave too few registers is a failure.  Prints a table of registers and shared memory per kernel.  Where nvcc is not
found it says so and succeeds, unless --require is given.

Each ``*.cu`` is compiled as minidl does it: ``common.cuh`` is put in front of its text, and what a line
``// minidl-uses: NAME.cuh ...`` in it names.  A line ``// minidl-min-arch: 80`` leaves out the older architectures;
``// minidl-stack: 40`` allows its kernels so many bytes of stack, and says why: CUDA's own sin and cos of doubles have
an array for large arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ARCHITECTURES = [75, 80, 86, 89, 90, 100, 120]
COMPILES_AT_ONCE = 2
OPTIONS = ["-cubin", "-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills"]
STATIC_SHARED_MOST = 48 << 10  # bytes, of a block
REGISTERS_OF_A_MULTIPROCESSOR = 65536
REGISTERS_GIVEN_AT_ONCE = 8  # a thread's registers are a multiple of it


@dataclass(frozen=True)
class Kernel:
    """What ptxas says about a kernel, in bytes but for the registers of a thread."""

    name: str
    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


def read_report(text: str) -> list[Kernel]:
    """The kernels of a report of ``ptxas -v``."""
    kernels = []
    for part in re.split(r"Compiling entry function '", text)[1:]:

        def number(pattern: str, part: str = part) -> int:
            found = re.search(pattern, part)
            return int(found[1]) if found else 0

        kernels.append(Kernel(
            name=part.partition("'")[0],
            registers=number(r"Used (\d+) registers"),
            shared=number(r"(\d+) bytes smem"),
            stack=number(r"(\d+) bytes stack frame"),
            spill_stores=number(r"(\d+) bytes spill stores"),
            spill_loads=number(r"(\d+) bytes spill loads"),
        ))
    return kernels


def launch_bounds(source: str) -> dict[str, int]:
    """The threads of a block that each kernel names as a number in ``__launch_bounds__``."""
    pattern = r"__launch_bounds__\s*\(\s*(\d+)[^)]*\)\s*(?:void\s+)?(\w+)\s*\("
    return {name: int(threads) for threads, name in re.findall(pattern, source)}


def oldest_architecture(source: str) -> int:
    """What ``// minidl-min-arch:`` says, or the oldest one that is checked."""
    found = re.search(r"//\s*minidl-min-arch:\s*(\d+)", source)
    return int(found[1]) if found else ARCHITECTURES[0]


def allowed_stack(source: str) -> int:
    """What ``// minidl-stack:`` says, in bytes, or none."""
    found = re.search(r"//\s*minidl-stack:\s*(\d+)", source)
    return int(found[1]) if found else 0


def problems(kernel: Kernel, threads: int | None, stack: int = 0) -> list[str]:
    """What must not be, in words."""
    found = []
    if kernel.spill_stores or kernel.spill_loads:
        found.append(f"spills registers ({kernel.spill_stores} bytes stored, {kernel.spill_loads} bytes loaded)")
    if kernel.stack > stack:
        found.append(f"uses {kernel.stack} bytes of stack: an array that is indexed at run time, or a recursion")
    if kernel.shared > STATIC_SHARED_MOST:
        found.append(f"has {kernel.shared} bytes of static shared memory, more than {STATIC_SHARED_MOST}")
    given = -(-kernel.registers // REGISTERS_GIVEN_AT_ONCE) * REGISTERS_GIVEN_AT_ONCE
    if threads and threads * given > REGISTERS_OF_A_MULTIPROCESSOR:
        found.append(f"cannot run: {threads} threads of {given} registers do not fit")
    return found


def find_nvcc() -> str | None:
    """nvcc on PATH, or where NVIDIA's installer puts it."""
    return shutil.which("nvcc", path=os.environ.get("PATH", "") + os.pathsep + "/usr/local/cuda/bin")


def check(nvcc: str, path: Path, architecture: int) -> tuple[list[Kernel], list[str]]:
    """The kernels of one file on one architecture, and what is wrong with them."""
    place = f"{path.name}, sm_{architecture}"
    source = path.read_text(encoding="utf-8")
    names = ["common.cuh", *re.findall(r"\w+\.cuh", " ".join(re.findall(r"//\s*minidl-uses:(.*)", source)))]
    shared = [path.with_name(name) for name in names if path.with_name(name).exists()]
    text = "\n".join(f'#line 1 "{each.name}"\n{each.read_text(encoding="utf-8")}' for each in (*shared, path))
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / path.name
        given.write_text(text, encoding="utf-8")
        command = [nvcc, *OPTIONS, "-arch", f"sm_{architecture}", str(given), "-o", str(given.with_suffix(".cubin"))]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        return [], [f"{place}: does not compile:\n{(run.stdout + run.stderr).strip()}"]
    kernels, bounds = read_report(run.stdout + run.stderr), launch_bounds(source)
    return kernels, [f"{place}: {kernel.name} {problem}" for kernel in kernels
                     for problem in problems(kernel, bounds.get(kernel.name), allowed_stack(source))]


def table(rows: Iterable[tuple[str, int, Kernel]]) -> str:
    """A line per kernel: registers on each architecture, and the most shared memory."""
    registers: dict[tuple[str, str], dict[int, int]] = {}
    shared: dict[tuple[str, str], int] = {}
    for file, architecture, kernel in rows:
        key = file, kernel.name
        registers.setdefault(key, {})[architecture] = kernel.registers
        shared[key] = max(shared.get(key, 0), kernel.shared)
    width = max([len(name) for _, name in registers] + [6])
    lines = [f"{'kernel':{width}}  " + " ".join(f"sm_{a:<4}" for a in ARCHITECTURES) + "  shared"]
    last = ""
    for (file, name), found in sorted(registers.items()):
        if file != last:
            lines.append(f"{file}:")
            last = file
        numbers = " ".join(f"{found.get(a, '-'):>7}" for a in ARCHITECTURES)
        lines.append(f"{name:{width}}  {numbers} {shared[file, name]:>7}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compiles every CUDA kernel for every architecture; needs no GPU.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parents[1] / "cuda")
    parser.add_argument("--require", action="store_true", help="fail where nvcc is not found")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what ptxas said about every kernel")
    options = parser.parse_args(words)
    nvcc = find_nvcc()
    if nvcc is None:
        print("check_kernels: nvcc is not found; nothing was checked")
        return int(options.require)
    builds = [(path, architecture) for path in sorted(options.folder.glob("*.cu")) for architecture in ARCHITECTURES
              if architecture >= oldest_architecture(path.read_text(encoding="utf-8"))]
    with ThreadPoolExecutor(COMPILES_AT_ONCE) as pool:
        results = list(pool.map(lambda build: check(nvcc, *build), builds))
    rows = [(path.name, architecture, kernel)
            for (path, architecture), (kernels, _) in zip(builds, results, strict=True) for kernel in kernels]
    wrong = [line for _, lines in results for line in lines]
    print(table(rows))
    files = {path for path, _ in builds}
    print(f"{len(builds)} builds of {len(files)} files, {len(rows)} kernels, {len(wrong)} problems")
    print("\n".join(wrong))
    if options.json:
        found = [{"file": file, "architecture": architecture, **asdict(kernel)} for file, architecture, kernel in rows]
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
