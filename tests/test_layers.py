"""Who may know whom: every import in ``minidl/`` points down the layers, or stays on its own.

    nn, optim, utils, datasets, transforms -> tensor methods -> ops -> autograd -> _devices -> _ext kernels

with ``geometry``, ``_types`` and the compiled core below everything.  Imports inside functions count, and so do
``cimport`` and stubs.
"""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.source_tree

ROOT = Path(__file__).resolve().parents[1]

# From the ground up.  A module belongs where its longest prefix stands; a new module at the top level must be placed.
LAYERS = [
    ["minidl.geometry", "minidl._types", "minidl._version", "minidl._cuda_sources", "minidl._on_first_use"],
    ["minidl._ext.__init__", "minidl._ext.core", "minidl._ext.storage", "minidl._ext.array_over",
     "minidl._ext.device_array", "minidl._ext.device_pool", "minidl._ext.threads"],
    ["minidl._ext"],
    ["minidl._random", "minidl._generator"],
    ["minidl._devices"],
    ["minidl.autograd"],
    ["minidl.ops"],
    ["minidl._tensor", "minidl._printing", "minidl.serialization"],
    ["minidl.nn", "minidl.optim", "minidl.utils", "minidl.datasets", "minidl.transforms"],
    ["minidl.compiler"],
    ["minidl.__init__", "minidl.backends", "minidl.cuda", "minidl.explain"],
]
RANK = {prefix: rank for rank, layer in enumerate(LAYERS) for prefix in layer}

# Downward, and still forbidden: (from, to, why).
FORBIDDEN = [
    ("minidl._devices", "minidl._ext.core", "a device computes on raw arrays and never sees a Tensor"),
    ("minidl.nn", "minidl._devices", "a module never sees a device; it calls ops"),
    ("minidl.nn", "minidl._ext", "a module never sees a kernel; it calls ops"),
]

# Upward, or forbidden, on purpose: (module, module it imports) -> why.
ALLOWED: dict[tuple[str, str], str] = {
    ("minidl._ext.__init__", "minidl._ext.blas"): "OpenBLAS reads its settings when it is loaded",
    ("minidl._ext.core", "minidl._ext.random"): "the stub: methods that minidl._tensor attaches take a Generator",
    ("minidl.nn.module", "minidl._ext.forwarding"): "how a module is called, in compiled code; no kernel",
}

ONLY_IN = {"pycuda": "minidl._devices.cuda.process"}

CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[.\w]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n#]+)"
    r"|c?import[ \t]+(?P<modules>[^\n#(]+))",
    re.MULTILINE,
)


def module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts)


def absolute(importer: str, dots: int, base: str) -> str:
    """The full name of ``base`` as a relative import with ``dots`` dots names it inside ``importer``."""
    return ".".join([*importer.split(".")[:-dots], *base.split(".")] if dots else [base]).rstrip(".")


