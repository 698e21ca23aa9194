"""Views and rearrangements on the GPU: views are worked out on the host and launch nothing; cuda/shape.cu copies."""

from __future__ import annotations

import math
import struct
from typing import Any

from minidl._devices.reference.shape import cat_shape, expand_strides, pad_widths
from minidl._ext import device_views
from minidl._ext.device_array import DeviceArray

from .arrays import BITS, SUFFIX, ArraysCUDA, bits_of

_MOST_PARTS = 32  # of a launch, as in cuda/shape.cu
_PLAIN, _FLIP, _WRAP, _REFLECT, _REPLICATE, _CONSTANT = range(6)  # the enum Mode there
_PAD_MODES = {"constant": _CONSTANT, "reflect": _REFLECT, "replicate": _REPLICATE, "circular": _WRAP}
_MOST_DIMS = 8

# A dimension of a rearrangement: its size in the result and in the input, the input's stride in numbers, shift, mode.
Dimension = tuple[int, int, int, int, int]


class ShapeCUDA(ArraysCUDA):
    """Views, concatenation, repetition and padding."""

    def reshape(self, x: DeviceArray, shape: Any) -> DeviceArray:
        """A view where the strides allow it, otherwise a copy.  ``shape`` holds no -1."""
        if math.prod(shape) != x.size:
            raise RuntimeError(f"reshape: shape {tuple(shape)} needs {math.prod(shape)} numbers, input of shape "
                               f"{x.shape} has {x.size}")
        view = device_views.reshape(x, shape)
        return self.copy(x).view(tuple(shape), None) if view is None else view

    def permute(self, x: DeviceArray, dims: Any) -> DeviceArray:
        """A view with the dimensions in another order."""
        return device_views.permute(x, dims)

    def expand(self, x: DeviceArray, shape: Any) -> DeviceArray:
        """A view in which dimensions of size 1 repeat with stride 0, and new ones stand in front."""
        return x.view(tuple(shape), expand_strides(x, shape))

    def slice(self, x: DeviceArray, key: tuple[Any, ...]) -> DeviceArray:
        """The view ``x[key]`` for a tuple of ints, slices, ``None`` and ``Ellipsis``; 0-d when nothing is left."""
        return device_views.slice_view(x, key)

    def as_strided(self, x: DeviceArray, shape: Any, strides_in_elements: Any, offset: int) -> DeviceArray:
        """A view that starts ``offset`` numbers after the first one of x.  The caller keeps it inside the storage."""
        return x.view(tuple(shape), tuple(stride * x.itemsize for stride in strides_in_elements), offset * x.itemsize)

    def stack(self, dim: int, *arrays: DeviceArray) -> DeviceArray:
        """Arrays of one shape and dtype along a new dimension."""
        shape = arrays[0].shape
        if any(array.shape != shape for array in arrays):
            raise ValueError("all input arrays must have the same shape")
        dim %= len(shape) + 1
        output = self.runtime.empty((*shape[:dim], len(arrays), *shape[dim:]), arrays[0].dtype)
        return self._joined(output, arrays, [math.prod(shape[dim:])] * len(arrays))

    def cat(self, dim: int, *arrays: DeviceArray) -> DeviceArray:
        """Join along ``dim``; arrays of shape (0,) are skipped, as PyTorch does."""
        kept, shape = cat_shape(dim, arrays)
        inner = math.prod(shape[dim + 1:])
        return self._joined(self.runtime.empty(shape, kept[0].dtype), kept, [each.shape[dim] * inner for each in kept])

    def _joined(self, output: DeviceArray, arrays: Any, columns: list[int]) -> DeviceArray:
        """The columns of (rows, columns[i]) matrices one after the other: 32 arrays a launch."""
        width = sum(columns)
        if not output.size:
            return output
        rows, first = output.size // width, 0
        for begin in range(0, len(arrays), _MOST_PARTS):
            parts = [self.dense(each) for each in arrays[begin:begin + _MOST_PARTS]]
            starts = [0]
            for each in columns[begin:begin + _MOST_PARTS]:
                starts.append(starts[-1] + each)
            spare = _MOST_PARTS - len(parts)
            table = struct.pack(f"i{_MOST_PARTS + 1}i0q{_MOST_PARTS}Q", len(parts), *starts, *[0] * spare,
                                *[each.ptr for each in parts], *[0] * spare)
            self.launch_each("shape", f"cat_{BITS[output.itemsize]}", rows * starts[-1], output, table, first, width,
                             rows * starts[-1])
            first += starts[-1]
        return output

    def flip(self, x: DeviceArray, dims: Any) -> DeviceArray:
        """A copy with the order along ``dims`` reversed."""
        flipped = [dim % x.ndim for dim in dims]
        return self._rearranged(x, x.shape, [(0, _FLIP if dim in flipped else _PLAIN) for dim in range(x.ndim)])

    def roll(self, x: DeviceArray, shifts: Any, dims: Any) -> DeviceArray:
        """Shift around the ends; ``dims=()`` rolls the flattened array by ``shifts[0]``."""
        if not dims:
            return self.roll(self.reshape(x, (x.size,)), shifts[:1], (0,)).view(x.shape, None)
        moves = [0] * x.ndim
        for shift, dim in zip(shifts, dims, strict=True):
            moves[dim] += shift
        return self._rearranged(x, x.shape, [(-move % max(size, 1), _WRAP if move else _PLAIN)
                                             for move, size in zip(moves, x.shape, strict=True)])

    def repeat(self, x: DeviceArray, repeats: Any) -> DeviceArray:
        """A copy with x laid out ``repeats`` times along each dimension."""
        if len(repeats) < x.ndim:
            raise RuntimeError(f"repeat: {len(repeats)} repeats {tuple(repeats)} for an input of {x.ndim} dimensions "
                               f"{x.shape}; at least as many are needed")
        lead = len(repeats) - x.ndim
        x = x.view((1,) * lead + x.shape, (0,) * lead + x.strides)
        shape = tuple(size * times for size, times in zip(x.shape, repeats, strict=True))
        return self._rearranged(x, shape, [(0, _PLAIN if times == 1 else _WRAP) for times in repeats])

    def pad(self, x: DeviceArray, pad: Any, mode: str, value: Any) -> DeviceArray:
        """Pad with ``(before, after)`` pairs, the last dimension first; negative amounts crop (mode constant).

        Modes: ``constant`` (``value``), ``reflect`` (without the edge), ``replicate`` (the edge), ``circular``.
        """
        widths = pad_widths(x.shape, pad, mode)
        shape = tuple(size + before + after for size, (before, after) in zip(x.shape, widths, strict=True))
        return self._rearranged(x, shape, [(-before, _PAD_MODES[mode] if before or after else _PLAIN)
                                           for before, after in widths], value)

    def pad_backward(self, grad_output: DeviceArray, input_shape: Any, pad: Any, mode: str) -> DeviceArray:
        """Every number of grad_output goes back to the one that it was copied from, to ``input_shape``."""
        widths = pad_widths(input_shape, pad, mode)
        if mode == "constant":
            return self.pad(grad_output, tuple(-amount for amount in pad), mode, 0)
        grad = self.dense(grad_output)
        for dim, (before, after) in enumerate(widths):
            if before or after:
                shape = (*input_shape[:dim + 1], *grad.shape[dim + 1:])
                grad_input = self.runtime.empty(shape, grad.dtype)
                self.launch_each("shape", f"pad_backward_{SUFFIX[grad.dtype]}", grad_input.size, grad_input, grad,
                                 shape[dim], math.prod(shape[dim + 1:]), before, after, _PAD_MODES[mode],
                                 grad_input.size)
                grad = grad_input
        return self.copy(grad) if grad is grad_output else grad

    def _rearranged(self, x: DeviceArray, shape: tuple[int, ...], moves: list[tuple[int, int]],
                    value: Any = 0) -> DeviceArray:
        """A fresh array of ``shape`` whose places come from x by each dimension's (shift, mode)."""
        output = self.runtime.empty(shape, x.dtype)
        dims: list[Dimension] = []
        for size, input_size, step, (shift, mode) in zip(shape, x.shape, x.strides, moves, strict=True):
            stride = step // x.itemsize
            if size == 1 and mode == _PLAIN:
                continue
            if dims and mode == _PLAIN and dims[-1][4] == _PLAIN and dims[-1][2] == stride * size:
                dims[-1] = (dims[-1][0] * size, dims[-1][1] * size, stride, 0, _PLAIN)
            else:
                dims.append((size, input_size, stride, shift, mode))
        if len(dims) > _MOST_DIMS:
            raise NotImplementedError(f"shape {shape} needs more than {_MOST_DIMS} dimensions, which no CUDA kernel "
                                      "takes")
        spare = [0] * (_MOST_DIMS - len(dims))
        columns = [[dim[i] for dim in dims] + spare for i in range(5)]
        table = struct.pack(f"i{4 * _MOST_DIMS}i0q{_MOST_DIMS}q", len(dims), *columns[0], *columns[1], *columns[3],
                            *columns[4], *columns[2])
        self.launch_each("shape", f"rearrange_{BITS[x.itemsize]}", output.size, output, x, bits_of(value, x.dtype),
                         table, output.size)
        return output
