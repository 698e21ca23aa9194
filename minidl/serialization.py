"""``save`` and ``load``: nested dicts and lists of tensors and numbers in one safetensors file.

Every tensor is an entry of the file under its path in the object, ``"model.conv1.weight"``; a ``state_dict`` becomes a
plain safetensors file with its own keys, which other tools read.  The rest is JSON in the file's metadata, under
``"minidl"``:

    {"version": 1, "crc32": of the numbers of all entries in the order of their names, "object": ...}

In the object numbers, texts, lists and dicts stand for themselves, and a dict with one key that begins with ``$`` for
what JSON cannot say: ``{"$tensor": name}``, ``{"$array": name}`` (a NumPy array), ``{"$tuple": [...]}``, and
``{"$dict": [[key, value], ...]}`` for keys other than texts.

Nothing in a file is ever executed: there is no pickle.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from typing import Any

import numpy as np

from minidl._ext.core import Tensor
from minidl.ops.creation import from_numpy

VERSION = 1
_PLAIN = (type(None), bool, int, float, str)
# What both safetensors and NumPy know.
_DTYPES = frozenset(map(np.dtype, (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")))


def save(obj: Any, f: str | os.PathLike[str]) -> None:
    """Write ``obj`` to the file ``f``.

    ``obj`` is a tensor or a NumPy array, or made of them and of None, bools, numbers and texts by dicts (keys: texts,
    numbers, bools, None), lists and tuples.  Dicts of any kind become dicts, tuples of any kind tuples, and NumPy's
    numbers Python's.  Tensors are saved by value: of a view the part it shows, of two that share memory both; their
    device, whether they require a gradient and whether they are parameters is not kept.

    The file appears whole or not at all: an interrupted ``save`` leaves what was there before.

    Raises ``TypeError`` for anything else in ``obj``, with the place where it is, and ``ValueError`` for an object that
    contains itself.
    """
    import json

    from safetensors.numpy import save as to_bytes

    target = os.path.realpath(f)
    packer = _Packer()
    tree = packer.pack(obj, ())
    arrays = packer.arrays
    content = json.dumps({"version": VERSION, "crc32": _checksum(arrays), "object": tree}, separators=(",", ":"))
    write_whole(target, to_bytes(arrays, metadata={"format": "pt", "minidl": content}))


def load(f: str | os.PathLike[str], map_location: Any = None, *, weights_only: bool = True) -> Any:
    """What ``save`` wrote to the file ``f``, its tensors on the device ``map_location`` (default: the CPU).

    A safetensors file of another program gives a dict of its tensors.  ``weights_only`` guards against pickle in
    PyTorch; here there is none, and it has no effect.

    Raises ``RuntimeError``, with the name of the file, when it is truncated, damaged or something else.
    """
    import json

    from safetensors import SafetensorError, safe_open

    path = os.fspath(f)
    if os.path.isdir(path):
        raise IsADirectoryError(f"load: {path} is a folder, expected a file that save() wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except FileNotFoundError:
        raise FileNotFoundError(f"load: there is no file {path}") from None
    except SafetensorError as error:
        raise RuntimeError(f"load: {path} is not a safetensors file, or is truncated or damaged ({error})") from None
    except (TypeError, AttributeError, KeyError) as error:
        raise RuntimeError(f"load: {path} holds numbers of a kind that NumPy does not have ({error})") from None
    text = metadata.get("minidl")
    if text is None:
        return {name: _tensor(array, map_location, path) for name, array in arrays.items()}
    try:
        content = json.loads(text)
        version, tree, crc32 = content["version"], content["object"], content["crc32"]
    except (ValueError, KeyError, TypeError):
        raise RuntimeError(f"load: {path} is damaged: what minidl wrote into its metadata cannot be read") from None
    if version != VERSION:
        raise RuntimeError(f"load: {path} has version {version} of minidl's format, expected {VERSION}; a newer minidl "
                           "reads it")
    if _checksum(arrays) != crc32:
        raise RuntimeError(f"load: {path} is damaged, or another program has changed its tensors: their checksum is "
                           "not the one that was saved")
    try:
        return _unpack(tree, arrays, lambda array: _tensor(array, map_location, path))
    except (KeyError, TypeError, ValueError):
        raise RuntimeError(f"load: {path} is damaged: what minidl wrote into its metadata makes no sense") from None


class _Packer:
    """Takes an object apart into JSON and named arrays."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._inside: set[int] = set()  # the containers around the present place

    def pack(self, obj: Any, place: tuple[Any, ...]) -> Any:
        if type(obj) in _PLAIN:
            return obj
        if isinstance(obj, Tensor):
            return {"$tensor": self._keep(obj._backend.to_host(obj._raw), place)}
        if isinstance(obj, np.ndarray):
            return {"$array": self._keep(obj, place)}
        if isinstance(obj, np.generic):
            return self.pack(obj.item(), place)
        if not isinstance(obj, (dict, list, tuple)):
            raise TypeError(f"save: {_path(place)}: cannot save {_kind(obj)}; use tensors, NumPy arrays, numbers, "
                            "texts, None, dicts, lists and tuples")
        if id(obj) in self._inside:
            raise ValueError(f"save: {_path(place)}: this {type(obj).__name__} contains itself")
        self._inside.add(id(obj))
        packed = self._pack_dict(obj, place) if isinstance(obj, dict) else self._pack_sequence(obj, place)
        self._inside.remove(id(obj))
        return packed

    def _pack_dict(self, obj: dict[Any, Any], place: tuple[Any, ...]) -> Any:
        for key in obj:
            if type(key) not in _PLAIN:
                raise TypeError(f"save: {_path((*place, key))}: cannot save {_kind(key)} as a key of a dict")
        items = [(key, self.pack(value, (*place, key))) for key, value in obj.items()]
        if all(type(key) is str and not key.startswith("$") for key in obj):
            return dict(items)
        return {"$dict": items}

    def _pack_sequence(self, obj: Any, place: tuple[Any, ...]) -> Any:
        items = [self.pack(value, (*place, i)) for i, value in enumerate(obj)]
        return items if isinstance(obj, list) else {"$tuple": items}

    def _keep(self, array: np.ndarray, place: tuple[Any, ...]) -> str:
        if array.dtype.newbyteorder("=") not in _DTYPES:
            raise TypeError(f"save: {_path(place)}: cannot save an array of {array.dtype}")
        wanted = ".".join(map(str, place)) or "value"
        # Two paths may read alike ("a.b" and "a", "b"), and one name is the format's own.
        name, number = wanted, 1
        while name in self.arrays or name == "__metadata__":
            number += 1
            name = f"{wanted}#{number}"
        self.arrays[name] = np.asarray(array, array.dtype.newbyteorder("="), order="C")
        return name