def python_imports(text: str, importer: str):
    """(names imported from it or None, module) for every import statement and every ``import_module("...")``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield absolute(importer, node.level, node.module or ""), [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if function in ("import_module", "__import__"):
                yield node.args[0].value, []


def cython_imports(text: str, importer: str):
    """The same for ``import`` and ``cimport`` in Cython, where docstrings are cut away first."""
    text = re.sub(r'"""[\s\S]*?"""', "", text).replace("\\\n", " ")
    for match in CYTHON_IMPORT.finditer(text):
        if match["base"]:
            base = match["base"].lstrip(".")
            names = re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?", re.sub(r"[()#]|\n", " ", match["names"]))
            yield absolute(importer, len(match["base"]) - len(base), base), names
        else:
            yield from ((module.split(" as ")[0].strip(), []) for module in match["modules"].split(","))


def imported_modules(path: Path, root: Path) -> set[str]:
    """Full names of the modules that a file imports; packages of minidl as ``package.__init__``."""
    importer = module_name(path, root)
    read = python_imports if path.suffix in (".py", ".pyi") else cython_imports
    found = set()
    for module, names in read(path.read_text(encoding="utf-8"), importer):
        if module.split(".")[0] != "minidl":
            found.add(module)
            continue
        inside = [f"{module}.{name}" for name in names]
        found.update(full_name(name, root) for name in inside if full_name(name, root))
        if not names or any(full_name(name, root) is None for name in inside):
            found.add(full_name(module, root) or module)
    return found


def full_name(module: str, root: Path) -> str | None:
    """``module`` if it is a file, ``module.__init__`` if it is a package, None if it is only a name in a module."""
    path = root.joinpath(*module.split("."))
    if (path / "__init__.py").exists():
        return f"{module}.__init__"
    return module if any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyx", ".pxd", ".pyi")) else None


def below(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def rank(module: str) -> int:
    fitting = [prefix for prefix in RANK if below(module, prefix)]
    assert fitting, f"{module} stands in no layer: place it in LAYERS of tests/test_layers.py"
    return RANK[max(fitting, key=len)]


def sources(root: Path) -> list[Path]:
    return sorted(path for path in (root / "minidl").rglob("*") if path.suffix in (".py", ".pyi", ".pyx", ".pxd"))


def violations(root: Path) -> list[str]:
    found = []
    for path in sources(root):
        importer = module_name(path, root)
        for module in sorted(imported_modules(path, root)):
            top = module.split(".")[0]
            if top in ONLY_IN and importer != ONLY_IN[top]:
                found.append(f"{importer} imports {module}: only {ONLY_IN[top]} may")
            if top != "minidl" or (importer, module) in ALLOWED:
                continue
            if rank(module) > rank(importer):
                found.append(f"{importer} imports {module}, which stands above it")
            found += [
                f"{importer} imports {module}: {why}"
                for start, end, why in FORBIDDEN
                if below(importer, start) and below(module, end)
            ]
    return found


@pytest.fixture
def package(tmp_path):
    """A function that writes a package in the form of minidl: ``package({"ops/relu.py": "import minidl.nn"})``."""

    def write(files: dict[str, str]) -> Path:
        for name in ["", "_ext/", "_devices/", "autograd/", "ops/", "nn/"]:
            files.setdefault(f"{name}__init__.py", "")
        for name, text in files.items():
            path = tmp_path / "minidl" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_no_import_points_up():
    assert violations(ROOT) == []


def test_every_exception_is_still_needed():
    used = {(module_name(path, ROOT), module) for path in sources(ROOT) for module in imported_modules(path, ROOT)}
    assert set(ALLOWED) <= used


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("ops/relu.py", "import minidl.nn"),
        ("ops/relu.py", "import minidl"),
        ("ops/relu.py", "from minidl import nn"),
        ("ops/relu.py", "from .. import nn"),
        ("ops/relu.py", "from ..nn import Linear"),
        ("ops/relu.py", "def relu(x):\n    from minidl.nn import functional"),
        ("ops/relu.py", "import importlib\nnn = importlib.import_module('minidl.nn')"),
        ("geometry.py", "from minidl import Tensor"),
        ("geometry.py", "import minidl._types, minidl.ops"),
        ("_ext/conv.pyx", "from minidl._devices cimport cpu"),
        ("_ext/core.pyx", "cimport minidl._ext.blas"),
        ("_ext/core.pyx", "from minidl._ext.blas cimport gemm_f32"),
        ("_ext/core.pyx", "from .blas cimport (\n    gemm_f32,\n    gemm_f64)"),
        ("_ext/core.pxd", "    from minidl._ext cimport threads, blas as door  # why"),
        ("_ext/core.pyi", "from minidl.autograd import Function"),
        ("_devices/cpu.py", "from minidl._ext.core import Tensor"),
        ("nn/linear.py", "from minidl._devices import cpu"),
        ("nn/linear.py", "from minidl._ext import blas"),
        ("_devices/cuda.py", "import pycuda.driver"),
    ],
)
def test_a_wrong_import_is_seen(package, file, text):
    others = ["nn/functional.py", "_devices/cpu.py", "_ext/blas.pyx", "_ext/threads.pyx", "_ext/core.pyx", "_types.py"]
    root = package({**dict.fromkeys(others, ""), file: text})
    assert len(violations(root)) == 1


def test_right_imports_pass(package):
    root = package(
        {
            "__init__.py": "from minidl import nn\nfrom minidl.ops import relu",
            "nn/linear.py": "from minidl.nn import functional\nfrom minidl.geometry import pair",
            "nn/functional.py": "from minidl import ops\nimport numpy as np",
            "ops/relu.py": "from minidl._devices import cpu\nfrom minidl._ext.core import Tensor",
            "_devices/cpu.py": "from minidl._ext import relu",
            "_devices/cuda/__init__.py": "from .process import driver",
            "_devices/cuda/process.py": "import pycuda.driver",
            "_ext/relu.pyx": '"""Text: from minidl.nn import nothing\nfrom minidl.nn import more\n"""\n'
            "from minidl._ext.threads cimport team\ncimport numpy as cnp",
            "_ext/threads.pyx": "",
            "_ext/core.pyx": "from minidl._types import dtype",
            "_types.py": "",
            "geometry.py": "",
        }
    )
    assert violations(root) == []


def test_a_module_without_a_layer_is_named(package):
    with pytest.raises(AssertionError, match=r"minidl\.somewhere stands in no layer"):
        violations(package({"somewhere.py": "import minidl.nn"}))
