"""Builds the stand-in for libcuda.so.1, and the commands that stand in for nvcc, in a cache folder.

Everything lies outside the source tree, in a folder whose name is a hash of what it was made from, so that a changed
file is built anew and nothing has to be cleaned.  A file is written under a temporary name and renamed: of two
processes that build at the same time the second replaces the first one's file by an equal one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
DRIVER = HERE / "driver"
FLAGS = ["-std=c++20", "-O2", "-g1", "-fPIC", "-fvisibility=hidden"]


class CannotEmulateError(RuntimeError):
    """What this machine lacks to emulate a GPU, in a sentence."""


def compiler() -> str:
    """The C++ compiler: ``$CXX``, or g++."""
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        raise CannotEmulateError(f"the CUDA emulation is compiled by {name}, which is not installed")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise CannotEmulateError("the CUDA emulation switches stacks in assembler for Linux on x86-64 only")
    return path


def cache_folder() -> Path:
    """``$MINIDL_CUDA_EMULATION_CACHE``, or a folder in the user's cache."""
    chosen = os.environ.get("MINIDL_CUDA_EMULATION_CACHE")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else user / "minidl" / "cuda_emulation"


def content_hash(files: list[Path], *more: str) -> str:
    """A name for what these files and texts hold."""
    digest = hashlib.sha256()
    for text in [*more, *(path.name + "\0" + path.read_text(encoding="utf-8") for path in sorted(files))]:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:24]


def sources(*folders: Path) -> list[Path]:
    """Every source file in these folders."""
    return [path for folder in folders for path in folder.iterdir() if path.suffix in (".py", ".h", ".cpp")]


def names_pycuda_needs() -> list[str]:
    """The driver's functions that PyCUDA's extension module calls, used or not: the loader wants all of them."""
    spec = find_spec("pycuda")
    places = spec.submodule_search_locations or [] if spec else []
    modules = [path for place in places for path in Path(place).glob("_driver*.so")]
    listed = [subprocess.run(["nm", "-D", "--undefined-only", path], capture_output=True, text=True).stdout
              for path in modules]
    return sorted(set(re.findall(r"\b(cu[A-Z]\w*)", "\n".join(listed))))


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotEmulateError(f"the CUDA emulation does not compile:\n{done.stderr}")


def library() -> Path:
    """The path of libcuda.so.1, built if it was not there."""
    gxx = compiler()
    files = [*sources(DRIVER), HERE / "device" / "runtime.h"]
    written = set(re.findall(r"\b(cu[A-Z]\w*)\(", "\n".join(path.read_text(encoding="utf-8") for path in files)))
    missing = [name for name in names_pycuda_needs() if name not in written]
    version = subprocess.run([gxx, "--version"], capture_output=True, text=True).stdout
    folder = cache_folder() / f"driver-{content_hash(files, version, *FLAGS, *missing)}"
    path = folder / "libcuda.so.1"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        stubs = Path(scratch) / "not_supported.cpp"
        stubs.write_text("".join(
            f'extern "C" __attribute__((visibility("default"))) int {name}() {{ return 801; }}\n' for name in missing))
        units = [stubs, *(file for file in files if file.suffix == ".cpp")]
        objects = [str(Path(scratch) / f"{unit.stem}.o") for unit in units]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda unit, made: run([gxx, *FLAGS, "-c", str(unit), "-o", made]), units, objects))
        made = Path(scratch) / path.name
        run([gxx, "-shared", "-Wl,-soname,libcuda.so.1", "-o", str(made), *objects, "-ldl"])
        made.replace(path)
    return path


def real_nvcc() -> str | None:
    """NVIDIA's nvcc, which the PTX route needs: on PATH or where its installer puts it."""
    return shutil.which("nvcc", path=os.environ.get("PATH", "") + os.pathsep + "/usr/local/cuda/bin")


def nvcc(*, checks: bool = True, ptx: bool = False) -> Path:
    """The path of a command that takes nvcc's arguments and compiles kernels for the stand-in driver.

    With ``checks`` the kernels' array bounds and alignments are watched; with ``ptx`` the real nvcc compiles to PTX
    first and that is what runs, inline PTX included.
    """
    key = content_hash(sources(HERE / "compiler", HERE / "device"))
    options = {"cxx": compiler(), "library": library(), "cache": cache_folder(), "key": key, "checks": int(checks),
               "route": "ptx" if ptx else "source", "nvcc": real_nvcc() or ""}
    words = [sys.executable, "-S", "-E", HERE / "compiler", *(f"--{name}={value}" for name, value in options.items())]
    text = "#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in words) + ' "$@"\n'
    folder = cache_folder() / f"nvcc-{content_hash([], text)}"
    path = folder / "nvcc"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        os.write(handle, text.encode())
        os.close(handle)
        Path(name).chmod(0o755)
        Path(name).replace(path)
    return path
