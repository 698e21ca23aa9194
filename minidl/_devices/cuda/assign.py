"""Numbers brought to their places on the GPU, cuda/assign.cu: fills, copies, casts, choices by a condition."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._devices.reference.pointwise import broadcast_error
from minidl._ext.device_array import DeviceArray, Layout
from minidl._ext.device_views import broadcast, overlap, same_places, vectors

from .arrays import BITS, CODE, SUFFIX, ArraysCUDA, bits_of, layout_of

_COPY = {size: f"copy_{suffix}" for size, suffix in BITS.items()}
_FILL = {size: f"fill_{suffix}" for size, suffix in BITS.items()}
_WHERE = {size: f"where_{suffix}" for size, suffix in BITS.items()}
_CAST = {dtype: f"cast_{suffix}" for dtype, suffix in SUFFIX.items()}
_TRANSPOSE = {size: f"transpose_{suffix}" for size, suffix in BITS.items()}
_TILE = 32  # rows and columns that a block transposes at once
_MOST_BLOCKS = 65535
_BOOL = np.dtype(np.bool_)
_NO_BITS = np.uint64(0)
_VECTOR = 16  # bytes that a thread moves at once


class AssignCUDA(ArraysCUDA):
    """Copies, casts and writes into arrays that are there."""

    def copy(self, x: DeviceArray) -> DeviceArray:
        """A fresh array without gaps."""
        output = self.runtime.empty(x.shape, x.dtype)
        self._copy(output, x)
        return output

    def cast(self, x: DeviceArray, np_dtype: Any) -> DeviceArray:
        """A fresh array of another dtype.  Fractions are cut off; what the dtype cannot hold is undefined."""
        output = self.runtime.empty(x.shape, np.dtype(np_dtype))
        self._copy(output, x)
        return output

    def copy_(self, destination: DeviceArray, source: Any) -> None:
        """Write ``source`` (an array or a number, broadcast and cast) into ``destination``."""
        if not isinstance(source, DeviceArray):
            self.fill_(destination, source)
            return
        if destination.shape != source.shape:
            ones = max(source.ndim - destination.ndim, 0)
            if source.shape[:ones] == (1,) * ones:
                source = source.view(source.shape[ones:], source.strides[ones:])
            if broadcast(destination.shape, source.shape) != destination.shape:
                raise broadcast_error("copy_", destination, source)
        if not same_places(destination, source):
            self._copy(destination, self.apart(source, destination))

    def fill_(self, destination: DeviceArray, value: Any) -> None:
        """Write one number everywhere."""
        size, bits = destination.itemsize, bits_of(value, destination.dtype)
        if vectors(destination.shape, destination):
            self.launch_each("assign", "fill_bytes", -(-destination.nbytes // _VECTOR), destination,
                             bits.tobytes()[:size] * (_VECTOR // size), np.int64(destination.nbytes))
        else:
            self.launch_each("assign", _FILL[size], destination.size, destination, bits,
                             layout_of(destination.shape, destination), destination.size)

    def apart(self, source: DeviceArray, destination: DeviceArray) -> DeviceArray:
        """``source``, or a copy of it where it lies across ``destination``, which is going to be written."""
        if source.base is destination.base and overlap(source, destination) and not same_places(source, destination):
            return self.copy(source)
        return source

    def where(self, condition: DeviceArray, a: Any, b: Any) -> DeviceArray:
        """a where the condition holds, b elsewhere; the three broadcast."""
        x, y = (each if isinstance(each, DeviceArray) else None for each in (a, b))
        dtype = x.dtype if x is not None else y.dtype if y is not None else np.result_type(np.asarray(a), np.asarray(b))
        shape: tuple[int, ...] | None = condition.shape
        for each in (x, y):
            shape = shape if shape is None or each is None else broadcast(shape, each.shape)
        if shape is None:
            raise broadcast_error("where", condition, a, b)
        if condition.dtype != _BOOL:
            condition = self.cast(condition, _BOOL)
        output = self.runtime.empty(shape, dtype)
        layout = layout_of(shape, output, condition, output if x is None else x, output if y is None else y)
        self.launch_each("assign", _WHERE[dtype.itemsize], output.size, output, condition, x, y,
                         bits_of(a, dtype) if x is None else _NO_BITS, bits_of(b, dtype) if y is None else _NO_BITS,
                         layout, output.size)
        return output

    def masked_fill(self, x: DeviceArray, mask: DeviceArray, value: Any) -> DeviceArray:
        """x with ``value`` where the mask is true."""
        return self.where(mask, value, x)

    def _copy(self, output: DeviceArray, x: DeviceArray) -> None:
        """The numbers of x, broadcast and cast, into ``output``, which lies elsewhere."""
        if x.dtype != output.dtype:
            self.launch_each("assign", _CAST[output.dtype], output.size, output, x, CODE[x.dtype],
                             layout_of(output.shape, output, x), output.size)
        elif vectors(output.shape, output, x):
            self.launch_each("assign", "copy_bytes", -(-x.nbytes // _VECTOR), output, x, np.int64(x.nbytes))
        elif not self._transpose(output, x):
            self.launch_each("assign", _COPY[x.itemsize], output.size, output, x, layout_of(output.shape, output, x),
                             output.size)

    def _transpose(self, output: DeviceArray, x: DeviceArray) -> bool:
        """Copy numbers that are neighbours along one dimension of x and along the last one of output; else False."""
        size, shape, last = x.itemsize, output.shape, output.ndim - 1
        if last < 1 or x.shape != shape or shape[last] < _TILE or output.strides[last] != size:
            return False
        for row in range(last):
            if x.strides[row] == size and shape[row] >= _TILE:
                rest = [dim for dim in range(last) if dim != row]
                layout = Layout(tuple(shape[dim] for dim in rest), *(
                    (tuple(each.strides[dim] for dim in rest), size) for each in (output, x)))
                tiles = layout.size * -(-shape[row] // _TILE) * -(-shape[last] // _TILE)
                self.launch("assign", _TRANSPOSE[size], (min(tiles, _MOST_BLOCKS), 1), (256, 1, 1), output, x,
                            shape[row], shape[last], np.int64(output.strides[row] // size),
                            np.int64(x.strides[last] // size), layout, tiles)
                return True
        return False
