"""Streams and events: work of a GPU beside other work of it, and marks between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from minidl import _types
from minidl._devices import registry


def backend_of(device: Any) -> Any:
    """The backend of a GPU given as a number, a device, its text, or None for the current one.

    Raises ``ValueError`` for a device that is no GPU and ``RuntimeError`` for a GPU that is not there.
    """
    if device is None:
        return registry.cuda_backend(registry.current_cuda())
    if isinstance(device, int):
        return registry.cuda_backend(device)
    wanted = _types.device(device)
    if wanted.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {wanted}")
    return registry.backend_of(wanted)


class Stream:
    """A queue of work on a GPU; what is in different streams may run at the same time.

    ``with minidl.cuda.stream(s):`` sends what is asked for to ``s``.  What one stream makes and another reads needs
    ``wait_stream`` or an event between them; a tensor that another stream still reads when Python lets go of it needs
    ``tensor.record_stream(s)``.
    """

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self._backend = backend_of(device)
        self._stream = self._backend.runtime.new_stream()

    @property
    def device(self) -> Any:
        """The GPU that it belongs to."""
        return self._backend.device

    @property
    def cuda_stream(self) -> int:
        """The driver's handle; 0 for the default stream."""
        return 0 if self._stream is None else int(self._stream.handle)

    def synchronize(self) -> None:
        """Wait until all its work is done."""
        self._backend.runtime.wait_for(self._stream)

    def query(self) -> bool:
        """Whether all its work is done."""
        return self._backend.runtime.done(self._stream)

    def record_event(self, event: Event | None = None) -> Event:
        """A mark behind what has been asked for until now."""
        return (Event() if event is None else event).record(self)

    def wait_event(self, event: Event) -> None:
        """Let what is asked for from now on wait for a mark."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Let what is asked for from now on wait for what another stream has been asked for until now."""
        self.wait_event(stream.record_event())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self.device, self.cuda_stream) == (other.device, other.cuda_stream)

    def __hash__(self) -> int:
        return hash((self.device, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<minidl.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


def _stream(backend: Any, stream: Any) -> Stream:
    found = Stream.__new__(Stream)
    found._backend, found._stream = backend, stream
    return found


def default_stream(device: Any = None) -> Stream:
    """The stream that work goes to where nothing else is said, that of other libraries too."""
    return _stream(backend_of(device), None)


def current_stream(device: Any = None) -> Stream:
    """The stream that this thread's work goes to."""
    backend = backend_of(device)
    return _stream(backend, backend.runtime.stream)


def set_stream(stream: Stream) -> None:
    """Let this thread's work go to a stream from now on."""
    stream._backend.runtime.set_stream(stream._stream)


@contextlib.contextmanager
def stream(stream: Stream | None) -> Iterator[None]:
    """Let this thread's work go to a stream for the time of a ``with`` block; None changes nothing."""
    if stream is None:
        yield
        return
    runtime = stream._backend.runtime
    before = runtime.stream
    runtime.set_stream(stream._stream)
    try:
        yield
    finally:
        runtime.set_stream(before)


class Event:
    """A mark in a stream: one can wait for it, and measure the time between two of them."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self._timing = enable_timing
        self._blocking = blocking
        self._event: Any = None
        self._runtime: Any = None

    def record(self, stream: Stream | None = None) -> Event:
        """Set the mark behind what the stream (None: the current one) has been asked for until now."""
        where = current_stream() if stream is None else stream
        self._runtime = where._backend.runtime
        self._event = self._runtime.new_event(self._timing, self._blocking)
        self._runtime.record(self._event, where._stream)
        return self

    def wait(self, stream: Stream | None = None) -> None:
        """Let a stream (None: the current one) wait for the mark; nothing to wait for where it has not been set."""
        if self._event is not None:
            where = current_stream() if stream is None else stream
            where._backend.runtime.let_wait(where._stream, self._event)

    def query(self) -> bool:
        """Whether all work before the mark is done."""
        return self._event is None or bool(self._runtime.reached(self._event))

    def synchronize(self) -> None:
        """Wait until all work before the mark is done."""
        if self._event is not None:
            self._runtime.wait_for(self._event)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to another one; both must have been made with ``enable_timing=True``."""
        if not (self._timing and end_event._timing):
            raise ValueError("both events must be created with argument 'enable_timing=True'")
        if self._event is None or end_event._event is None:
            raise ValueError("both events must be recorded before calculating elapsed time")
        return float(self._runtime.milliseconds(self._event, end_event._event))
