"""A step's launches as one CUDA graph: asked for by ctypes, since PyCUDA has no graphs.

    launches of a step  ->  stream capture  ->  graph  ->  executable graph  ->  launched as one, again and again

What differs from one repetition to the next is the last argument of some kernels: their nodes are given other
parameters before the launch (cuGraphExecKernelNodeSetParams), if these have changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

from minidl._ext.device_array import DeviceArray

from .process import driver
from .runtime import Launch, Runtime
from .scripts import Script

_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: this thread may load kernels meanwhile, other threads may do anything
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: others may use the default stream meanwhile
_END, _BUFFER, _BUFFER_SIZE = 0, 1, 2  # CU_LAUNCH_PARAM_*


class GraphError(RuntimeError):
    """What the driver said when it was asked for a graph."""


class _KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2"""

    _fields_ = [
        ("function", ctypes.c_void_p), ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint), ("parameters", ctypes.c_void_p), ("extra", ctypes.c_void_p),
        ("kernel", ctypes.c_void_p), ("context", ctypes.c_void_p)]


@functools.cache
def _library() -> ctypes.CDLL:
    """The driver's library, which PyCUDA has loaded already."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise GraphError(f"the driver's library cannot be loaded ({error})") from error


def _call(name: str, *arguments: Any) -> None:
    """Call a function of the driver."""
    try:
        function = getattr(_library(), name)
    except AttributeError:
        raise GraphError(f"the driver has no {name}: graphs need one of CUDA 12 or newer") from None
    code = function(*arguments)
    if code:
        text = ctypes.c_char_p()
        _library().cuGetErrorString(code, ctypes.byref(text))
        raise GraphError(f"{name} failed: {(text.value or b'unknown error').decode()} ({code})")


class _Node:
    """A kernel's node whose parameters are replaced: what the driver is told, and the memory that it points to."""

    def __init__(self, handle: ctypes.c_void_p, launch: Launch) -> None:
        self.handle, self.told = handle, _KernelNode()
        _call("cuGraphKernelNodeGetParams_v2", handle, ctypes.byref(self.told))
        self._buffer = ctypes.create_string_buffer(launch.packed, len(launch.packed))
        self._size = ctypes.c_size_t(len(launch.packed))
        self._extra = (ctypes.c_void_p * 5)(_BUFFER, ctypes.addressof(self._buffer), _BUFFER_SIZE,
                                            ctypes.addressof(self._size), _END)
        self.told.parameters, self.told.extra = None, ctypes.addressof(self._extra)

    def tell(self, launch: Launch) -> None:
        """Let ``told`` say what this launch of the same kernel says."""
        ctypes.memmove(self._buffer, launch.packed, len(launch.packed))
        self.told.grid, self.told.block = (*launch.grid, 1), launch.block


class Graph:
    """Launches that were captured, ready to be launched together.

    ``launches`` are put after one another, so that each finds what those before it have written.
    """

    def __init__(self, runtime: Runtime, launches: list[Launch], varying: set[int]) -> None:
        """``varying`` numbers the launches whose parameters ``replace`` will change."""
        nodes: dict[int, ctypes.c_void_p] = {}
        stream = driver().Stream(_NON_BLOCKING)
        handle, graph, executable = ctypes.c_void_p(stream.handle), ctypes.c_void_p(), ctypes.c_void_p()
        with _capturing(handle, graph):
            for number, launch in enumerate(launches):
                runtime.launch_again(launch, stream)
                if number in varying:
                    nodes[number] = _newest_node(handle)
        try:
            self._nodes = {number: _Node(node, launches[number]) for number, node in nodes.items()}
            _call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        except GraphError:
            _call("cuGraphDestroy", graph)
            raise
        self._executable = executable
        self._destroy = weakref.finalize(self, _destroyed, runtime, graph, executable)
        self._destroy.atexit = False

    def replace(self, number: int, launch: Launch) -> None:
        """Give launch ``number``, one of those that vary, other parameters from the next ``launch`` on."""
        node = self._nodes[number]
        node.tell(launch)
        _call("cuGraphExecKernelNodeSetParams_v2", self._executable, node.handle, ctypes.byref(node.told))

    def launch(self, stream: Any) -> None:
        """Ask for all of it on one of PyCUDA's streams; None for the default one."""
        _call("cuGraphLaunch", self._executable, ctypes.c_void_p(0 if stream is None else stream.handle))


@contextlib.contextmanager
def _capturing(stream: ctypes.c_void_p, graph: ctypes.c_void_p) -> Iterator[None]:
    """Put what is asked for on ``stream`` into ``graph``; the stream is left as it was whatever happens."""
    _call("cuStreamBeginCapture_v2", stream, ctypes.c_int(_RELAXED))
    try:
        yield
    except BaseException:
        with contextlib.suppress(GraphError):
            _call("cuStreamEndCapture", stream, ctypes.byref(graph))
        if graph:
            _call("cuGraphDestroy", graph)
        raise
    _call("cuStreamEndCapture", stream, ctypes.byref(graph))


