"""From ``cuda/<file>.cu`` to machine code for one architecture: compiled once, kept on disk.

A file of the cache is named by everything that went into it (source, shared text, architecture, options, the compiler's
version) and holds, before the code, a digest of it: a file that was cut short or damaged is compiled again.  It is
written under another name and then renamed, so that two processes that compile at once do no harm.

    MINIDL_NVCC         the compiler; default: nvcc
    MINIDL_CACHE_DIR    where the cache lies; default: ~/.cache/minidl
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from minidl import _cuda_sources

OPTIONS = ("-O3", "-std=c++17")
_DIGEST = 32  # bytes of SHA-256
_USES = re.compile(r"^//\s*minidl-uses:\s*(.+)$", re.MULTILINE)


def source(file: str) -> str:
    """The text that is compiled for ``cuda/<file>.cu``: the shared texts, then the file.

    ``common.cuh`` is shared by all; a line ``// minidl-uses: NAME.cuh ...`` in a file names others.
    """
    folder = _cuda_sources.folder()
    text = folder / f"{file}.cu"
    used = [name for line in _USES.findall(text.read_text()) for name in line.split()]
    paths = [folder / name for name in ("common.cuh", *used)]
    return "".join(f'#line 1 "{path.name}"\n{path.read_text()}\n' for path in (*paths, text))


def files() -> list[str]:
    """The names of all files of kernels."""
    return sorted(path.stem for path in _cuda_sources.folder().glob("*.cu"))


def compiler() -> str:
    """The compiler's command."""
    return os.environ.get("MINIDL_NVCC") or "nvcc"


@functools.cache
def _version(command: str) -> str:
    try:
        return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"CUDA kernels are compiled at their first use by {command}, which cannot be run ({error}); "
                           "install the CUDA toolkit, or name its nvcc in MINIDL_NVCC") from error


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    given = os.environ.get("MINIDL_CACHE_DIR")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minidl"
    return base / "cuda"


def compiled(file: str, capability: tuple[int, int]) -> bytes:
    """The machine code (cubin) of ``cuda/<file>.cu`` for a compute capability such as (9, 0), from the cache or anew.

    Raises ``RuntimeError`` with the compiler's words where it does not compile.
    """
    text, arch = source(file), f"sm_{capability[0]}{capability[1]}"
    key = hashlib.sha256("\0".join([text, arch, *OPTIONS, _version(compiler())]).encode()).hexdigest()
    path = cache_folder() / f"{file}-{arch}-{key[:32]}.cubin"
    kept = _read(path)
    if kept is None:
        kept = _compile(file, text, arch)
        _write(path, kept)
    return kept


def _compile(file: str, text: str, arch: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, f"{file}.cu"), Path(folder, f"{file}.cubin")
        given.write_text(text)
        command = [compiler(), "-cubin", "-arch", arch, *OPTIONS, "-o", str(made), str(given)]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode or not made.exists():
            raise RuntimeError(f"cuda/{file}.cu does not compile for {arch} with {compiler()}:\n"
                               f"{ran.stderr}{ran.stdout}")
        return made.read_bytes()


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    code = content[_DIGEST:]
    return code if code and hashlib.sha256(code).digest() == content[:_DIGEST] else None


def _write(path: Path, code: bytes) -> None:
    """Keep it; a cache that cannot be written only costs the next process its time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(name, path)
