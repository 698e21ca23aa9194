"""How kernels get from source to machine code: compiled once, kept on disk, safely.  The compiler is a script."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from minidl import _cuda_sources
from minidl._devices.cuda import kernels
from minidl.cuda.__main__ import main

# As nvcc: -o names the output.  It writes down that it ran, and compiles to the upper case of the source's last line.
NVCC = """#!/bin/sh
if [ "$1" = --version ]; then echo "nvcc of the tests, release 1"; exit; fi
echo ran >> "$(dirname "$0")/runs"
while [ "$1" != -o ]; do shift; done
if grep -q MISTAKE "$3"; then echo "broken.cu(3): error: MISTAKE is undefined" >&2; exit 1; fi
grep . "$3" | tail -n 1 | tr a-z A-Z > "$2"
"""


@pytest.fixture
def nvcc(tmp_path, monkeypatch):
    """A folder with sources and a compiler; ``runs()`` tells how often it ran."""
    folder = tmp_path / "cuda"
    folder.mkdir()
    (folder / "common.cuh").write_text("// shared\n")
    (folder / "cores.cuh").write_text("// cores\n")
    (folder / "twice.cu").write_text("// twice\ntwice two\n")
    (folder / "newer.cu").write_text("// minidl-min-arch: 80\n// minidl-uses: cores.cuh\nnewer one\n")
    command = tmp_path / "nvcc"
    command.write_text(NVCC)
    command.chmod(0o755)
    monkeypatch.setenv("MINIDL_NVCC", str(command))
    monkeypatch.setenv("MINIDL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_cuda_sources, "folder", lambda: folder)
    return tmp_path


def runs(folder):
    path = folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_file_is_compiled_once_for_each_architecture(nvcc):
    assert kernels.compiled("twice", (9, 0)) == kernels.compiled("twice", (9, 0)) == b"TWICE TWO\n"
    assert runs(nvcc) == 1
    kernels.compiled("twice", (8, 0))
    assert runs(nvcc) == 2


def test_a_changed_source_or_shared_text_is_compiled_again(nvcc):
    kernels.compiled("newer", (9, 0))
    for name in ("newer.cu", "common.cuh", "cores.cuh"):
        path = nvcc / "cuda" / name
        path.write_text(path.read_text() + "changed\n")
        before = runs(nvcc)
        kernels.compiled("newer", (9, 0))
        assert runs(nvcc) == before + 1, name
    assert kernels.compiled("newer", (9, 0)) == b"CHANGED\n"


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_of_the_cache_is_compiled_again(nvcc, damage):
    kernels.compiled("twice", (9, 0))
    (path,) = (nvcc / "cache" / "cuda").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-3] if damage is None else damage)
    assert kernels.compiled("twice", (9, 0)) == b"TWICE TWO\n"
    assert path.read_bytes() == content and runs(nvcc) == 2


def test_two_at_once_leave_one_whole_file(nvcc):
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: kernels.compiled("twice", (9, 0)), range(8))) == {b"TWICE TWO\n"}
    (path,) = (nvcc / "cache" / "cuda").iterdir()
    assert kernels._read(path) == b"TWICE TWO\n"


def test_a_cache_that_cannot_be_written_does_no_harm(nvcc):
    (nvcc / "cache").write_text("a file where the folder should be")
    assert kernels.compiled("twice", (9, 0)) == b"TWICE TWO\n"


def test_a_mistake_is_shown_with_its_line(nvcc):
    (nvcc / "cuda" / "broken.cu").write_text("one\ntwo\nMISTAKE\n")
    with pytest.raises(RuntimeError, match=r"cuda/broken\.cu does not compile for sm_90[\s\S]*broken\.cu\(3\): error"):
        kernels.compiled("broken", (9, 0))
    assert not (nvcc / "cache").exists()


def test_a_missing_compiler_is_named(nvcc, monkeypatch):
    monkeypatch.setenv("MINIDL_NVCC", str(nvcc / "nowhere"))
    with pytest.raises(RuntimeError, match=r"nowhere, which cannot be run.*MINIDL_NVCC"):
        kernels.compiled("twice", (9, 0))


def test_all_can_be_compiled_ahead(nvcc, capsys):
    assert main(["build", "--arch", "sm_75", "9.0"]) == 0
    said = capsys.readouterr().out
    assert "sm_75  twice" in said and "sm_90  twice" in said and "sm_90  newer" in said and "sm_75  newer" not in said
    assert runs(nvcc) == 3
    (nvcc / "cuda" / "broken.cu").write_text("MISTAKE\n")
    assert main(["build", "--arch", "sm_90"]) == 1
    assert "does not compile" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["build", "--arch", "ninety"])


def test_building_without_a_gpu_asks_for_the_architecture():
    code = "import sys; sys.modules['pycuda'] = None; from minidl.cuda.__main__ import main; sys.exit(main(['build']))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 2 and "--arch sm_90" in run.stderr
