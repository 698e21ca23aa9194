"""The stubs beside the extensions say what the running package has: the same names, with the same parameters.

Wherever minidl is installed this also tells that the stubs came along.  What the stubs say about types is checked by
mypy, which reads them for every call in minidl.
"""

import ast
import enum
import importlib
import inspect
import pathlib
import pkgutil
import types

import pytest

import minidl._ext
from minidl import _tensor
from minidl._ext import core

FOLDER = pathlib.Path(minidl._ext.__file__).parent
EXTENSIONS = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]))

# What Cython adds to every class, and the one slot that it fills for nothing: deleting items raises.
OF_CYTHON = {"__pyx_vtable__", "__reduce_cython__", "__setstate_cython__", "__setstate__", "__delitem__"}
# __slotnames__ is what copyreg leaves on a class of which something was pickled.
OF_ALL_CLASSES = {"__module__", "__dict__", "__weakref__", "__slotnames__", *dir(object)}
ATTRIBUTES_OF_INSTANCES = {("AccumulateGrad", "variable")}


def stub(extension):
    return ast.parse((FOLDER / f"{extension}.pyi").read_text())


def defined(body):
    """Name -> the definitions of it (several where it is overloaded) in a module or class."""
    names = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.AnnAssign):
            names.setdefault(node.target.id, []).append(node)
    return names


def is_public(name):
    return not name.startswith("_")


def exported(module):
    """Public name -> object, without what a module imports."""
    return {
        name: value for name, value in vars(module).items()
        if is_public(name) and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", None) in (None, module.__name__)
    }


def classes():
    """Each class of the extensions with what its stub tells of it; names that are missing are another test's."""
    for extension in EXTENSIONS:
        module = importlib.import_module(f"minidl._ext.{extension}")
        for node in stub(extension).body:
            runtime = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
            if isinstance(runtime, type) and not issubclass(runtime, enum.Enum):
                yield pytest.param(runtime, defined(node.body), id=f"{extension}.{node.name}")


def stub_parameters(function, skip):
    """Name and whether it has a default, for each parameter; stars as in the source."""
    given = function.args
    positional = given.posonlyargs + given.args
    without = len(positional) - len(given.defaults)
    found = [(arg.arg, i >= without) for i, arg in enumerate(positional)][skip:]
    if given.vararg:
        found.append((f"*{given.vararg.arg}", False))
    found += [(arg.arg, default is not None) for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return found


def runtime_parameters(function, skip):
    """The same of a function; None where it passes on whatever it gets."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except ValueError:      # a slot of C: Python knows nothing of its parameters
        return None
    if any(p.kind is p.VAR_KEYWORD or (p.kind is p.VAR_POSITIONAL and p.name == "args") for p in parameters):
        return None
    return [(f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name, p.default is not p.empty) for p in parameters]


def differing(runtime, stubbed, skip):
    """The functions of ``runtime`` whose parameters are in no definition of the stub."""
    wrong = {}
    for name, definitions in stubbed.items():
        functions = [node for node in definitions if isinstance(node, ast.FunctionDef)]
        value = runtime.get(name)
        if not functions or not callable(value) or isinstance(value, type) or name.startswith("__"):
            continue
        have = runtime_parameters(value, skip)
        told = [stub_parameters(function, skip) for function in functions]
        names_told = [[name for name, _ in parameters] for parameters in told]
        if have is not None and (have not in told if len(told) == 1 else [n for n, _ in have] not in names_told):
            wrong[name] = (have, told)
    return wrong


def test_every_extension_has_a_stub_and_every_stub_an_extension():
    stubs = sorted(path.stem for path in FOLDER.glob("*.pyi"))
    assert "core" in stubs
    assert stubs == EXTENSIONS


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_functions_and_classes(extension):
    module = importlib.import_module(f"minidl._ext.{extension}")
    has, told = exported(module), {name: nodes for name, nodes in defined(stub(extension).body).items()
                                   if is_public(name)}
    assert set(told) == set(has)
    assert differing(has, told, skip=0) == {}


@pytest.mark.parametrize("runtime, told", list(classes()))
def test_members_of_classes(runtime, told):
    has = {name: value for name, value in vars(runtime).items() if name not in OF_CYTHON | OF_ALL_CLASSES}
    told_names = {name for name in told if name not in OF_ALL_CLASSES
                  and (runtime.__name__, name) not in ATTRIBUTES_OF_INSTANCES}
    assert told_names == set(has)
    assert differing(has, told, skip=1) == {}


@pytest.mark.parametrize("name", ["Kernel", "Direction"])
def test_the_enums_of_conv2d(name):
    """Their values come from the C compiler."""
    from minidl._ext import conv2d_table

    (node,) = defined(stub("conv2d_table").body)[name]
    told = {each.targets[0].id: each.value.value for each in node.body if isinstance(each, ast.Assign)}
    assert told == {member.name: member.value for member in getattr(conv2d_table, name)}


def test_the_table_of_methods_is_in_the_stub():
    (node,) = defined(stub("core").body)["Tensor"]
    told = defined(node.body)
    table = _tensor._methods()
    assert set(table) - OF_ALL_CLASSES <= set(told)
    for name, method in table.items():
        if name in told:
            decorators = {decorator.id for decorator in told[name][0].decorator_list if hasattr(decorator, "id")}
            assert isinstance(method, property) == ("property" in decorators), name
    assert all(hasattr(core.Tensor, name) for name in told)
