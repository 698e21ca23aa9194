"""Elementwise operations on the GPU: cuda/pointwise.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._devices.reference.pointwise import broadcast_error
from minidl._ext.device_array import DeviceArray

from .arrays import SUFFIX, ArraysCUDA, layout_of

# In the order of the enums in cuda/pointwise.cu.
UNARY = ["neg", "abs", "exp", "sqrt", "relu"]
BINARY = ["add", "sub", "mul", "div"]


class PointwiseCUDA(ArraysCUDA):
    """Elementwise operations, casts and in-place writes."""

    def _unary(self, op: str, x: DeviceArray) -> DeviceArray:
        output = self.empty(x.shape, x.dtype)
        self.launch_each("pointwise", f"unary_{SUFFIX[x.dtype]}", x.size, output, x, UNARY.index(op),
                         layout_of(x.shape, output, x), x.size)
        return output

    def _binary(self, op: str, a: Any, b: Any) -> DeviceArray:
        arrays = [each for each in (a, b) if isinstance(each, DeviceArray)]
        dtype = arrays[0].dtype
        try:
            shape = np.broadcast_shapes(*(each.shape for each in arrays))
        except ValueError:
            raise broadcast_error(op, a, b) from None
        output = self.empty(shape, dtype)
        layout = layout_of(shape, output, *(each if isinstance(each, DeviceArray) else output for each in (a, b)))
        values = [each if isinstance(each, DeviceArray) else None for each in (a, b)]
        numbers = [dtype.type(0 if isinstance(each, DeviceArray) else each) for each in (a, b)]
        self.launch_each("pointwise", f"binary_{SUFFIX[dtype]}", output.size, output, *values, *numbers,
                         BINARY.index(op), layout, output.size)
        return output


def _unary(op: str) -> Any:
    def method(self: PointwiseCUDA, x: DeviceArray) -> DeviceArray:
        return self._unary(op, x)

    method.__name__ = op
    return method


def _binary(op: str) -> Any:
    def method(self: PointwiseCUDA, a: Any, b: Any) -> DeviceArray:
        return self._binary(op, a, b)

    method.__name__ = op
    return method


for _name in UNARY:
    setattr(PointwiseCUDA, _name, _unary(_name))
for _name in BINARY:
    setattr(PointwiseCUDA, _name, _binary(_name))
