"""The CUDA driver through PyCUDA: devices, contexts, streams, launches.  The only module that imports pycuda.

Nothing is imported or started before somebody asks for a GPU.  Each device is used through its primary context, the one
that other libraries of the process use too, and by default on the legacy default stream, so that work of minidl and of
theirs is done in the order in which it was asked for.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
from typing import Any

import numpy as np

from minidl._ext.device_array import DeviceArray, pack
from minidl._ext.device_pool import DevicePool
from minidl._ext.storage import Storage

from . import kernels

_STATIC_SHARED = 48 * 1024  # bytes of shared memory that a kernel may have without asking
_thread = threading.local()
_forked = False


@functools.cache
def driver() -> Any:
    """``pycuda.driver``, started.  Raises ``RuntimeError`` with what to install where it cannot be."""
    try:
        import pycuda.driver as module
    except ImportError as error:
        if "libcuda" in str(error):
            raise RuntimeError("device 'cuda' was asked for, but there is no NVIDIA driver on this machine: "
                               f"{error}") from error
        raise RuntimeError("device 'cuda' was asked for, but PyCUDA cannot be imported; install it with "
                           f"pip install 'minidl[cuda]' ({error})") from error
    try:
        module.init()
    except module.Error as error:
        raise RuntimeError(f"device 'cuda' was asked for, but the NVIDIA driver does not start: {error}") from error
    os.register_at_fork(after_in_child=_mark_forked)
    atexit.register(_leave)
    return module


def _mark_forked() -> None:
    global _forked
    _forked = True


def _leave() -> None:
    """At the end of the process PyCUDA wants no context to be current."""
    if getattr(_thread, "current", None) is not None and not _forked:
        driver().Context.pop()
        _thread.current = None


def device_count() -> int:
    """How many GPUs there are; 0 where there is no driver or no PyCUDA."""
    try:
        return int(driver().Device.count())
    except RuntimeError:
        return 0


@functools.cache
def runtime(index: int) -> Runtime:
    """The GPU with this number, started at its first use.  Raises ``RuntimeError`` where there is none."""
    count = int(driver().Device.count())
    if not 0 <= index < count:
        raise RuntimeError(f"CUDA error: invalid device ordinal: cuda:{index} was asked for, this machine has "
                           f"{count} device{'s' * (count != 1)}")
    return Runtime(index)


class Runtime:
    """One GPU: its context, its memory, the kernels that are loaded."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.device = driver().Device(index)
        self.context = self.device.retain_primary_context()
        self.capability: tuple[int, int] = self.device.compute_capability()
        self.multiprocessors = int(self.device.multiprocessor_count)
        self.pool = DevicePool(self._take)
        self.stream: Any = None  # PyCUDA's stream, None for the default one
        self.stream_key = 0
        self._functions: dict[tuple[str, str], Any] = {}
        self._modules: dict[str, Any] = {}

    def enter(self) -> None:
        """Make this device's context the current one of this thread."""
        if _forked:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you "
                               "must use the 'spawn' start method")
        current = getattr(_thread, "current", None)
        if current is not self:
            if current is not None:
                driver().Context.pop()
            self.context.push()
            _thread.current = self

    def _take(self, nbytes: int) -> Any:
        self.enter()
        return driver().mem_alloc(nbytes)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """An uninitialised array."""
        nbytes = dtype.itemsize
        for size in shape:
            nbytes *= size
        block = self.pool.block(nbytes, self.stream_key)
        return DeviceArray(block.ptr, shape, None, dtype, Storage(block))

    def to_device(self, array: np.ndarray) -> DeviceArray:
        """A copy of a NumPy array."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        result = self.empty(array.shape, array.dtype)
        if array.size:
            self.enter()
            driver().memcpy_htod_async(result.ptr, array, self.stream)
            self.synchronize_stream()  # the numbers may change or go as soon as this returns
        return result

    def to_host(self, x: DeviceArray) -> np.ndarray:
        """A copy of a contiguous array, when everything before it has been computed."""
        result = np.empty(x.shape, x.dtype)
        if x.size:
            self.enter()
            driver().memcpy_dtoh_async(result, x.ptr, self.stream)
            self.synchronize_stream()
        return result

    def synchronize_stream(self) -> None:
        """Wait for the current stream."""
        if self.stream is None:
            driver().Context.synchronize()
        else:
            self.stream.synchronize()

    def function(self, file: str, name: str) -> Any:
        """The kernel ``name`` of ``cuda/<file>.cu``, compiled and loaded at its first use."""
        found = self._functions.get((file, name))
        if found is None:
            self.enter()
            if file not in self._modules:
                self._modules[file] = driver().module_from_buffer(kernels.compiled(file, self.capability))
            found = self._functions[file, name] = self._modules[file].get_function(name)
        return found

    def launch(self, file: str, name: str, grid: tuple[int, int], block: tuple[int, int, int], *arguments: Any,
               shared: int = 0) -> None:
        """Ask for a kernel's work on the current stream; arguments as ``device_array.pack`` takes them."""
        function = self._functions.get((file, name)) or self.function(file, name)
        self.enter()
        try:
            if shared > _STATIC_SHARED:
                function.set_attribute(driver().function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
            function._launch_kernel(grid, block, pack(arguments), shared, self.stream)
        except driver().Error as error:
            raise RuntimeError(f"CUDA kernel {name} ({file}.cu): {error}; grid {grid}, block {block}, "
                               f"{shared} bytes of shared memory, {_told(arguments)}") from error


def _told(arguments: tuple[Any, ...]) -> str:
    return "arrays of shape " + " ".join(str(each.shape) for each in arguments if isinstance(each, DeviceArray))
