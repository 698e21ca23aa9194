"""Constants, ranges and triangles on the GPU: cuda/creation.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._ext.device_array import DeviceArray

from .arrays import ArraysCUDA


class CreationCUDA(ArraysCUDA):
    """Constants, ranges and triangles."""

    def full(self, shape: Any, value: Any, np_dtype: Any) -> DeviceArray:
        """``value`` everywhere."""
        result = self.runtime.empty(tuple(shape), np.dtype(np_dtype))
        self.fill_(result, value)
        return result

    def zeros(self, shape: Any, np_dtype: Any) -> DeviceArray:
        """Zeros."""
        return self.full(shape, 0, np_dtype)
