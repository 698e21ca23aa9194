"""Calls of the driver's functions, their errors as exceptions, and the constants."""

from __future__ import annotations

import ctypes
from typing import Any

library = ctypes.CDLL("libcuda.so.1")


class Error(Exception):
    """What a call of the driver failed with."""


class LogicError(Error):
    pass


class LaunchError(Error):
    pass


class RuntimeError(Error):
    pass


class MemoryError(Error):
    pass


class CompileError(Error):
    """The compiler's command and its words."""

    def __init__(self, message: str, command_line: list[str], stdout: str = "", stderr: str = "") -> None:
        self.msg, self.command_line, self.stdout, self.stderr = message, command_line, stdout, stderr
        super().__init__(f"{message}\n[command: {' '.join(command_line)}]\n[stderr:\n{stderr}]")


OUT_OF_MEMORY, NOT_READY, LAUNCH_ERRORS = 2, 600, (701, 702, 710, 719)


def call(name: str, *arguments: Any) -> None:
    """Call a function of the driver; raise what PyCUDA raises if it fails."""
    result = getattr(library, name)(*arguments)
    if not result:
        return
    text = ctypes.c_char_p()
    library.cuGetErrorString(result, ctypes.byref(text))
    kind = MemoryError if result == OUT_OF_MEMORY else LaunchError if result in LAUNCH_ERRORS else LogicError
    raise kind(f"{name.split('_v')[0]} failed: {(text.value or b'').decode()}")


def ready(name: str, handle: int) -> bool:
    """A query of a stream or an event."""
    result = getattr(library, name)(ctypes.c_void_p(handle))
    if result not in (0, NOT_READY):
        call(name, ctypes.c_void_p(handle))
    return result == 0


def answer(kind: Any, name: str, *arguments: Any) -> Any:
    """What a function of the driver writes to its first argument."""
    result = kind()
    call(name, ctypes.byref(result), *arguments)
    return result.value


class device_attribute:
    MAX_THREADS_PER_BLOCK = 1
    MAX_BLOCK_DIM_X = 2
    MAX_BLOCK_DIM_Y = 3
    MAX_BLOCK_DIM_Z = 4
    MAX_GRID_DIM_X = 5
    MAX_GRID_DIM_Y = 6
    MAX_GRID_DIM_Z = 7
    MAX_SHARED_MEMORY_PER_BLOCK = 8
    WARP_SIZE = 10
    CLOCK_RATE = 13
    MULTIPROCESSOR_COUNT = 16
    MEMORY_CLOCK_RATE = 36
    GLOBAL_MEMORY_BUS_WIDTH = 37
    L2_CACHE_SIZE = 38
    MAX_THREADS_PER_MULTIPROCESSOR = 39
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76
    MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81
    MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97


class function_attribute:
    MAX_THREADS_PER_BLOCK = 0
    SHARED_SIZE_BYTES = 1
    CONST_SIZE_BYTES = 2
    LOCAL_SIZE_BYTES = 3
    NUM_REGS = 4
    PTX_VERSION = 5
    BINARY_VERSION = 6
    MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
    PREFERRED_SHARED_MEMORY_CARVEOUT = 9


class event_flags:
    DEFAULT = 0
    BLOCKING_SYNC = 1
    DISABLE_TIMING = 2


class stream_flags:
    DEFAULT = 0
    NON_BLOCKING = 1


class host_alloc_flags:
    PORTABLE = 1
    DEVICEMAP = 2
    WRITECOMBINED = 4


class mem_host_register_flags:
    PORTABLE = 1
    DEVICEMAP = 2