def _unpack(tree: Any, arrays: dict[str, np.ndarray], to_tensor: Any) -> Any:
    if isinstance(tree, list):
        return [_unpack(item, arrays, to_tensor) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        (key, value), = tree.items()
        if key == "$tensor":
            return to_tensor(arrays[value])
        if key == "$array":
            return arrays[value]
        if key == "$tuple":
            return tuple(_unpack(value, arrays, to_tensor))
        if key == "$dict":
            return {key: _unpack(item, arrays, to_tensor) for key, item in value}
    return {key: _unpack(item, arrays, to_tensor) for key, item in tree.items()}


def _tensor(array: np.ndarray, map_location: Any, path: str) -> Tensor:
    try:
        tensor = from_numpy(array)
    except TypeError:
        raise RuntimeError(f"load: {path} holds numbers of dtype {array.dtype}, which tensors do not have") from None
    return tensor if map_location is None else tensor.to(map_location)


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    crc32 = 0
    for name in sorted(arrays):
        crc32 = zlib.crc32(arrays[name].reshape(-1).view(np.uint8).data, crc32)
    return crc32


def write_whole(target: str, content: bytes) -> None:
    """Make ``content`` the file ``target`` in one move, after it has reached the disk."""
    folder, name = os.path.split(target)
    part = os.path.join(folder, f".{name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _path(place: tuple[Any, ...]) -> str:
    return ".".join(map(str, place)) or "the object"


def _kind(obj: Any) -> str:
    kind = type(obj).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


__all__ = ["load", "save"]
