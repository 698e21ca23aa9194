"""``python -m minidl.cuda build``: compile all CUDA kernels now instead of each at its first use."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from minidl import cuda
from minidl._devices.cuda import kernels


def _architecture(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(?:sm_)?(\d+)\.?(\d)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected an architecture such as sm_90 or 9.0, got {text!r}")
    return int(found[1]), int(found[2])


def build(capabilities: list[tuple[int, int]]) -> None:
    """Compile every file for every architecture that it is meant for, some at once, and say how long each takes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for told in pool.map(_built, [(file, capability) for capability in capabilities for file in kernels.files()
                                      if capability >= kernels.oldest_capability(file)]):
            print(told, flush=True)
    print(f"kept in {kernels.cache_folder()}")


def _built(pair: tuple[str, tuple[int, int]]) -> str:
    file, (major, minor) = pair
    start = time.perf_counter()
    size = len(kernels.compiled(file, (major, minor)))
    return f"sm_{major}{minor}  {file:<20} {size / 1024:8.0f} KB {time.perf_counter() - start:6.1f} s"


def main(words: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m minidl.cuda", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    builds = commands.add_parser("build", help="compile all kernels, for the GPUs of this machine or those named")
    builds.add_argument("--arch", nargs="+", type=_architecture, metavar="sm_90", help="architectures to compile for")
    options = parser.parse_args(words)
    found = options.arch or sorted({cuda.get_device_capability(index) for index in range(cuda.device_count())})
    if not found:
        print("python -m minidl.cuda build: this machine has no GPU; name the architectures, such as --arch sm_90",
              file=sys.stderr)
        return 2
    try:
        build(found)
    except RuntimeError as error:
        print(f"python -m minidl.cuda build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
