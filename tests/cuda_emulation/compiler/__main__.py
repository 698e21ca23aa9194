"""Stands in for nvcc: takes its command line and compiles CUDA C by g++ into an image that the emulated driver loads.

    python compiler --cxx=g++ --library=PATH --cache=FOLDER --key=HASH --checks=0|1 --route=source|ptx \
        --cubin -arch sm_90 [-I..] [-D..] [-o out] file.cu

The first line comes from ``build.nvcc``; the second is what callers of nvcc write.  Images are kept in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import ptx_route
import source_route
from ptx_operands import UnknownPTXError

# Headers that CUDA C includes and that are empty here: device/ has what they declare.
EMPTY_HEADERS = [
    "algorithm", "assert.h", "cassert", "cfloat", "climits", "cmath", "cstddef", "cstdint", "cstdio", "cuda_bf16.h",
    "cuda_fp16.h", "cuda_pipeline.h", "cuda_pipeline_primitives.h", "cuda_runtime.h", "float.h", "limits", "limits.h",
    "math.h", "math_constants.h", "mma.h", "stddef.h", "stdint.h", "stdio.h", "type_traits", "utility",
]
DEVICE_HEADER = Path(__file__).resolve().parents[1] / "device" / "cuda.h"
OUTPUT_KINDS = ("cubin", "ptx", "fatbin")
WITH_VALUE = ("-arch", "-code", "-gencode", "--gpu-architecture", "-o", "-Xptxas", "-Xcompiler", "--compiler-options",
              "-std", "-diag-suppress")
CHECKS = ["-fsanitize=bounds,alignment,shift,vla-bound", "-fsanitize-undefined-trap-on-error"]


@dataclass
class Request:
    """A command line, taken apart."""

    source: Path
    output: Path
    architecture: str = "90"
    preprocessor: list[str] = field(default_factory=list)
    only_preprocess: bool = False


class CompileError(Exception):
    """The text says what the compiler had to say."""


def parse(words: list[str]) -> Request:
    """nvcc's options as far as they matter here; the others (optimization, ptxas) are dropped."""
    source = output = None
    kind, architecture, preprocessor, only_preprocess = "cubin", "90", [], False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in WITH_VALUE:
            value = value if equals else next(rest, "")
            if name == "-o":
                output = Path(value)
            elif digits := re.search(r"(?:sm|compute)_(\d+)", value):
                architecture = digits[1]
        elif word.lstrip("-") in OUTPUT_KINDS:
            kind = word.lstrip("-")
        elif word in ("--preprocess", "-E"):
            only_preprocess = True
        elif word.startswith(("-I", "-D", "-U")):
            preprocessor.append(word if len(word) > 2 else word + next(rest, ""))
        elif not word.startswith("-"):
            source = Path(word)
    if source is None:
        raise CompileError("nvcc fatal   : No input files specified; use option --help for more information")
    return Request(source, output or Path(f"{source.stem}.{kind}"), architecture, preprocessor, only_preprocess)


def in_nvcc_style(text: str) -> str:
    """g++'s ``file:12:5: error: ...`` as nvcc's ``file(12): error: ...``."""
    return re.sub(r"^([^:\n]+):(\d+):(?:\d+:)? (?:fatal )?(error|warning): ", r"\1(\2): \3: ", text, flags=re.MULTILINE)


