"""Names of a package that are imported when they are first used, so that ``import minidl`` stays cheap (PEP 562).

A package writes the imports as ever under ``if TYPE_CHECKING:``, where type checkers and editors read them, and names
them once more for the interpreter:

    else:
        __getattr__, __dir__ = on_first_use(__name__, {"save": "minidl.serialization", "nn": "minidl.nn"})
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_first_use(package: str, origins: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for ``package``.

    ``origins`` says for each name the module that it is imported from; a name that its module ends with is the module
    itself.  After its first use a name is an ordinary attribute of the package.
    """

    def get(name: str) -> Any:
        origin = origins.get(name)
        if origin is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(origin)
        value = module if origin.rpartition(".")[2] == name else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *origins})

    return get, names
