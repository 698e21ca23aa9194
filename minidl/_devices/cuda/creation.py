"""Constants, ranges and triangles on the GPU: cuda/creation.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._devices.reference.creation import arange_steps, require_matrix, require_sizes, require_steps
from minidl._ext.device_array import DeviceArray

from .arrays import BITS, SUFFIX, ArraysCUDA

_INT64 = np.dtype(np.int64)


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

    def arange(self, start: Any, end: Any, step: Any, np_dtype: Any) -> DeviceArray:
        """``start + i * step`` for i = 0 .. ceil((end - start) / step) - 1; floats are computed in double."""
        result = self.runtime.empty((arange_steps(start, end, step),), np.dtype(np_dtype))
        whole = isinstance(start, int) and isinstance(step, int)
        self.launch_each("creation", f"arange_{SUFFIX[result.dtype]}", result.size, result,
                         np.int64(start if whole else 0), np.int64(step if whole else 0), np.float64(start),
                         np.float64(step), whole, result.size)
        return result

    def linspace(self, start: float, end: float, steps: int, np_dtype: Any) -> DeviceArray:
        """``steps`` numbers from ``start`` to ``end``, counted from the nearer end so that both are met exactly."""
        require_steps(steps)
        if steps == 1:
            return self.full((1,), start, np_dtype)
        result = self.runtime.empty((steps,), np.dtype(np_dtype))
        self.launch_each("creation", f"linspace_{SUFFIX[result.dtype]}", steps, result, np.float64(start),
                         np.float64(end), np.float64((end - start) / max(steps - 1, 1)), steps)
        return result

    def eye(self, n: int, m: int, np_dtype: Any) -> DeviceArray:
        """(n, m) with ones where the column is the row."""
        require_sizes(n, m)
        result = self.runtime.empty((n, m), np.dtype(np_dtype))
        self.launch_each("creation", f"eye_{SUFFIX[result.dtype]}", result.size, result, m, result.size)
        return result

    def tril(self, x: DeviceArray, diagonal: int) -> DeviceArray:
        """The last two dimensions with zeros above the diagonal."""
        return self._triangle("tril", x, diagonal, False)

    def triu(self, x: DeviceArray, diagonal: int) -> DeviceArray:
        """The last two dimensions with zeros below the diagonal."""
        return self._triangle("triu", x, diagonal, True)

    def _triangle(self, op: str, x: DeviceArray, diagonal: int, upper: bool) -> DeviceArray:
        require_matrix(op, x)
        output = self.runtime.empty(x.shape, x.dtype)
        self.launch_each("creation", f"triangle_{BITS[x.itemsize]}", x.size, output, self.dense(x), x.shape[-2],
                         x.shape[-1], diagonal, upper, x.size)
        return output

    def one_hot(self, index: DeviceArray, classes: int) -> DeviceArray:
        """(...) of class numbers to (..., classes) of int64 zeros and ones; ``classes=-1`` takes the largest + 1.

        The latter reads the numbers.  Otherwise nobody looks at them: one that is no class has a row of zeros.
        """
        if classes < 0:
            if not index.size:
                raise RuntimeError("one_hot: cannot infer the number of classes from an empty tensor; give num_classes")
            classes = int(self.to_host(index).max()) + 1
        output = self.runtime.empty((*index.shape, classes), _INT64)
        whole = self.dense(index if index.dtype == _INT64 else self.cast(index, _INT64))
        self.launch_each("creation", "one_hot_i64", output.size, output, whole, classes, output.size)
        return output