def run(words: list[str]) -> str:
    """The command's standard output; ``CompileError`` with what it said if it fails."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(in_nvcc_style(done.stderr))
    return done.stdout


class Compiler:
    """g++ in a cache folder, with the settings that ``build.nvcc`` chose."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.cxx, self.library = settings["cxx"], Path(settings["library"])
        self.cache, self.key = Path(settings["cache"]), settings["key"]
        self.nvcc = settings["nvcc"]
        self.checks, self.route = settings["checks"] == "1", settings["route"]

    def version(self) -> str:
        """Three lines like nvcc's; the key makes caches of compiled kernels tell the versions apart."""
        return ("nvcc: NVIDIA (R) Cuda compiler driver, emulated on the CPU\n"
                "Cuda compilation tools, release 13.0, V13.0.0\n"
                f"Build {self.key} checks={int(self.checks)} route={self.route}")

    def preprocess(self, request: Request) -> str:
        """The source with its macros replaced, includes inserted and ``#line`` kept as line markers."""
        headers = self.cache / f"headers-{self.key}"
        if not headers.exists():
            headers.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=self.cache))
            for name in EMPTY_HEADERS:
                (scratch / name).touch()
            with contextlib.suppress(OSError):  # another process was faster
                scratch.rename(headers)
        # nvcc must see the inline PTX that the source route leaves out.
        emulated = [] if self.route == "ptx" else ["-DMINIDL_EMULATED=1"]
        return run([self.cxx, "-E", "-x", "c++", "-nostdinc", "-nostdinc++", "-undef", "-D__CUDACC__",
                    *emulated, "-D__cplusplus=201703L", f"-D__CUDA_ARCH__={request.architecture}0",
                    f"-I{headers}", *request.preprocessor, str(request.source)])

    def compile(self, request: Request) -> bytes:
        """The image of the request's source, from the cache if it has been compiled before."""
        text = self.preprocess(request)
        parts = [text, self.key, self.cxx, str(self.library), str(self.checks), self.route, request.architecture]
        image = self.cache / "images" / (hashlib.sha256("\0".join(parts).encode()).hexdigest() + ".so")
        if image.exists():
            return image.read_bytes()
        image.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=image.parent) as scratch:
            made = Path(scratch) / "image.so"
            rewritten = Path(scratch) / request.source.name  # this name is what the debugging information has
            if self.route == "ptx":
                rewritten.write_text(self.translated_ptx(request, Path(scratch) / "kernels.ptx"), encoding="utf-8")
                self.build(rewritten, made, ["-O1", "-ffp-contract=off", f"-I{DEVICE_HEADER.parent}"])
            else:
                rewritten.write_text(source_route.rewrite(text), encoding="utf-8")
                self.build(rewritten, made, ["-O2", "-ffp-contract=fast", *(CHECKS if self.checks else [])])
            made.replace(image)
        return image.read_bytes()

    def translated_ptx(self, request: Request, ptx: Path) -> str:
        """What NVIDIA's compiler makes of the source, in C++."""
        if not self.nvcc:
            raise CompileError("the PTX route needs NVIDIA's nvcc, which is not found")
        run([self.nvcc, "-ptx", f"-arch=compute_{request.architecture}", *request.preprocessor, str(request.source),
             "-o", str(ptx)])
        try:
            return ptx_route.translate(ptx.read_text(encoding="utf-8"))
        except UnknownPTXError as error:
            raise CompileError(f"{request.source}: the PTX translator does not know {error}") from None

    def build(self, source: Path, made: Path, options: list[str]) -> None:
        """Compile C++ that the device header goes before."""
        run([self.cxx, "-std=c++20", *options, "-g1", *self.instruction_set(), "-fno-strict-aliasing",
             "-fno-gnu-unique", "-fno-threadsafe-statics", "-fPIC", "-shared", "-Wl,-Bsymbolic", "-w",
             "-include", str(DEVICE_HEADER), "-x", "c++", str(source), "-x", "none", "-o", str(made),
             f"-L{self.library.parent}", "-l:libcuda.so.1"])

    def instruction_set(self) -> list[str]:
        """A GPU has fused multiply-add: so has the emulation, in one instruction where the processor has it."""
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return ["-mavx2", "-mfma"] if " avx2 " in flags and " fma " in flags else []


def main(words: list[str]) -> int:
    ours = ("--cxx=", "--library=", "--cache=", "--key=", "--checks=", "--route=", "--nvcc=")
    settings = dict(word[2:].split("=", 1) for word in words if word.startswith(ours))
    words = [word for word in words if not word.startswith(ours)]
    compiler = Compiler(settings)
    if "--version" in words or "-V" in words:
        print(compiler.version())
        return 0
    try:
        request = parse(words)
        if request.only_preprocess:
            sys.stdout.write(re.sub(r"^# .*\n", "", compiler.preprocess(request), flags=re.MULTILINE))
        else:
            request.output.write_bytes(compiler.compile(request))
    except CompileError as error:
        sys.stderr.write(str(error)[:20000] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
