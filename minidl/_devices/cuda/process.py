"""PyCUDA's driver in this process: started when somebody asks for a GPU, left at the end, given up in a forked child.

The only module that imports pycuda.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime import Runtime

_forked = False
started: list[Runtime] = []


class _Entered:
    """The runtime whose context is current in a thread.  It goes with the thread and leaves the context then: PyCUDA
    ends the process where a thread ends with one."""

    __slots__ = ("runtime",)

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def __del__(self) -> None:
        if not _forked:
            self.leave()

    def leave(self) -> None:
        """Let no context be current."""
        if self.runtime is not None:
            driver().Context.pop()
            self.runtime = None


class _Thread(threading.local):
    """What each thread has of its own: the context that is current, its current stream on each device, and the script
    that its work is written down in."""

    def __init__(self) -> None:
        self.entered = _Entered()
        self.streams: dict[int, Any] = {}
        self.script: Any = None  # a scripts.Script


thread = _Thread()


@functools.cache
def driver() -> Any:
    """``pycuda.driver``, started.  Raises ``RuntimeError`` with what to install where it cannot be."""
    try:
        import pycuda.driver as module
    except ImportError as error:
        if "libcuda" in str(error):
            raise RuntimeError("Found no NVIDIA driver on your system: device 'cuda' was asked for, and the driver's "
                               f"library cannot be loaded ({error})") from error
        raise RuntimeError("device 'cuda' was asked for, but PyCUDA cannot be imported; install it with "
                           f"pip install 'minidl[cuda]' ({error})") from error
    try:
        module.init()
    except module.Error as error:
        raise RuntimeError(f"device 'cuda' was asked for, but the NVIDIA driver does not start: {error}") from error
    os.register_at_fork(after_in_child=_after_fork)
    atexit.register(_leave)
    return module


def _after_fork() -> None:
    """In a forked child no call of the driver works any more."""
    global _forked
    _forked = True
    current = thread.entered.runtime    # PyCUDA has it on top
    for each in sorted(started, key=lambda each: each is not current):
        _give_up(each)


def _give_up(runtime: Runtime) -> None:
    """Tell PyCUDA that a context is lost: it then leaves alone what was in it, and does not abort at the end.

    It says on stderr, to which it writes by itself, that the driver does not answer: nobody has to read that.
    """
    if thread.entered.runtime is runtime:
        thread.entered.runtime = None
    with _nothing_on_stderr(), contextlib.suppress(driver().Error):
        runtime.context.detach()


@contextlib.contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    try:
        before = os.dup(2)
    except OSError:     # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _leave() -> None:
    """At the end of the process: PyCUDA wants no context to be current then."""
    for each in started if not _forked else ():
        try:
            each.synchronize()
        except RuntimeError:    # its context is gone, and PyCUDA would abort where it frees what was in it
            _give_up(each)
    thread.entered.leave()


def refuse_fork() -> None:
    """CUDA does not survive a fork: say so in the child, where every call of the driver would fail."""
    if _forked:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must "
                           "use the 'spawn' start method")


def device_count() -> int:
    """How many GPUs this process can use; 0 where there is no driver or no PyCUDA, and after a fork."""
    if _forked:
        return 0
    try:
        return int(driver().Device.count())
    except RuntimeError:
        return 0