def _newest_node(stream: ctypes.c_void_p) -> ctypes.c_void_p:
    """The node that a capturing stream has put into its graph last: the one that its next work will wait for."""
    status, graph, count = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t()
    nodes = ctypes.POINTER(ctypes.c_void_p)()
    _call("cuStreamGetCaptureInfo_v2", stream, ctypes.byref(status), None, ctypes.byref(graph), ctypes.byref(nodes),
          ctypes.byref(count))
    if count.value != 1:
        raise GraphError(f"the capturing stream waits for {count.value} nodes instead of one")
    return ctypes.c_void_p(nodes[0])


def _destroyed(runtime: Runtime, graph: ctypes.c_void_p, executable: ctypes.c_void_p) -> None:
    """Give a graph back that nobody holds any more; in a forked child, where there is no driver, nothing is."""
    with contextlib.suppress(RuntimeError):
        runtime.enter()
        _call("cuGraphExecDestroy", executable)
        _call("cuGraphDestroy", graph)


def _kind(launch: Launch) -> tuple[Any, ...]:
    """What a node cannot be given anew: its kernel, with so many bytes of parameters and of shared memory."""
    return launch.file, launch.name, launch.shared, len(launch.packed)


class StepGraph:
    """The calls of a plan (``minidl/_ext/plan.pyx``) as one graph.

    The first repetition calls every function of the plan, with its launches written down instead of made, and captures
    them.  Later ones call only those functions again whose launches vary: random numbers, which advance the generator,
    and optimizers, which read hyperparameters and state.
    """

    def __init__(self, backend: Any, calls: list[Any], arrays: list[DeviceArray | None],
                 inputs: list[DeviceArray]) -> None:
        """``calls`` of the plan, ``arrays`` that they are given for new memory, ``inputs`` where arguments go."""
        self._backend, self._runtime = backend, backend.runtime
        self._calls, self._arrays, self._inputs = calls, arrays, inputs
        self._launches: list[list[Launch]] = []  # of each call
        self._graph: Graph | None = None
        self._refused = False  # whether the driver did not want to make a graph
        self._home: Any = backend.runtime.stream  # that the memory belongs to: there it is used again when it is free
        self._stream = self._home  # of the latest repetition

    def repeat(self, given: list[DeviceArray]) -> None:
        """Ask for one repetition with these arguments on the current stream."""
        runtime = self._runtime
        runtime.enter()
        stream = runtime.stream
        if stream is not self._stream:
            self._wait_for_the_other(stream)
            self._stream = stream
        for array, raw in zip(self._inputs, given, strict=True):
            runtime.copy_within(array, raw)
        if not self._launches:
            self._launches = [self._asked(call) for call in self._calls]
        else:
            self._ask_again()
        if self._graph is None and not self._refused:
            self._capture()
        if self._graph is not None:
            self._graph.launch(stream)
        else:
            for launch in self._in_order():
                runtime.launch_again(launch, stream)
        if stream is not self._home:
            runtime.keep_until_done((self._arrays, self._inputs))

    def copy(self, array: DeviceArray) -> DeviceArray:
        """A copy of one of the plan's arrays: the next repetition will write to the array itself."""
        if not array.contiguous:
            copied: DeviceArray = self._backend.copy(array)
            return copied
        result: DeviceArray = self._runtime.empty(array.shape, array.dtype)
        self._runtime.copy_within(result, array)
        return result

    def _asked(self, call: Any) -> list[Launch]:
        """The launches of a call, not made."""
        launches: list[Launch] = []
        script = Script(self._runtime, self._arrays if call.takes else None, launches)
        script.place = call.place
        with script:
            call.function(*call.arguments, **(call.keywords or {}))
        return launches

    def _ask_again(self) -> None:
        """Let the nodes whose launches vary have what they would be launched with now."""
        first = 0
        for number, call in enumerate(self._calls):
            before = self._launches[number]
            if call.varies:
                now = self._launches[number] = self._asked(call)
                if [_kind(launch) for launch in now] != [_kind(launch) for launch in before]:
                    self._graph = None  # other kernels than before: a graph of its own
                elif self._graph is not None and now != before:
                    for each, launch in enumerate(now):
                        if launch != before[each]:
                            self._graph.replace(first + each, launch)
            first += len(before)

    def _capture(self) -> None:
        varying: set[int] = set()
        first = 0
        for call, launches in zip(self._calls, self._launches, strict=True):
            if call.varies:
                varying.update(range(first, first + len(launches)))
            first += len(launches)
        if not first:
            return
        try:
            self._graph = Graph(self._runtime, self._in_order(), varying)
        except GraphError as error:
            self._refused = True
            warnings.warn(f"minidl.compile: the kernels of the step are launched one by one, since {error}",
                          RuntimeWarning, stacklevel=2)

    def _in_order(self) -> list[Launch]:
        return [launch for launches in self._launches for launch in launches]

    def _wait_for_the_other(self, stream: Any) -> None:
        """All repetitions use the same memory: the next one waits for the one before, on whichever stream it was."""
        event = self._runtime.new_event(timing=False, blocking=False)
        self._runtime.record(event, self._stream)
        self._runtime.let_wait(stream, event)


