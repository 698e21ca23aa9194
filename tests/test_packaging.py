"""What an sdist, a wheel and an editable install hold, and what a build says when the machine lacks something."""

import importlib.metadata
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from minidl._version import __version__

ROOT = Path(__file__).resolve().parents[1]
source_tree = pytest.mark.source_tree

# What builds, tests and people leave in a source tree.
LEFT_BEHIND = [
    ".git",
    ".venv*",
    "build",
    "dist",
    "runs",
    "_libs",
    "*.egg-info",
    "*.so",
    "*.dylib",
    "*.html",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
]
CUDA_C = 'extern "C" __global__ void probe() {}\n'


@pytest.fixture
def tree(tmp_path):
    """A copy of the source tree with two CUDA sources in it."""
    copy = tmp_path / "tree"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    (copy / "cuda" / "probe.cu").write_text(CUDA_C)
    (copy / "cuda" / "probe.cuh").write_text(CUDA_C)
    return copy


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def setup_py(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", *arguments],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def cuda_folder(module: Path) -> Path:
    """What ``minidl._cuda_sources.folder()`` says when the module lies at this path."""
    return runpy.run_path(str(module))["folder"]()


@source_tree
def test_sdist_holds_the_source_tree_and_nothing_else(tree, tmp_path):
    wanted = files_below(tree)
    (tree / "minidl" / "_libs").mkdir()
    (tree / "minidl" / "_libs" / "libscipy_openblas.so").touch()
    (tree / "build" / "cython").mkdir(parents=True)
    (tree / "build" / "cython" / "blas.c").touch()
    run = setup_py(tree, "sdist", "--dist-dir", str(tmp_path / "dist"))
    assert run.returncode == 0, run.stderr
    with tarfile.open(next((tmp_path / "dist").glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    made = {name for name in held if name in ("PKG-INFO", "setup.cfg") or name.startswith("minidl.egg-info/")}
    assert held - made == wanted


@source_tree
def test_wheel_holds_all_but_sources_for_the_compiler(tree, tmp_path):
    wanted = {name for name in files_below(tree) if name.startswith("minidl/")}
    wanted = {name for name in wanted if not name.endswith((".pyx", ".pxd", ".h", ".c", ".md"))}
    wanted |= {"minidl/_cuda/probe.cu", "minidl/_cuda/probe.cuh"}
    run = setup_py(tree, "build_py", "--build-lib", str(tmp_path / "lib"))
    assert run.returncode == 0, run.stderr
    assert files_below(tmp_path / "lib") == wanted


@source_tree
def test_cuda_sources_are_found_in_a_wheel_and_in_the_tree(tree, tmp_path):
    assert setup_py(tree, "build_py", "--build-lib", str(tmp_path / "lib")).returncode == 0
    for module in (tree / "minidl" / "_cuda_sources.py", tmp_path / "lib" / "minidl" / "_cuda_sources.py"):
        assert (cuda_folder(module) / "probe.cu").read_text() == CUDA_C


@source_tree
def test_lost_cuda_sources_are_named(tree):
    (tree / "cuda").rename(tree / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"CUDA sources are neither in .*_cuda nor in .*cuda: install"):
        cuda_folder(tree / "minidl" / "_cuda_sources.py")


@source_tree
def test_cuda_folder_is_no_package():
    assert not (ROOT / "cuda" / "__init__.py").exists(), "a package called cuda shadows NVIDIA's"


def without_openmp(folder: Path) -> str:
    """The path of a compiler that has no OpenMP."""
    compiler = folder / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *fopenmp*) echo "no OpenMP" >&2; exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    return str(compiler)


def without_python_h(folder: Path) -> str:
    """The path of a compiler that never finds Python.h."""
    compiler = folder / "cc"
    compiler.write_text('#!/bin/sh\nfor last; do :; done\ngrep -qs Python.h probe.c && exit 1\nexec cc "$@"\n')
    compiler.chmod(0o755)
    return str(compiler)


@source_tree
@pytest.mark.parametrize("program", ["setup.py", "tools/toolchain.py"])
@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        (lambda folder: "/nonexistent", ["C compiler", "/nonexistent", "build-essential", "dnf", "xcode-select", "CC"]),
        (lambda folder: "false", ["C compiler", "'false' does not work", "exit status 1"]),
        (without_python_h, ["Python.h", "python3-dev", "python3-devel", "brew"]),
        (without_openmp, ["OpenMP", "libgomp", "libomp"]),
    ],
    ids=["no compiler", "broken compiler", "no Python.h", "no OpenMP"],
)
def test_what_the_machine_lacks_is_said_in_one_sentence(tree, tmp_path, program, compiler, words):
    run = subprocess.run(
        [sys.executable, program, *(["-q", "build_ext"] if program == "setup.py" else [])],
        cwd=tree,
        env={**os.environ, "CC": compiler(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert run.stderr.count("\n") == 1, run.stderr
    assert run.stderr.startswith("minidl ")
    assert [word for word in words if word not in run.stderr] == []


@source_tree
def test_a_missing_system_blas_is_said_in_one_sentence(tree):
    run = setup_py(tree, "build_ext", MINIDL_BLAS="no-such-blas")
    assert run.returncode != 0
    assert run.stderr.count("\n") == 1, run.stderr
    assert "no-such-blas" in run.stderr
    assert "libopenblas-dev" in run.stderr


PROBE_C = """
#define NAME2(isa) probe_##isa
#define NAME(isa) NAME2(isa)
int NAME(ISA)(void) {
#if defined(ISA_avx2) && defined(__AVX2__)
    return 2;
#elif defined(ISA_base)
    return 1;
#else
    return 0;
#endif
}
"""
PROBE_PYX = """
cdef extern from *:
    "int probe_base(void);"
    int probe_base()

def probe(values):
    cdef double[:] view = values
    return probe_base() + view[5]
"""


@source_tree
@pytest.mark.slow
def test_c_sources_and_bounds_checks(tree):
    """A C file of ``C_SOURCES`` is linked into its extension, and MINIDL_CHECKS=1 makes a wrong index an IndexError."""
    for tool in ("Cython", "scipy_openblas32"):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"needs {tool}")
    kept = ("blas.pyx", "blas.pxd", "blas_names.h")
    for path in (tree / "minidl" / "_ext").iterdir():
        if path.name not in kept:
            path.unlink()
    for name, text in {"__init__.py": "", "probe.pyx": PROBE_PYX, "probe_kernels.c": PROBE_C}.items():
        (tree / "minidl" / "_ext" / name).write_text(text)
    (tree / "minidl" / "__init__.py").write_text("")
    setup = (tree / "setup.py").read_text()
    entry = 'C_SOURCES.clear()\nC_SOURCES["probe"] = {"minidl/_ext/probe_kernels.c": ("base", "avx2")}\n'
    assert setup.count("\nINSTRUCTION_SETS = ") == 1
    (tree / "setup.py").write_text(setup.replace("\nINSTRUCTION_SETS = ", f"\n{entry}\nINSTRUCTION_SETS = "))
    program = "import array; from minidl._ext import blas, probe; print(probe.probe(array.array('d', [1.0] * {})))"

    def answer(length: int) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", program.format(length)], cwd=tree, capture_output=True, text=True, check=False
        )

    run = setup_py(tree, "build_ext", "--inplace", MINIDL_CHECKS="1")
    assert run.returncode == 0, run.stderr
    assert "warning" not in run.stderr
    assert answer(6).stdout == "2.0\n"
    assert "IndexError" in answer(5).stderr


def test_version_is_the_one_that_is_installed():
    try:
        installed = importlib.metadata.version("minidl")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("minidl is not installed, only built in place")
    assert installed == __version__


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_blas_is_the_vendored_one_and_brings_its_licence():
    from minidl._ext import blas

    libraries = Path(blas.__file__).parents[1] / "_libs"
    if not libraries.exists():
        pytest.skip("minidl is linked with a BLAS of the system")
    program = "import minidl._ext.blas; print(open('/proc/self/maps').read())"
    run = subprocess.run([sys.executable, "-c", program], cwd=libraries.parents[1], capture_output=True, text=True)
    mapped = {line.split()[-1] for line in run.stdout.splitlines() if "openblas" in line}
    assert str(libraries / "libscipy_openblas.so") in mapped
    assert "OpenBLAS" in (libraries / "LICENSE.openblas.txt").read_text()
