"""What ``minidl.compile`` asks of a GPU beside its operations: ``_devices/reference/repeating.py`` for DeviceArrays."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from minidl._devices.reference.repeating import MOVES, READS, Repeating
from minidl._ext.device_array import DeviceArray
from minidl._ext.device_pool import Block
from minidl._ext.storage import Storage

from . import precision
from .graphs import StepGraph
from .runtime import Runtime
from .scripts import Script


class RepeatingCUDA(Repeating):
    """Arrays lie in the memory of a GPU; a plan's launches are put into a graph."""

    align = 256  # as the driver aligns what it gives
    array_type = DeviceArray
    on_host = False
    refused: ClassVar = {
        "to_host": READS, "to_device": MOVES,
        "from_host": "it copies numbers from the host to the GPU (tensor(), from_numpy() or to() inside the step); "
                     "make them on the GPU, or pass them as an argument",
    }

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._runtime: Runtime = backend.runtime

    def script(self, arrays: list[Any] | None = None) -> Script:
        return Script(self._runtime, arrays)

    def address(self, array: Any) -> int:
        return int(array.ptr)

    def address_of_owner(self, root: Any) -> int:
        """The address of a block of the pool."""
        block = root.owner if isinstance(root, Storage) else None
        return int(block) if isinstance(block, Block) else 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        return self._runtime.empty(shape, dtype)

    def part(self, whole: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...] | None,
             dtype: np.dtype) -> Any:
        return whole.view(shape, strides, offset, dtype)

    def trial(self) -> Script:
        """Launches nothing; the kernels are compiled."""
        return Script(self._runtime, launches=[])

    def blank(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype) -> Any:
        return DeviceArray(0, shape, strides, np.dtype(dtype))

    def settings(self) -> list[tuple[dict[str, Any], str, Any]]:
        """How exactly products are computed."""
        return [(vars(precision), name, getattr(precision, name)) for name in ("matmul", "tf32_in_convolution")]

    def repeater(self, calls: list[Any], arrays: list[Any], inputs: list[Any]) -> StepGraph:
        return StepGraph(self._backend, calls, arrays, inputs)
