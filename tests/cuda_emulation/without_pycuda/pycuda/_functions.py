"""Modules and kernels: how arguments are packed, and launches."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np

from ._library import answer, call
from ._memory import DeviceAllocation, mem_alloc, memcpy_dtoh, memcpy_htod, stream_handle


class ArgumentHandler:
    """An array of the host that a launch takes a device copy of."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.memory = array, mem_alloc(array.nbytes)

    def before(self) -> None: ...

    def after(self) -> None: ...


class In(ArgumentHandler):
    def before(self) -> None:
        memcpy_htod(self.memory, self.array)


class Out(ArgumentHandler):
    def after(self) -> None:
        memcpy_dtoh(self.array, self.memory)


class InOut(In, Out):
    pass


def _format_of(argument: Any) -> tuple[str, Any]:
    """The struct character of an argument, and the value to pack."""
    if isinstance(argument, np.number | np.bool_):
        return argument.dtype.char, argument
    if isinstance(argument, DeviceAllocation) or type(argument).__name__ == "PooledDeviceAllocation":
        return "P", int(argument)
    if isinstance(argument, ArgumentHandler):
        return "P", int(argument.memory)
    if isinstance(argument, np.ndarray | np.void):
        return f"{argument.nbytes}s", argument
    if hasattr(argument, "__cuda_array_interface__"):
        return "P", argument.__cuda_array_interface__["data"][0]
    raise TypeError(f"a kernel takes no {type(argument).__name__}: wrap numbers in NumPy's types")


def pack(formats: str, arguments: Any) -> bytes:
    """Arguments as a C struct without padding at its end: each at a multiple of its size, structures at 8 or 4."""
    packed, position = b"", 0
    for argument in arguments:
        begin = position
        while formats[position].isdigit():
            position += 1
        character = formats[position]
        position += 1
        if character == "s":
            size = int(formats[begin:position - 1])
            data = bytes(argument)[:size]
            alignment = 8 if size % 8 == 0 else 4
        else:
            character = {"l": "q", "L": "Q", "P": "Q", "p": "Q"}.get(character, character)
            data = struct.pack(f"={character}", float(argument) if character in "fd" else int(argument))
            alignment = len(data)
        packed += b"\0" * (-len(packed) % alignment) + data
    return packed


def _three(sizes: Any) -> list[ctypes.c_uint]:
    return [ctypes.c_uint(int(size)) for size in (*sizes, 1, 1)[:3]]


class Function:
    """A kernel."""

    def __init__(self, handle: int) -> None:
        self.handle = ctypes.c_void_p(handle)
        self.formats = ""

    def _launch(self, grid: Any, block: Any, parameters: bytes, shared: int, stream: Any) -> None:
        buffer, size = ctypes.create_string_buffer(parameters, len(parameters) or 1), ctypes.c_size_t(len(parameters))
        buffer_pointer, buffer_size, end = 1, 2, 0
        options = buffer_pointer, ctypes.addressof(buffer), buffer_size, ctypes.addressof(size), end
        extra = (ctypes.c_void_p * 5)(*options)
        call("cuLaunchKernel", self.handle, *_three(grid), *_three(block), ctypes.c_uint(shared),
             stream_handle(stream), None, extra)

    def __call__(self, *args: Any, grid: Any = (1, 1), block: Any = None, stream: Any = None, shared: int = 0) -> None:
        if block is None:
            raise ValueError("must specify block size")
        handlers = [argument for argument in args if isinstance(argument, ArgumentHandler)]
        pairs = [_format_of(argument) for argument in args]
        for handler in handlers:
            handler.before()
        parameters = pack("".join(character for character, _ in pairs), [value for _, value in pairs])
        self._launch(grid, block, parameters, shared, stream)
        for handler in handlers:
            handler.after()

    def prepare(self, arg_types: Any) -> Function:
        def character(kind: Any) -> str:
            if isinstance(kind, str):
                return kind
            kind = np.dtype(kind)
            return f"{kind.itemsize}s" if kind.char == "V" else kind.char

        self.formats = "".join(character(kind) for kind in arg_types)
        return self

    def prepared_call(self, grid: Any, block: Any, *args: Any, shared_size: int = 0) -> None:
        self._launch(grid, block, pack(self.formats, args), shared_size, None)

    def prepared_async_call(self, grid: Any, block: Any, stream: Any, *args: Any, shared_size: int = 0) -> None:
        self._launch(grid, block, pack(self.formats, args), shared_size, stream)

    def get_attribute(self, attribute: int) -> int:
        return answer(ctypes.c_int, "cuFuncGetAttribute", ctypes.c_int(attribute), self.handle)

    def set_attribute(self, attribute: int, value: int) -> None:
        call("cuFuncSetAttribute", self.handle, ctypes.c_int(attribute), ctypes.c_int(value))


class Module:
    """A loaded image."""

    def __init__(self, handle: int) -> None:
        self.handle = ctypes.c_void_p(handle)

    def get_function(self, name: str) -> Function:
        return Function(answer(ctypes.c_void_p, "cuModuleGetFunction", self.handle, name.encode()))

    def get_global(self, name: str) -> tuple[int, int]:
        pointer, size = ctypes.c_uint64(), ctypes.c_size_t()
        call("cuModuleGetGlobal_v2", ctypes.byref(pointer), ctypes.byref(size), self.handle, name.encode())
        return pointer.value, size.value


def module_from_buffer(buffer: bytes) -> Module:
    image = ctypes.c_char_p(bytes(buffer))
    return Module(answer(ctypes.c_void_p, "cuModuleLoadDataEx", image, ctypes.c_uint(0), None, None))
