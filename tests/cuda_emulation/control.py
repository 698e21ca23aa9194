"""Steers the stand-in driver while it runs: settings, counters, simulated faults."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# Every setting with its value at the start.
DEFAULTS = {
    "order": 0,  # of threads and blocks: 0 forward, 1 backward, 2 random
    "lazy": 0,  # streams: 0 work is done at once, 1 as late as allowed, 2 at random times
    "seed": 1,  # of both kinds of randomness
    "poison": 1,  # fresh memory is NaN
    "align": 16,  # bytes; 256 as on a GPU, but then small overruns stay unseen until the memory is freed
    "devices": 1,
    "total_memory": 8 << 30,  # bytes
    "capability": 90,  # 10 * major + minor
    "fail_launch": -1,  # n: the launch after the next n fails
    "verbose": 0,  # 1: every error on stderr
}


@dataclass(frozen=True)
class Counters:
    """What the emulated GPU has done since the counters were reset."""

    launches: int  # of kernels, those of graphs included
    graph_launches: int
    graph_nodes: int
    copies_to_device: int
    copies_to_host: int
    copies_on_device: int
    allocations: int
    bytes_live: int
    bytes_peak: int
    kernels: dict[str, int] = field(default_factory=dict)  # launches by the kernel's name


def _lines(function: Any) -> list[str]:
    """The lines that a function writes; without a buffer it returns how many bytes they take."""
    text = ctypes.create_string_buffer(function(None, 0))
    function(text, len(text))
    return text.value.decode().splitlines()


class Emulation:
    """The stand-in driver of this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.settings = dict(DEFAULTS)
        library.emulation_set.argtypes = [ctypes.c_char_p, ctypes.c_long]
        library.emulation_set.restype = None
        library.emulation_counter.argtypes = [ctypes.c_char_p]
        library.emulation_counter.restype = ctypes.c_uint64
        library.emulation_launches.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        library.emulation_launches.restype = ctypes.c_size_t
        library.emulation_take_reports.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        library.emulation_take_reports.restype = ctypes.c_size_t
        library.emulation_last_message.restype = ctypes.c_char_p

    def configure(self, **settings: int) -> None:
        """Change settings; ``DEFAULTS`` lists them."""
        for name, value in settings.items():
            if name not in DEFAULTS:
                raise TypeError(f"the CUDA emulation has no setting {name!r}; it has {', '.join(DEFAULTS)}")
            self.library.emulation_set(name.encode(), int(value))
            self.settings[name] = int(value)

    @contextmanager
    def configured(self, **settings: int) -> Iterator[None]:
        """``configure`` for the time of a ``with`` block."""
        before = {name: self.settings[name] for name in settings}
        self.configure(**settings)
        try:
            yield
        finally:
            self.configure(**before)

    def counters(self) -> Counters:
        """The counters as they stand."""
        names = [name for name in Counters.__dataclass_fields__ if name != "kernels"]
        numbers = {name: self.library.emulation_counter(name.encode()) for name in names}
        pairs = (line.split() for line in _lines(self.library.emulation_launches))
        return Counters(**numbers, kernels={name: int(count) for name, count in pairs})

    def reset_counters(self) -> None:
        """All to zero; ``bytes_live`` stays, and the peak begins there."""
        self.library.emulation_reset_counters()

    def take_reports(self) -> list[str]:
        """What was found when memory was freed (bytes written beside an allocation) since the last call."""
        return _lines(self.library.emulation_take_reports)

    @property
    def last_message(self) -> str:
        """What the last failed call said: more than the driver's error codes can."""
        return self.library.emulation_last_message().decode()

    def clear_error(self) -> None:
        """Forget a fault in a kernel, after which a real context is lost."""
        self.library.emulation_clear_error()
