"""Where arrays live and how they come and go; and the few operations that exist for gradients of views."""

import numpy as np

from minidl import _types

from .repeating import Repeating


class MemoryReference:
    """Arrays are NumPy arrays in the memory of the machine."""

    array_type = np.ndarray
    device = _types.device("cpu")
    repeating = Repeating()

    def from_host(self, array, non_blocking=False):
        """A fresh raw array with the numbers of a NumPy array; ``non_blocking`` is for who copies beside Python."""
        return self.copy(array)

    def to_host(self, x):
        """The raw array as a NumPy array; shares its memory where that is possible."""
        return x

    def to_device(self, x, backend, non_blocking=False):
        """A fresh raw array of another device with the numbers of x."""
        return backend.from_host(x, non_blocking)

    def same_memory(self, a, b):
        """Whether two arrays may look at the same memory."""
        return np.may_share_memory(a, b)

    def address(self, x):
        """Where the first number lies."""
        return x.ctypes.data

    def storage_offset(self, x):
        """How many numbers lie between the start of the memory and the first one of x."""
        whole = x
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        return int(x.ctypes.data - whole.ctypes.data) // x.itemsize

    def is_contiguous(self, x):
        """Whether the numbers lie in row-major order without gaps."""
        return x.flags.c_contiguous

    def zeros_like(self, x):
        return self.full(x.shape, 0, x.dtype)

    def ones_like(self, x):
        return self.full(x.shape, 1, x.dtype)

    def new_zeros(self, like, shape):
        """Zeros of another shape with the dtype of ``like``."""
        return self.full(shape, 0, like.dtype)

    def slice_backward(self, grad_output, input_shape, key):
        """Zeros of ``input_shape`` with ``grad_output`` at the basic index ``key``."""
        grad_input = self.full(input_shape, 0, grad_output.dtype)
        grad_input[key] = grad_output
        return grad_input

    def view_scatter(self, x, values, steps):
        """A copy of ``x`` in which the view that ``steps`` (name of a view op, arguments) lead to holds ``values``."""
        result = self.copy(x)
        view = result
        for name, args in steps:
            view = getattr(self, name)(view, *args)
        if view.size and not np.shares_memory(view, result):
            raise RuntimeError(
                "in-place change of a view whose base is not contiguous: the gradient cannot follow it; use "
                ".contiguous() on the base first")
        self.copy_(view, values)
        return result
