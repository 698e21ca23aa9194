"""The CUDA driver through PyCUDA: devices, contexts, streams, launches.

Each device is used through its primary context, the one
that other libraries of the process use too, and by default on the legacy default stream, so that work of minidl and of
theirs is done in the order in which it was asked for.

Work is asked for and not waited for.  Who reads numbers on the host waits for the stream that makes them; memory that a
running copy still reads is kept until its event has come (``keep_until_done``).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from minidl._ext.device_array import DeviceArray, pack
from minidl._ext.device_pool import Block, DevicePool
from minidl._ext.storage import Storage

from . import kernels
from .process import driver, refuse_fork, started, thread

_STATIC_SHARED = 48 * 1024  # bytes of shared memory that a kernel may have without asking
_SUCCESS, _NOT_READY = 0, 600  # of the driver's results


class OutOfMemoryError(RuntimeError):
    """The memory of a GPU does not suffice."""


class PinnedMemory:
    """Memory of the machine that the driver has pinned; NumPy's arrays over it keep this alive.

    It goes back to a pool when the last of them goes: pinning anew takes longer than many a copy.
    """

    def __init__(self, block: Block, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._block = block
        self.__array_interface__ = {
            "data": (block.ptr, False), "shape": shape, "typestr": dtype.str, "version": 3}


class _Piece:
    """A piece of device memory as a pool takes it: ``int`` gives its address.

    PyCUDA frees it in a thread where its context is current, or in that where the context was made; a garbage
    collection may come in any.
    """

    def __init__(self, runtime: Runtime, memory: Any) -> None:
        self._runtime, self._memory = runtime, memory

    def __int__(self) -> int:
        return int(self._memory)

    def __del__(self) -> None:
        if threading.get_ident() != self._runtime.home:
            with contextlib.suppress(RuntimeError):     # a forked child has no context to enter
                self._runtime.enter()


class _PageLocked:
    """A piece of pinned memory as a pool takes it: ``int`` gives its address."""

    def __init__(self, nbytes: int) -> None:
        self._array = driver().pagelocked_empty(nbytes, np.uint8)

    def __int__(self) -> int:
        return int(self._array.ctypes.data)


@functools.cache
def runtime(index: int) -> Runtime:
    """The GPU with this number, started at its first use.  Raises ``RuntimeError`` where there is none."""
    refuse_fork()
    count = int(driver().Device.count())
    if not 0 <= index < count:
        raise RuntimeError(f"CUDA error: invalid device ordinal: cuda:{index} was asked for, this machine has "
                           f"{count} CUDA device{'s' * (count != 1)}")
    return Runtime(index)


class Runtime:
    """One GPU: its context, its memory, the kernels that are loaded."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.device = driver().Device(index)
        with _explained(f"starting cuda:{index}"):
            self.context = self.device.retain_primary_context()
        self.home = threading.get_ident()
        self.capability: tuple[int, int] = self.device.compute_capability()
        self.multiprocessors = int(self.device.multiprocessor_count)
        self.pool = DevicePool(self._take)
        self._pinned = DevicePool(self._pin)
        self._functions: dict[tuple[str, str], Any] = {}
        self._prepared: dict[tuple[str, str], int] = {}  # bytes of parameters that a function was prepared for
        self._modules: dict[str, Any] = {}
        self._in_use: list[tuple[Any, Any]] = []  # (event, what a copy before it reads or writes)
        started.append(self)

    # -- where work goes

    def enter(self) -> None:
        """Make this device's context the current one of this thread."""
        refuse_fork()
        entered = thread.entered
        if entered.runtime is not self:
            entered.leave()
            self.context.push()
            entered.runtime = self

    @property
    def stream(self) -> Any:
        """PyCUDA's stream that this thread's work goes to; None for the default stream."""
        return thread.streams.get(self.index)

    def set_stream(self, stream: Any) -> None:
        """Let this thread's work go to another of PyCUDA's streams; None for the default one."""
        thread.streams[self.index] = stream

    def new_stream(self, priority: int = 0) -> Any:
        """A stream beside the default one."""
        self.enter()
        with _explained("making a stream"):
            return driver().Stream()

    def new_event(self, timing: bool, blocking: bool) -> Any:
        """A mark that can be set in a stream."""
        flags = driver().event_flags
        self.enter()
        with _explained("making an event"):
            return driver().Event((0 if timing else flags.DISABLE_TIMING) | (flags.BLOCKING_SYNC if blocking else 0))

    def record(self, event: Any, stream: Any) -> None:
        """Set a mark in a stream."""
        self.enter()
        with _explained("recording an event"):
            event.record(stream)

    def let_wait(self, stream: Any, event: Any) -> None:
        """Let a stream wait for a mark; the default stream has the host wait."""
        self.enter()
        with _explained("waiting for an event"):
            if stream is None:
                event.synchronize()
            else:
                stream.wait_for_event(event)

    def reached(self, event: Any) -> bool:
        """Whether all work before a mark is done."""
        self.enter()
        with _explained("looking at an event"):
            return bool(event.query())

    def done(self, stream: Any) -> bool:
        """Whether a stream (None: the default one) has done all its work."""
        self.enter()
        with _explained("looking at a stream"):
            if stream is not None:
                return bool(stream.is_done())
        result = ctypes.CDLL("libcuda.so.1").cuStreamQuery(None)  # PyCUDA cannot ask the default stream
        if result not in (_SUCCESS, _NOT_READY):
            self.synchronize()  # raises what is wrong
        return bool(result == _SUCCESS)

    def wait_for(self, what: Any) -> None:
        """Wait for a stream (None: the default one) or an event."""
        self.enter()
        with _explained("waiting for the device"):
            if what is None:
                driver().Context.synchronize()
            else:
                what.synchronize()

    def milliseconds(self, start: Any, end: Any) -> float:
        """The time between two marks."""
        self.enter()
        with _explained("measuring the time between two events"):
            return float(start.time_till(end))

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked for."""
        self.enter()
        with _explained("waiting for the device"):
            driver().Context.synchronize()

    def synchronize_stream(self) -> None:
        """Wait for the work of the current stream, if the default one: for that of all streams that wait for it."""
        stream = self.stream
        if stream is None:
            driver().Context.synchronize()
        else:
            stream.synchronize()

    # -- memory

    def _take(self, nbytes: int) -> Any:
        """A piece of memory from the driver; what the pool does not use goes back first if it has to."""
        self.enter()
        with _explained(f"allocating {nbytes} bytes on cuda:{self.index}"), contextlib.suppress(driver().MemoryError):
            return _Piece(self, driver().mem_alloc(nbytes))
        self.pool.empty_cache()
        try:
            return _Piece(self, driver().mem_alloc(nbytes))
        except driver().MemoryError as error:
            free, total = driver().mem_get_info()
            raise OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {_mib(nbytes)}. GPU {self.index} has a total capacity of "
                f"{_mib(total)} of which {_mib(free)} is free; minidl's tensors hold {_mib(self.pool.in_use)}. Try a "
                "smaller batch, or delete tensors that are no longer needed") from error

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """An uninitialised array."""
        script = thread.script
        if script is not None and script.arrays is not None:
            given: DeviceArray = script.next(shape, dtype)
            return given
        nbytes = dtype.itemsize
        for size in shape:
            nbytes *= size
        stream = thread.streams.get(self.index)
        block = self.pool.block(nbytes, 0 if stream is None else stream.handle)
        if script is not None:
            script.note(block.ptr, nbytes, shape, dtype)
        return DeviceArray(block.ptr, shape, None, dtype, Storage(block))

    def follow(self, script: Any) -> None:
        """Let this thread's work be written down in a ``scripts.Script``, or be given the memory that it holds, until
        None is given."""
        if script is not None and thread.script is not None:
            raise RuntimeError("the work of this thread is being written down or repeated already")
        thread.script = script

    def copy_within(self, destination: DeviceArray, source: DeviceArray) -> None:
        """Copy between arrays without gaps of this device, on the current stream."""
        if source.size:
            self.enter()
            try:
                driver().memcpy_dtod_async(destination.ptr, source.ptr, source.nbytes, self.stream)
            except driver().Error as error:
                raise RuntimeError(f"CUDA error while copying {source.nbytes} bytes on cuda:{self.index}: {error}"
                                   ) from error

    def to_device(self, array: np.ndarray, blocking: bool = True) -> DeviceArray:
        """A copy of a NumPy array.  Not ``blocking``: the numbers are read later, when the stream comes to it."""
        _crosses("copies numbers to the GPU")
        array = np.ascontiguousarray(array).reshape(array.shape)
        result = self.empty(array.shape, array.dtype)
        if array.size:
            self.enter()
            with _explained(f"copying {array.nbytes} bytes to cuda:{self.index}"):
                driver().memcpy_htod_async(result.ptr, array, self.stream)
                if blocking:
                    self.synchronize_stream()
                else:
                    self.keep_until_done(array)
        return result

    def to_host(self, x: DeviceArray, into: np.ndarray | None = None, blocking: bool = True) -> np.ndarray:
        """The numbers of an array without gaps, when they have been computed; copied ``into`` an array of its size."""
        _crosses("waits for numbers of the GPU")
        result = np.empty(x.shape, x.dtype) if into is None else into
        if x.size:
            self.enter()
            with _explained(f"copying {x.nbytes} bytes from cuda:{self.index}"):
                driver().memcpy_dtoh_async(result, x.ptr, self.stream)
                if blocking:
                    self.synchronize_stream()
                else:
                    self.keep_until_done((result, x))
        return result

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised array in memory that the driver has pinned, so that the GPU reads it by itself."""
        refuse_fork()
        return np.asarray(PinnedMemory(self._pinned.block(math.prod(shape) * dtype.itemsize), shape, dtype))

    def _pin(self, nbytes: int) -> _PageLocked:
        """A piece of pinned memory from the driver."""
        self.enter()
        with _explained(f"pinning {nbytes} bytes"):
            return _PageLocked(nbytes)

    def is_pinned(self, array: np.ndarray) -> bool:
        """Whether ``pinned`` made the memory of this array."""
        return isinstance(owner_of(array), PinnedMemory)

    def from_peer(self, x: DeviceArray, source: Runtime) -> DeviceArray:
        """A copy of an array without gaps that lies on another GPU."""
        _crosses("copies from one GPU to another")
        source.synchronize()
        result = self.empty(x.shape, x.dtype)
        if x.size:
            self.enter()
            with _explained(f"copying {x.nbytes} bytes from cuda:{source.index} to cuda:{self.index}"):
                driver().memcpy_peer(result.ptr, x.ptr, x.nbytes, self.context, source.context)
        return result

    def keep_until_done(self, what: Any, stream: Any = ...) -> None:
        """Keep ``what`` alive until a stream (by default the current one) has come to this point."""
        event = self.new_event(timing=False, blocking=False)
        self.record(event, self.stream if stream is ... else stream)
        with _explained("looking at an event"):
            self._in_use = [(each, kept) for each, kept in self._in_use if not each.query()]
        self._in_use.append((event, what))

    # -- kernels

    def function(self, file: str, name: str) -> Any:
        """The kernel ``name`` of ``cuda/<file>.cu``, compiled and loaded at its first use."""
        found = self._functions.get((file, name))
        if found is None:
            self.enter()
            if file not in self._modules:
                code = kernels.compiled(file, self.capability)
                with _explained(f"loading the kernels of {file}.cu"):
                    self._modules[file] = driver().module_from_buffer(code)
            with _explained(f"looking for the kernel {name} in {file}.cu"):
                found = self._functions[file, name] = self._modules[file].get_function(name)
        return found

    def launch(self, file: str, name: str, grid: tuple[int, int], block: tuple[int, int, int], *arguments: Any,
               shared: int = 0) -> None:
        """Ask for a kernel's work on the current stream; arguments as ``device_array.pack`` takes them."""
        packed = pack(arguments)
        script = thread.script
        if script is not None and script.launches is not None:
            self.function(file, name)  # compiled and loaded now, if it was not
            script.launches.append(Launch(file, name, grid, block, packed, shared))
            return
        try:
            self.launch_packed(file, name, grid, block, packed, shared, thread.streams.get(self.index))
        except driver().Error as error:
            raise RuntimeError(f"CUDA error in the kernel {name} ({file}.cu): {error}; grid {grid}, block {block}, "
                               f"{shared} bytes of shared memory, {_told(arguments)}{_lost(error)}") from error

    def launch_again(self, launch: Launch, stream: Any) -> None:
        """Ask for what a script has written down."""
        try:
            self.launch_packed(*launch, stream)
        except driver().Error as error:
            raise RuntimeError(f"CUDA error in the kernel {launch.name} ({launch.file}.cu) of a repeated step: {error};"
                               f" grid {launch.grid}, block {launch.block}, {launch.shared} bytes of shared memory"
                               ) from error

    def launch_packed(self, file: str, name: str, grid: tuple[int, int], block: tuple[int, int, int], packed: bytes,
                      shared: int, stream: Any) -> None:
        """The same on any stream, with the parameters in bytes; errors come as the driver's."""
        function = self._functions.get((file, name)) or self.function(file, name)
        self.enter()
        if shared > _STATIC_SHARED:
            function.set_attribute(driver().function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
        if self._prepared.get((file, name)) != len(packed):
            function.prepare([f"{len(packed)}s"])  # one struct: the parameters lie in it as C lays them out
            self._prepared[file, name] = len(packed)
        function.prepared_async_call(grid, block, stream, packed, shared_size=shared)


class Launch(NamedTuple):
    """A kernel's work as it was asked for: the arguments of ``Runtime.launch_packed`` before the stream."""

    file: str
    name: str
    grid: tuple[int, int]
    block: tuple[int, int, int]
    packed: bytes
    shared: int


def _crosses(doing: str) -> None:
    """Say to the script of this thread, if it has one, that the work in hand does what no repetition can do."""
    if thread.script is not None:
        thread.script.refuse(doing)


def owner_of(array: Any) -> Any:
    """Whatever keeps the memory under an array and the views that led to it."""
    while isinstance(array, (np.ndarray, Storage)):
        base = array.owner if isinstance(array, Storage) else array.base
        if base is None:
            break
        array = base
    return array


@contextlib.contextmanager
def _explained(doing: str) -> Iterator[None]:
    """The driver's errors as ``RuntimeError``s that say what was being done.

    Kernels run later than they are asked for: an error of one may come out at whatever asks the driver next.
    """
    try:
        yield
    except driver().Error as error:
        raise RuntimeError(f"CUDA error while {doing}: {error}" + (
            _lost(error) or ". It may come from a kernel that was asked for before; with CUDA_LAUNCH_BLOCKING=1 in the "
                            "environment it comes where it belongs")) from error


def _lost(error: Exception) -> str:
    """What to say of an error that tells that the context is no more."""
    if not any(words in str(error) for words in ("context is destroyed", "invalid device context")):
        return ""
    return (". The context of the GPU is gone: something in this process has reset the device or let its context go, "
            "and the tensors there are lost with it")


def _told(arguments: tuple[Any, ...]) -> str:
    arrays = [each for each in arguments if isinstance(each, DeviceArray)]
    return "arrays " + " ".join(f"{each.dtype}{list(each.shape)}" for each in arrays)


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.2f} MiB"
