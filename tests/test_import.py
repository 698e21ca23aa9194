"""``import minidl`` is cheap: it loads NumPy and minidl's own modules, nothing that waits for a later use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minidl

# Extras, and parts of the standard library that take long to load or start something.
LATER = [
    "torch",
    "matplotlib",
    "pycuda",
    "PIL",
    "scipy",
    "tqdm",
    "safetensors",
    "multiprocessing",
    "concurrent",
    "asyncio",
    "ssl",
    "http",
    "urllib.request",
    "email",
    "socket",
    "sqlite3",
    "unittest",
    "doctest",
    "pydoc",
    "pytest",
    "hypothesis",
    "IPython",
    "setuptools",
    "Cython",
]


def modules_after(statement: str, folder: Path) -> set[str]:
    """Names of all modules that a fresh interpreter holds after ``statement``."""
    where = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    # -S would hide an editable install; -P keeps the working directory out of sys.path.
    run = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=folder, env=where, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def loaded(names: set[str], wanted: list[str]) -> list[str]:
    return [want for want in wanted if any(name == want or name.startswith(want + ".") for name in names)]


@pytest.fixture(scope="module")
def added_by_minidl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    return modules_after("import minidl", folder) - modules_after("import numpy", folder)


def test_import_loads_nothing_that_can_wait(added_by_minidl):
    assert "minidl" in added_by_minidl
    assert loaded(added_by_minidl, LATER) == []


def test_a_module_that_cannot_wait_would_be_seen(tmp_path):
    names = modules_after("import numpy, multiprocessing.pool", tmp_path)
    assert loaded(names, ["multiprocessing", "torch"]) == ["multiprocessing"]


def test_import_starts_no_process_and_no_thread(tmp_path):
    program = "import minidl, threading; assert threading.active_count() == 1, threading.enumerate()"
    where = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, env=where, check=True)
