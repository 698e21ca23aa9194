"""Where arrays live and how they come and go; and the few operations that exist for gradients of views."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._ext.device_array import DeviceArray
from minidl._ext.device_pool import Block
from minidl._ext.device_views import overlap, slice_view

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
        return overlap(a, b)

    def address(self, x: DeviceArray) -> int:
        """Where the first number lies."""
        return x.ptr

    def storage_offset(self, x: DeviceArray) -> int:
        """How many numbers lie between the start of the memory and the first one of x; 0 in memory of others."""
        block = x.base.owner
        return (x.ptr - block.ptr) // x.itemsize if isinstance(block, Block) else 0

    def is_contiguous(self, x: DeviceArray) -> bool:
        """Whether the numbers lie in row-major order without gaps."""
        return x.contiguous

    def zeros_like(self, x: DeviceArray) -> DeviceArray:
        """Zeros of the shape and dtype of x."""
        return self.full(x.shape, 0, x.dtype)

    def ones_like(self, x: DeviceArray) -> DeviceArray:
        """Ones of the shape and dtype of x."""
        return self.full(x.shape, 1, x.dtype)

    def new_zeros(self, like: DeviceArray, shape: Any) -> DeviceArray:
        """Zeros of another shape with the dtype of ``like``."""
        return self.full(shape, 0, like.dtype)

    def slice_backward(self, grad_output: DeviceArray, input_shape: Any, key: tuple[Any, ...]) -> DeviceArray:
        """Zeros of ``input_shape`` with ``grad_output`` at the basic index ``key``."""
        grad_input = self.full(input_shape, 0, grad_output.dtype)
        self.copy_(slice_view(grad_input, key), grad_output)
        return grad_input

    def view_scatter(self, x: DeviceArray, values: Any, steps: Any) -> DeviceArray:
        """A copy of ``x`` in which the view that ``steps`` (name of a view op, arguments) lead to holds ``values``."""
        result = self.copy(x)
        view = result
        for name, args in steps:
            view = getattr(self, name)(view, *args)
        if view.size and not overlap(view, result):
            raise RuntimeError(
                "in-place change of a view whose base is not contiguous: the gradient cannot follow it; use "
                ".contiguous() on the base first")
        self.copy_(view, values)
        return result
