"""Indexing, gather and scatter on the GPU: cuda/indexing.cu and, for masks and sorted keys, cuda/places.cu.

An index in the memory of the GPU is not looked at beforehand, which would mean waiting for it: outside its dimension it
reads NaN (all bits set for integers, False for bool) and writes nothing.  Indices that come from the host (lists, NumPy
arrays) are checked as on the CPU.  Masks, ``nonzero`` and ``masked_select`` read back how many numbers are true, and an
index without dimensions is read as the number that it is, both as in PyTorch.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np

from minidl._devices.reference.indexing import (
    is_array,
    put_error,
    require_index_shape,
    require_range,
    require_source_shape,
    require_vector,
    select_error,
    split_key,
)
from minidl._ext.device_array import DeviceArray, Layout
from minidl._ext.device_views import broadcast, slice_view

from .arrays import BITS, SUFFIX, ArraysCUDA, bits_of, number_for, shown

_INT32, _INT64, _BOOL = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.bool_)
_MOST_PLACES = 8  # arrays in a key, as in cuda/indexing.cu
_SCANNED_POSITIONS = 512  # up to so many, threads look through all positions for equal keys; more are sorted
_SCANNED_ENTRIES = 32  # the same for the entries of a scatter along its dimension
_TILE, _DIGITS = 2048, 256  # as in cuda/places.cu
_MOST_DIMS = 8


class _Key(NamedTuple):
    """A key of arrays, ready for kernels."""

    view: DeviceArray  # of the array that is indexed; its dimensions in the order: those before, indexed, those behind
    shape: tuple[int, ...]  # of the result: those before, the shape of the indices, those behind
    at: int  # where in it the shape of the indices stands
    positions: tuple[int, ...]  # the shape of the indices
    strides: tuple[int, ...]  # of the view, in bytes, shown in the shape of the result; 0 for indexed dimensions
    places: bytes  # struct Places
    combinations: int  # of places that there are
    unique: bool  # whether no place comes twice
    arrays: list[DeviceArray]  # what the struct points at


class IndexingCUDA(ArraysCUDA):
    """Reading and writing at computed places."""

    def index(self, x: DeviceArray, indices: tuple[Any, ...]) -> DeviceArray:
        """``x[indices]``, a copy."""
        key = self._key(x, indices)
        return self.copy(key) if isinstance(key, DeviceArray) else self._taken(key)

    def index_select(self, x: DeviceArray, dim: int, index: DeviceArray) -> DeviceArray:
        """The slices of x along ``dim`` that the 1-D ``index`` names."""
        require_vector(index)
        if x.ndim == 0:
            return self.copy(x)
        return self._taken(self._prepared(x, {dim % x.ndim: self._long(index).view((index.size,), None)}, False))

    def index_put_(self, x: DeviceArray, indices: tuple[Any, ...], values: Any, accumulate: bool) -> None:
        """``x[indices] = values``, or ``+=`` with every duplicate counted where ``accumulate``."""
        if not accumulate and self._masked(x, indices, values):
            return
        key = self._key(x, indices)
        if isinstance(values, DeviceArray):
            values = self._fitting(values, key.shape, x)
        if isinstance(key, DeviceArray):
            (self.add_ if accumulate else self.copy_)(key, values)
            return
        count = math.prod(key.shape)
        if not count:
            return
        if accumulate:
            self._add_at(key, values)
            return
        positions = math.prod(key.positions)
        keys = winner = None
        if not key.unique and positions > 1:
            keys = self._keys(key, positions)
            winner = self._winners(keys, key.combinations) if positions > _SCANNED_POSITIONS else None
        array, number = self._choice(values, x.dtype, False)
        operand = (key.strides, x.itemsize)
        layout = Layout(key.shape, operand if array is None else shown(array, key.shape), operand,
                        (_position_strides(key), 1))
        self.launch_each("indexing", f"index_put_{BITS[x.itemsize]}", count, key.view, array, number, keys, winner,
                         positions, layout, key.places, count)

    def index_put(self, x: DeviceArray, indices: tuple[Any, ...], values: Any, accumulate: bool) -> DeviceArray:
        """A copy of x with ``values`` put."""
        result = self.copy(x)
        self.index_put_(result, indices, values, accumulate)
        return result

    def index_backward(self, grad_output: DeviceArray, input_shape: Any, indices: tuple[Any, ...]) -> DeviceArray:
        """Zeros of ``input_shape`` to which grad_output was added at ``indices``."""
        grad_input = self.full(input_shape, 0, grad_output.dtype)
        self.index_put_(grad_input, indices, grad_output, True)
        return grad_input

    def gather(self, x: DeviceArray, dim: int, index: DeviceArray) -> DeviceArray:
        """``y[i, j, ...] = x[i, index[i, j, ...], ...]`` with the index at ``dim``; index may be smaller than x."""
        rows, places = _at_least_1d(x), _at_least_1d(self._long(index))
        require_index_shape("gather", rows, dim, places)
        dim %= rows.ndim
        output = self.runtime.empty(places.shape, x.dtype)
        layout = Layout(places.shape, shown(output, places.shape), shown(places, places.shape),
                        (_without(rows.strides, dim), x.itemsize))
        self.launch_each("indexing", f"gather_{BITS[x.itemsize]}", output.size, output, rows, places,
                         np.int64(rows.strides[dim] // x.itemsize), rows.shape[dim], _missing(x.dtype), layout,
                         output.size)
        return output.view(index.shape, None)

    def scatter(self, x: DeviceArray, dim: int, index: DeviceArray, source: Any) -> DeviceArray:
        """A copy of x with ``y[i, index[i, j, ...], ...] = source[i, j, ...]``; source is an array or a number.

        Of the entries that name one place the last one counts.
        """
        return self._scattered("scatter", x, dim, index, source)

    def scatter_add(self, x: DeviceArray, dim: int, index: DeviceArray, source: Any) -> DeviceArray:
        """A copy of x with ``y[i, index[i, j, ...], ...] += source[i, j, ...]``, every duplicate counted."""
        return self._scattered("scatter_add", x, dim, index, source)

    def nonzero(self, x: DeviceArray) -> DeviceArray:
        """(n, ndim) int64: the places of the numbers that are not zero, in order."""
        places = self._true_places(x)
        output = self.runtime.empty((places.size, x.ndim), _INT64)
        if x.ndim:
            self._coordinates(output, places, x.shape, x.ndim, 1)
        return output

    def masked_select(self, x: DeviceArray, mask: DeviceArray) -> DeviceArray:
        """(n,): the numbers of x where mask is true, the two broadcast together."""
        shape = broadcast(x.shape, mask.shape)
        if shape is None:
            raise select_error(x, mask)
        places = self._true_places(self.expand(mask, shape))
        output = self.runtime.empty((places.size,), x.dtype)
        self.launch_each("places", f"take_{BITS[x.itemsize]}", output.size, output, x, places,
                         Layout(shape, shown(x, shape)), output.size)
        return output

    # ---- keys --------------------------------------------------------------------------------------------------------

    def _key(self, x: DeviceArray, indices: tuple[Any, ...]) -> DeviceArray | _Key:
        """The key for kernels, or the view where there is no array in it."""
        entries = [self._entry(each) for each in indices]
        basic, key, arrays = split_key(x.shape, entries)
        for entry, dim in arrays:
            if isinstance(entry, np.ndarray) and entry.dtype != _BOOL:
                require_range("index", entry, dim, x.shape[dim], -x.shape[dim], IndexError)
        view = slice_view(x, basic)
        if not arrays:
            return view
        placed: dict[int, DeviceArray] = {}
        dim, unique = 0, len(arrays) == 1
        for entry in key:
            if not is_array(entry):
                dim += 1
            elif entry.dtype != _BOOL:
                unique = False
                placed[dim] = self._long(entry if isinstance(entry, DeviceArray) else self.from_host(entry))
                dim += 1
            elif entry.ndim == 0:  # a new dimension of one place, taken once or not at all
                view = view.view((*view.shape[:dim], 1, *view.shape[dim:]),
                                 (*view.strides[:dim], 0, *view.strides[dim:]))
                placed[dim] = self.full((1 if bool(self._host(entry)) else 0,), 0, _INT64)
                dim += 1
            else:
                for column in self._mask_columns(entry):
                    placed[dim] = column
                    dim += 1
        return self._prepared(view, placed, True, unique)

    def _entry(self, entry: Any) -> Any:
        """A part of a key: an array, or what a basic key has."""
        if isinstance(entry, (list, bool)):
            return np.asarray(entry)
        if is_array(entry) and entry.ndim == 0 and entry.dtype.kind in "iu":
            return int(self._host(entry))
        return entry

    def _host(self, array: Any) -> np.ndarray:
        return self.to_host(array) if isinstance(array, DeviceArray) else array

    def _long(self, index: DeviceArray) -> DeviceArray:
        return index if index.dtype == _INT64 else self.cast(index, _INT64)

    def _mask_columns(self, mask: Any) -> list[DeviceArray]:
        """For each dimension of a mask the indices of its true numbers."""
        if isinstance(mask, np.ndarray):
            return [self.from_host(column) for column in mask.nonzero()]
        places = self._true_places(mask)
        output = self.runtime.empty((mask.ndim, places.size), _INT64)
        self._coordinates(output, places, mask.shape, 1, places.size)
        return [slice_view(output, (dim,)) for dim in range(mask.ndim)]

    def _prepared(self, view: DeviceArray, placed: dict[int, DeviceArray], wraps: bool,
                  unique: bool = False) -> _Key:
        """The key of the arrays ``placed`` at dimensions of a view."""
        if len(placed) > _MOST_PLACES:
            raise NotImplementedError(f"index: {len(placed)} arrays of indices, a CUDA kernel takes {_MOST_PLACES}")
        positions: tuple[int, ...] | None = ()
        for array in placed.values():
            positions = None if positions is None else broadcast(positions, array.shape)
        if positions is None:
            shapes = " ".join(str(array.shape).replace(" ", "") for array in placed.values())
            raise IndexError(f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes} ")
        arrays = [self.dense(array if array.shape == positions else self.expand(array, positions))
                  for array in placed.values()]
        dims = list(placed)
        together = dims[-1] - dims[0] == len(dims) - 1
        before = [dim for dim in range(dims[0]) if dim not in placed] if together else []
        behind = [dim for dim in range(view.ndim) if dim not in placed and dim not in before]
        shape = (*(view.shape[dim] for dim in before), *positions, *(view.shape[dim] for dim in behind))
        strides = (*(view.strides[dim] for dim in before), *(0,) * len(positions),
                   *(view.strides[dim] for dim in behind))
        sizes, spare = [view.shape[dim] for dim in dims], [0] * (_MOST_PLACES - len(dims))
        places = struct.pack(f"{2 + _MOST_PLACES}i0q{_MOST_PLACES}q{_MOST_PLACES}Q", len(dims), wraps, *sizes, *spare,
                             *(view.strides[dim] // view.itemsize for dim in dims), *spare,
                             *(array.ptr for array in arrays), *spare)
        return _Key(view, shape, len(before), positions, strides, places, math.prod(sizes), unique, arrays)

    def _taken(self, key: _Key) -> DeviceArray:
        output = self.runtime.empty(key.shape, key.view.dtype)
        layout = Layout(key.shape, shown(output, key.shape), (key.strides, output.itemsize),
                        (_position_strides(key), 1))
        self.launch_each("indexing", f"index_{BITS[output.itemsize]}", output.size, output, key.view,
                         _missing(output.dtype), layout, key.places, output.size)
        return output

    # ---- writing -----------------------------------------------------------------------------------------------------

    def _masked(self, x: DeviceArray, indices: tuple[Any, ...], value: Any) -> bool:
        """Write a number where a mask is true, without a look at how often; False where the key is another one."""
        mask = indices[0] if len(indices) == 1 else None
        if not isinstance(mask, DeviceArray) or mask.dtype != _BOOL or (
                isinstance(value, DeviceArray) and value.ndim) or mask.shape != x.shape[:mask.ndim]:
            return False
        if isinstance(value, DeviceArray) and value.dtype != x.dtype:
            value = self.cast(value, x.dtype)
        mask = mask.view((*mask.shape, *(1,) * (x.ndim - mask.ndim)), (*mask.strides, *(0,) * (x.ndim - mask.ndim)))
        self.copy_(x, self.where(mask, value, x))
        return True

    def _fitting(self, values: DeviceArray, shape: tuple[int, ...], x: DeviceArray) -> DeviceArray:
        """Values for a result of ``shape`` that go into x: of its dtype, and elsewhere."""
        ones = max(values.ndim - len(shape), 0)
        if values.shape[:ones] == (1,) * ones:
            values = values.view(values.shape[ones:], values.strides[ones:])
        if broadcast(values.shape, shape) != shape:
            raise put_error(values, shape)
        return self.cast(values, x.dtype) if values.dtype != x.dtype else self.apart(values, x)

    def _keys(self, key: _Key, positions: int) -> DeviceArray:
        """A number for the place of each position."""
        if key.combinations >= 2**31 - 1:
            raise NotImplementedError(f"index_put_: {key.combinations} places, a CUDA kernel takes less than 2**31")
        keys = self.runtime.empty((positions,), _INT32)
        self.launch_each("indexing", "index_keys", positions, keys, key.places, key.combinations, positions)
        return keys

    def _winners(self, keys: DeviceArray, outside: int) -> DeviceArray:
        """For each key its last position."""
        winner = self.full((outside + 1,), -1, _INT32)
        self.launch_each("indexing", "mark_winners", keys.size, winner, keys, keys.size)
        return winner

    def _add_at(self, key: _Key, values: Any) -> None:
        """Add values, shown in the shape of the result, at the places of a key."""
        view, positions = key.view, math.prod(key.positions)
        rest = (*key.shape[:key.at], *key.shape[key.at + len(key.positions):])
        if not isinstance(values, DeviceArray):
            values = self.full((1,) * len(key.shape), values, view.dtype)
        values = self.expand(values, key.shape)
        order = (*range(key.at, key.at + len(key.positions)), *range(key.at),
                 *range(key.at + len(key.positions), len(key.shape)))
        strides = (*key.strides[:key.at], *key.strides[key.at + len(key.positions):])
        keys = None if key.unique or positions == 1 else self._keys(key, positions)
        self._sum(view, self.dense(self.permute(values, order)), keys, key.combinations, positions, math.prod(rest),
                  Layout(rest, (strides, view.itemsize)), key.places)

    def _sum(self, x: DeviceArray, values: DeviceArray, keys: DeviceArray | None, outside: int, positions: int,
             rest: int, layout: Layout, places: bytes) -> None:
        """x += values (positions, rest): positions of equal keys, ``outside`` left out, come together."""
        if keys is None or positions <= _SCANNED_POSITIONS:
            self.launch_each("indexing", f"index_add_{SUFFIX[x.dtype]}", values.size, x, values, keys, outside,
                             positions, rest, layout, places, values.size)
            return
        keys, order = self._sorted(keys, outside)
        across = 1
        while across < min(rest, 32):
            across *= 2
        self.launch_each("indexing", f"segment_add_{SUFFIX[x.dtype]}", 32 * positions, x, values, keys, order, outside,
                         positions, rest, across, layout, places)

    def _scattered(self, op: str, x: DeviceArray, dim: int, index: DeviceArray, source: Any) -> DeviceArray:
        places = _at_least_1d(self._long(index))
        result = self.copy(x)
        target = _at_least_1d(result)
        if isinstance(source, DeviceArray):
            source = _at_least_1d(source)
            require_source_shape(op, places, source)
            if source.dtype != x.dtype:
                source = self.cast(source, x.dtype)
            source = slice_view(source, tuple(slice(size) for size in places.shape))
        require_index_shape(op, target, dim, places)
        dim %= target.ndim
        if not places.size or not result.size:
            return result
        adds = op == "scatter_add"
        if places.shape[dim] <= _SCANNED_ENTRIES:
            self._scatter_scanned(adds, target, dim, places, source)
        else:
            self._scatter_keyed(adds, target, dim, places, source)
        return result

    def _scatter_scanned(self, adds: bool, target: DeviceArray, dim: int, index: DeviceArray, source: Any) -> None:
        """Each place of the target looks through the entries along ``dim``."""
        size = index.itemsize
        shape = tuple(target.shape[d] if d == dim else n for d, n in enumerate(index.shape))
        layout = Layout(
            shape, (target.strides, target.itemsize), (_without(index.strides, dim), size),
            (_without(source.strides, dim), source.itemsize) if isinstance(source, DeviceArray) else (
                target.strides, target.itemsize),
            (tuple(int(d == dim) for d in range(target.ndim)), 1))
        array, number = self._choice(source, target.dtype, adds)
        count = math.prod(shape)
        name = f"scatter_add_{SUFFIX[target.dtype]}" if adds else f"scatter_{BITS[target.itemsize]}"
        self.launch_each("indexing", name, count, target, target, index, array, number, index.shape[dim],
                         np.int64(index.strides[dim] // size),
                         np.int64(0 if array is None else array.strides[dim] // array.itemsize), layout, count)

    def _scatter_keyed(self, adds: bool, target: DeviceArray, dim: int, index: DeviceArray, source: Any) -> None:
        """Each entry of the index has the place in the target as its key."""
        outside, count = target.size, index.size
        keys = self.runtime.empty(index.shape, _INT32)
        layout = Layout(index.shape, shown(keys, keys.shape), shown(index, keys.shape),
                        (_without(target.strides, dim), target.itemsize))
        self.launch_each("indexing", "scatter_keys", count, keys, index,
                         np.int64(target.strides[dim] // target.itemsize), target.shape[dim], outside, layout, count)
        if adds:
            values = self.dense(source) if isinstance(source, DeviceArray) else self.full(
                index.shape, source, target.dtype)
            self._sum(target, values, keys, outside, count, 1, Layout((1,), ((0,), 1)), bytes(_PLACES_BYTES))
            return
        array, number = self._choice(source, target.dtype, False)
        winner = self._winners(keys, outside)
        self.launch_each("indexing", f"scatter_winners_{BITS[target.itemsize]}", count, target, keys, winner,
                         None if array is None else self.dense(array), number, outside, count)

    def _choice(self, source: Any, dtype: np.dtype, adds: bool) -> tuple[DeviceArray | None, Any]:
        """The array and the number that a kernel takes for a source which is one of them."""
        if isinstance(source, DeviceArray):
            return source, number_for(0, dtype) if adds else np.uint64(0)
        return None, number_for(source, dtype) if adds else bits_of(source, dtype)

    # ---- which places ------------------------------------------------------------------------------------------------

    def _true_places(self, x: DeviceArray) -> DeviceArray:
        """(n,) int32: the places, counted in row-major order, of what is not zero.  Reads n back."""
        mask = self.dense(x if x.dtype == _BOOL else self.ne(x, 0))
        if not mask.size:
            return self.runtime.empty((0,), _INT32)
        blocks = -(-mask.size // _TILE)
        counts = self.runtime.empty((blocks + 1,), _INT32)
        self.launch("places", "mask_count", (blocks, 1), (256, 1, 1), counts, mask, mask.size)
        self._scan(counts, blocks)
        places = self.runtime.empty((int(self.to_host(slice_view(counts, (blocks,)))),), _INT32)
        if places.size:
            self.launch("places", "mask_places", (blocks, 1), (256, 1, 1), places, counts, mask, mask.size)
        return places

    def _scan(self, counts: DeviceArray, count: int) -> None:
        """Each count becomes the sum of those before it."""
        self.launch("places", "scan", (1, 1), (min(1024, -(-(count + 1) // 32) * 32), 1, 1), counts, count)

    def _coordinates(self, output: DeviceArray, places: DeviceArray, shape: tuple[int, ...], row: int,
                     column: int) -> None:
        if len(shape) > _MOST_DIMS:
            raise NotImplementedError(f"shape {shape} has more than {_MOST_DIMS} dimensions, which no CUDA kernel "
                                      "takes")
        sizes = struct.pack(f"{1 + _MOST_DIMS}i", len(shape), *shape, *(0,) * (_MOST_DIMS - len(shape)))
        self.launch_each("places", "coordinates", places.size, output, places, sizes, np.int64(row), np.int64(column),
                         places.size)

    def _sorted(self, keys: DeviceArray, largest: int) -> tuple[DeviceArray, DeviceArray]:
        """Keys from 0 to ``largest`` in order, and where they stood; equal ones keep their order."""
        keys = keys.view((keys.size,), None)
        blocks = -(-keys.size // _TILE)
        counts = self.runtime.empty((_DIGITS * blocks + 1,), _INT32)
        order = None
        for shift in range(0, largest.bit_length(), 8):
            sorted_keys, sorted_order = (self.runtime.empty(keys.shape, _INT32) for _ in range(2))
            self.launch("places", "digit_count", (blocks, 1), (256, 1, 1), counts, keys, shift, keys.size)
            self._scan(counts, _DIGITS * blocks)
            self.launch("places", "digit_move", (blocks, 1), (256, 1, 1), sorted_keys, sorted_order, keys, order,
                        counts, shift, keys.size)
            keys, order = sorted_keys, sorted_order
        assert order is not None
        return keys, order


_PLACES_BYTES = struct.calcsize(f"{2 + _MOST_PLACES}i0q{_MOST_PLACES}q{_MOST_PLACES}Q")


def _position_strides(key: _Key) -> tuple[int, ...]:
    """The strides, in numbers, of the position in the shape of the result."""
    strides, step = [0] * len(key.shape), 1
    for dim in range(key.at + len(key.positions) - 1, key.at - 1, -1):
        strides[dim] = step
        step *= key.shape[dim]
    return tuple(strides)


def _without(strides: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (*strides[:dim], 0, *strides[dim + 1:])


def _at_least_1d(x: DeviceArray) -> DeviceArray:
    return x if x.ndim else x.view((1,), None)


def _missing(dtype: np.dtype) -> Any:
    """What is read outside: NaN, all bits set, or False."""
    return np.uint64(0 if dtype == _BOOL else 2**64 - 1)
