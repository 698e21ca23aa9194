"""``import minidl`` is cheap: it loads NumPy and minidl's own modules, nothing that waits for a later use."""

import ast
import importlib
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
    "dataclasses",
    "traceback",
    "queue",
]
# Its own modules that the first tensors do not need.
LATER_OF_MINIDL = [
    "minidl._printing",
    "minidl.autograd.finite_differences",
    "minidl.backends",
    "minidl.compiler",
    "minidl.cuda",
    "minidl.datasets",
    "minidl.nn",
    "minidl.optim",
    "minidl.serialization",
    "minidl.utils",
]
PACKAGES = ["minidl", "minidl.autograd", "minidl.optim", "minidl.utils", "minidl.utils.data"]


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
    assert loaded(added_by_minidl, LATER + LATER_OF_MINIDL) == []


def test_a_training_loop_loads_nothing_that_can_wait(tmp_path):
    program = "import minidl\nminidl.nn.Linear, minidl.optim.SGD, minidl.utils.data.DataLoader, minidl.save"
    names = modules_after(program, tmp_path) - modules_after("import numpy", tmp_path)
    assert {"minidl.nn", "minidl.optim", "minidl.utils.data", "minidl.serialization"} <= names
    later = [*LATER, "minidl.optim.lr_scheduler", "minidl.utils.data.worker", "minidl.compiler", "minidl.datasets"]
    assert loaded(names, later) == []


def test_a_fresh_interpreter_finds_every_name(tmp_path):
    program = """
import minidl
assert {"nn", "optim", "utils", "compile", "save", "datasets", "float32", "Tensor"} <= set(dir(minidl))
minidl.autograd.gradcheck, minidl.autograd.gradgradcheck, minidl.optim.lr_scheduler.StepLR, minidl.set_printoptions
minidl.datasets.MNIST, minidl.backends.cpu.get_cpu_capability, minidl.cuda.is_available, minidl.serialization.save
minidl.compiler.recording, minidl.compile, minidl.utils.data.get_worker_info
from minidl import *
from minidl import nn as layers, utils
assert layers is nn is minidl.nn and save is minidl.save and abs is minidl.abs
"""
    assert "minidl.nn" in modules_after(program, tmp_path)


def names_under_type_checking(package: str) -> dict[str, str]:
    """Name -> module or object that it stands for, from the imports that only a type checker reads."""
    tree = ast.parse(Path(importlib.import_module(package).__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_type_checker_sees_is_there(package):
    module = importlib.import_module(package)
    seen = names_under_type_checking(package)
    assert seen
    for name, full_name in seen.items():
        assert name in dir(module)
        where, _, what = full_name.rpartition(".")
        expected = getattr(importlib.import_module(where), what)
        assert getattr(module, name) is expected
    later = [cell.cell_contents for cell in module.__getattr__.__closure__ if isinstance(cell.cell_contents, dict)]
    assert [set(origins) for origins in later] == [set(seen)]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_nowhere(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = importlib.import_module(package).nothing


def test_a_module_that_cannot_wait_would_be_seen(tmp_path):
    names = modules_after("import numpy, multiprocessing.pool", tmp_path)
    assert loaded(names, ["multiprocessing", "torch"]) == ["multiprocessing"]


def test_import_starts_no_process_and_no_thread(tmp_path):
    program = "import minidl, threading; assert threading.active_count() == 1, threading.enumerate()"
    where = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, env=where, check=True)
