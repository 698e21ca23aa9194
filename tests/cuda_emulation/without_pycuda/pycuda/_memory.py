"""Allocations, copies, memory filled with a value, pinned arrays."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from ._library import answer, call, library


class DeviceAllocation:
    """Device memory that is freed with the object; an int is its address."""

    def __init__(self, address: int) -> None:
        self._address = address
        context = answer(ctypes.c_void_p, "cuCtxGetCurrent")
        self._free = weakref.finalize(self, _free_in, context, address)

    def free(self) -> None:
        self._free()

    def __int__(self) -> int:
        return self._address

    __index__ = __int__


def _free_in(context: int, address: int) -> None:
    """Frees in the context that allocated, whichever is current, as PyCUDA does."""
    if library.cuCtxPushCurrent_v2(ctypes.c_void_p(context)) == 0:
        library.cuMemFree_v2(ctypes.c_uint64(address))
        library.cuCtxPopCurrent_v2(None)


def mem_alloc(size: int) -> DeviceAllocation:
    return DeviceAllocation(answer(ctypes.c_uint64, "cuMemAlloc_v2", ctypes.c_size_t(size)))


def mem_get_info() -> tuple[int, int]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def stream_handle(stream: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(stream.handle if stream is not None else 0)


def _device(pointer: Any) -> ctypes.c_uint64:
    return ctypes.c_uint64(int(pointer))


def _host(buffer: Any) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    array = np.asarray(buffer)
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        raise ValueError("ndarray is not contiguous")
    return ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)


def memcpy_htod(dest: Any, src: Any) -> None:
    call("cuMemcpyHtoD_v2", _device(dest), *_host(src))


def memcpy_dtoh(dest: Any, src: Any) -> None:
    host, size = _host(dest)
    call("cuMemcpyDtoH_v2", host, _device(src), size)


def memcpy_dtod(dest: Any, src: Any, size: int) -> None:
    call("cuMemcpyDtoD_v2", _device(dest), _device(src), ctypes.c_size_t(size))


def memcpy_htod_async(dest: Any, src: Any, stream: Any = None) -> None:
    call("cuMemcpyHtoDAsync_v2", _device(dest), *_host(src), stream_handle(stream))


def memcpy_dtoh_async(dest: Any, src: Any, stream: Any = None) -> None:
    host, size = _host(dest)
    call("cuMemcpyDtoHAsync_v2", host, _device(src), size, stream_handle(stream))


def memcpy_dtod_async(dest: Any, src: Any, size: int, stream: Any = None) -> None:
    call("cuMemcpyDtoDAsync_v2", _device(dest), _device(src), ctypes.c_size_t(size), stream_handle(stream))


def memcpy_peer(dest: Any, src: Any, size: int, dest_context: Any = None, src_context: Any = None) -> None:
    contexts = [ctypes.c_void_p(context.handle if context else answer(ctypes.c_void_p, "cuCtxGetCurrent"))
                for context in (dest_context, src_context)]
    call("cuMemcpyPeer", _device(dest), contexts[0], _device(src), contexts[1], ctypes.c_size_t(size))


def memset_d8(dest: Any, data: int, count: int) -> None:
    call("cuMemsetD8_v2", _device(dest), ctypes.c_ubyte(data), ctypes.c_size_t(count))


def memset_d32(dest: Any, data: int, count: int) -> None:
    call("cuMemsetD32_v2", _device(dest), ctypes.c_uint(data), ctypes.c_size_t(count))


def memset_d8_async(dest: Any, data: int, count: int, stream: Any = None) -> None:
    call("cuMemsetD8Async", _device(dest), ctypes.c_ubyte(data), ctypes.c_size_t(count), stream_handle(stream))


def memset_d32_async(dest: Any, data: int, count: int, stream: Any = None) -> None:
    call("cuMemsetD32Async", _device(dest), ctypes.c_uint(data), ctypes.c_size_t(count), stream_handle(stream))


def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    kind = np.dtype(dtype)
    count = int(np.prod(shape))
    size = max(1, count * kind.itemsize)
    address = answer(ctypes.c_void_p, "cuMemHostAlloc", ctypes.c_size_t(size), ctypes.c_uint(mem_flags))
    buffer = (ctypes.c_char * size).from_address(address)
    weakref.finalize(buffer, library.cuMemFreeHost, ctypes.c_void_p(address))
    return np.frombuffer(buffer, kind, count=count).reshape(shape, order=order)


def pagelocked_zeros(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    array = pagelocked_empty(shape, dtype, order, mem_flags)
    array.fill(0)
    return array


def register_host_memory(array: np.ndarray, flags: int = 0) -> np.ndarray:
    call("cuMemHostRegister_v2", *_host(array), ctypes.c_uint(flags))
    return array
