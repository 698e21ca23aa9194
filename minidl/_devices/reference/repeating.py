"""What ``minidl.compile`` asks of a device beside its operations: where arrays lie, and memory that is planned once."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from minidl._ext import storage
from minidl._ext.storage import AllocationScript, Storage

READS = "it reads numbers out of a tensor (item(), tolist(), print, or an if on a tensor)"
MOVES = "it copies a tensor from one device to another; do that before the call, and pass what it gives as an argument"


class Repeating:
    """Arrays of the machine's own memory: a plan calls the functions again, on arrays that it made once.

    ``align``       bytes that the places of a plan's arrays are multiples of
    ``array_type``  of raw arrays
    ``on_host``     whether the host reads them: arguments are read where they lie, and random numbers drawn there
    ``refused``     functions of the backend that no repetition can do, and why
    """

    align = 64  # a cache line, and the widest vector
    array_type: Any = np.ndarray
    on_host = True
    refused: ClassVar[dict[str, str]] = {"to_host": READS, "to_device": MOVES}

    def script(self, arrays: list[Any] | None = None) -> Any:
        """What writes down the allocations of this thread, or gives out ``arrays`` instead (``AllocationScript``)."""
        return AllocationScript(arrays)

    def address(self, array: Any) -> int:
        """Where the first number lies."""
        return int(array.__array_interface__["data"][0])

    def address_of_owner(self, root: Any) -> int:
        """Where memory of the allocator begins, as a script's ``numbers`` has it; 0 for memory of others."""
        return int(root.address) if isinstance(root, Storage) else 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """An uninitialised array."""
        return storage.empty(shape, dtype)

    def part(self, whole: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...] | None,
             dtype: np.dtype) -> Any:
        """An array in the memory of ``whole``, ``offset`` bytes from its first number; strides None: without gaps."""
        return np.ndarray(shape, dtype, whole, offset, strides)

    def trial(self) -> Any:
        """A script under which a function may be called to see what it allocates; its arguments are ``blank``."""
        return self.script()

    def blank(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype) -> Any:
        """An argument for a trial: zeros that lie so."""
        steps = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size]
        before, behind = (sum(step for step in steps if (step < 0) == negative) for negative in (True, False))
        return np.ndarray(shape, dtype, np.zeros(behind - before + dtype.itemsize, np.uint8), -before, strides)

    def settings(self) -> list[tuple[dict[str, Any], str, Any]]:
        """(dict, key, value) of each setting that decides what a function does: a plan is for these values."""
        return []

    def repeater(self, calls: list[Any], arrays: list[Any], inputs: list[Any]) -> Any:
        """What repeats the calls of a plan, or None where the plan is to call the functions itself."""
        return None
