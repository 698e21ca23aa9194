"""Modules that hold modules or parameters: in a row, in a list, by name."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from minidl._tensor import Parameter, Tensor
from minidl.nn.module import Module, indented


class _Row(Module):
    """Modules in a row, named "0", "1", ..."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def _position(self, index: Any) -> int:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range")
        return index % len(self)

    def _name(self, index: Any) -> str:
        return list(self._modules)[self._position(index)]

    def _replace_all(self, modules: Iterable[Any]) -> None:
        """Make these the modules, numbered from 0."""
        modules = list(modules)
        for name in list(self._modules):
            delattr(self, name)
        for number, module in enumerate(modules):
            self.add_module(str(number), module)

    def __setitem__(self, index: Any, module: Module) -> None:
        setattr(self, self._name(index), module)

    def __delitem__(self, index: Any) -> None:
        modules = list(self)
        del modules[index]
        self._replace_all(modules)

    def append(self, module: Module) -> Any:
        """Put a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Put several modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Put a module before the one at ``index``."""
        modules = list(self)
        modules.insert(index, module)
        self._replace_all(modules)
        return self

    def pop(self, index: int | slice) -> Any:
        """Take out the module at ``index`` and return it."""
        module = self[index]
        del self[index]
        return module

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError

    def __iadd__(self, modules: Iterable[Module]) -> Any:
        return self.extend(modules)


class Sequential(_Row):
    """Modules that are called one after the other: ``Sequential(conv, relu, ...)`` or with an ``OrderedDict``."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for number, module in enumerate(args):
                self.add_module(str(number), module)

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = type(self)()
            for name in list(self._modules)[index]:
                part.add_module(name, self._modules[name])
            return part
        return self._modules[self._name(index)]

    def __delitem__(self, index: Any) -> None:
        names = list(self._modules)
        for name in names[index] if isinstance(index, slice) else [self._name(index)]:
            delattr(self, name)
        if all(name.isdigit() for name in names):
            self._replace_all(list(self))

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return Sequential(*self, *other)


class ModuleList(_Row):
    """A list of modules whose parameters belong to the network; it has no ``forward`` of its own."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend([] if modules is None else modules)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[self._name(index)]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        """Equal neighbours are printed once: ``(0-2): 3 x Linear(...)``."""
        runs: list[list[Any]] = []
        for number, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1][1] = number
            else:
                runs.append([number, number, text])
        if not runs:
            return f"{self._get_name()}()"
        lines = [
            indented(f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}")
            for first, last, text in runs
        ]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


class _ByName(Module):
    """What ``ModuleDict`` and ``ParameterDict`` have of a dictionary; ``_table`` names where the entries are."""

    _table = ""

    def _entries(self) -> dict[str, Any]:
        return self.__dict__[self._table]

    def __getitem__(self, key: str) -> Any:
        return self._entries()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        raise NotImplementedError

    def __delitem__(self, key: str) -> None:
        if key not in self._entries():
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._entries())

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __contains__(self, key: object) -> bool:
        return key in self._entries()

    def clear(self) -> None:
        """Take out everything."""
        for key in list(self._entries()):
            del self[key]

    def pop(self, key: str) -> Any:
        """Take out what has this name and return it."""
        value = self[key]
        del self[key]
        return value

    def keys(self) -> Any:
        """The names."""
        return self._entries().keys()

    def values(self) -> Any:
        """What the names stand for."""
        return self._entries().values()

    def items(self) -> Any:
        """Names and what they stand for."""
        return self._entries().items()

    def update(self, entries: Any) -> None:
        """Add or replace what a mapping or pairs hold."""
        for key, value in entries.items() if isinstance(entries, (Mapping, _ByName)) else entries:
            self[key] = value


class ModuleDict(_ByName):
    """A dictionary of modules whose parameters belong to the network."""

    _table = "_modules"

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(() if modules is None else modules)

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)


class ParameterDict(_ByName):
    """A dictionary of parameters; tensors put in become parameters.

    As in PyTorch a plain dict is entered in the order of its keys, an ``OrderedDict`` and pairs in their own.
    """

    _table = "_parameters"

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self.update(() if parameters is None else parameters)

    def __setitem__(self, key: str, parameter: Tensor) -> None:
        self.register_parameter(key, _as_parameter(parameter))

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._parameters)

    def update(self, entries: Any) -> None:
        """Add or replace the parameters that a mapping or pairs hold."""
        if isinstance(entries, Mapping) and not isinstance(entries, OrderedDict):
            entries = sorted(entries.items())
        super().update(entries)

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter of this name, or ``default``."""
        return self._parameters.get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The parameter of this name, which is ``default`` from now on where there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def popitem(self) -> tuple[str, Any]:
        """Take out the parameter that was put in last and return it with its name."""
        key = next(reversed(self), None)
        if key is None:
            raise KeyError("popitem(): the ParameterDict is empty")
        return key, self.pop(key)

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A new dictionary with these names, all for the parameter ``default``."""
        return ParameterDict((key, default) for key in keys)

    def copy(self) -> ParameterDict:
        """Another dictionary of the same parameters."""
        return ParameterDict(OrderedDict(self.items()))

    def __or__(self, other: Any) -> ParameterDict:
        result = self.copy()
        result.update(other)
        return result

    def __ior__(self, other: Any) -> ParameterDict:
        self.update(other)
        return self

    def extra_repr(self) -> str:
        return _described(self.items())


class ParameterList(Module):
    """A list of parameters; tensors put in become parameters."""

    def __init__(self, values: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        self.extend([] if values is None else values)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return list(self)[index]

    def __setitem__(self, index: int, value: Tensor) -> None:
        self.register_parameter(list(self._parameters)[index], _as_parameter(value))

    def append(self, value: Tensor) -> ParameterList:
        """Put a parameter at the end."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Tensor]) -> ParameterList:
        """Put several parameters at the end."""
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self) -> str:
        return _described(enumerate(self))


def _described(entries: Iterable[tuple[Any, Parameter]]) -> str:
    """A line for each name and parameter."""
    return "\n".join(
        f"({name}): Parameter containing: [{parameter.dtype} of size {'x'.join(map(str, parameter.shape))}]"
        for name, parameter in entries)


def _as_parameter(value: Tensor) -> Parameter:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected a Parameter or another tensor, got {type(value).__name__}")
    return value if isinstance(value, Parameter) else Parameter(value)
