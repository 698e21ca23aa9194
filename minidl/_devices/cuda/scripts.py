"""Writing down what a thread lets a GPU do: the memory that it takes, and the kernels that it launches.

What ``AllocationScript`` (minidl/_ext/storage.pyx) is to the CPU's allocator, for the pool of a GPU, and more: a script
with ``launches`` keeps every launch instead of making it, so that a step can be put into a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl._ext.device_array import DeviceArray

from .runtime import Launch, Runtime


class Script:
    """What this thread's work takes and launches inside a ``with``.

    entries    (number of bytes, shape, dtype) of each array that was taken
    numbers    address of a block -> the latest of the entries that it was taken for
    arrays     where given: what is handed out instead, in this order from ``place`` on
    launches   where a list: launches are appended to it and not made
    refuse     called with what the work does that cannot be repeated
    """

    def __init__(self, runtime: Runtime, arrays: list[Any] | None = None, launches: list[Launch] | None = None) -> None:
        self.arrays, self.launches, self.place = arrays, launches, 0
        self.entries: list[tuple[int, tuple[int, ...], np.dtype]] = []
        self.numbers: dict[int, int] = {}
        self.refuse: Callable[[str], None] = _raise
        self._runtime = runtime

    def __enter__(self) -> Script:
        self._runtime.follow(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._runtime.follow(None)

    def note(self, address: int, nbytes: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Write down that a block was taken."""
        self.numbers[address] = len(self.entries)
        self.entries.append((nbytes, shape, dtype))

    def next(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """The array that was planned for what is asked for now."""
        array = self.arrays[self.place] if self.arrays is not None and self.place < len(self.arrays) else None
        if array is None or array.shape != shape or array.dtype != dtype:
            raise RuntimeError(f"a repeated step asked for other memory than the one before: array {self.place}")
        self.place += 1
        return array


def _raise(doing: str) -> None:
    raise RuntimeError(f"a repeated step {doing}")
