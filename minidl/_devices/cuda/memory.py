"""Where arrays live and how they come and go."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._ext.device_array import DeviceArray

from .arrays import ArraysCUDA


class MemoryCUDA(ArraysCUDA):
    """Arrays lie in the memory of a GPU; NumPy's arrays are copied there and back."""

    def from_host(self, array: np.ndarray) -> DeviceArray:
        """A fresh array with the numbers of a NumPy array."""
        return self.runtime.to_device(array)

    def to_host(self, x: DeviceArray) -> np.ndarray:
        """The numbers as a NumPy array, when they have been computed."""
        return self.runtime.to_host(self.dense(x))

    def same_memory(self, a: Any, b: Any) -> bool:
        """Whether two arrays may look at the same memory."""
        return a.base is b.base

    def is_contiguous(self, x: DeviceArray) -> bool:
        """Whether the numbers lie in row-major order without gaps."""
        return x.contiguous
