"""Reductions, cumulative sums and sorting on the GPU: cuda/reductions.cu, cuda/cumulative.cu and cuda/sorting.cu.

A large reduction is two launches: partial results of shares of it, then those together.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from minidl._devices.reference.reduce import count, narrow, refuse_empty
from minidl._ext.device_array import DeviceArray, Layout

from .arrays import SUFFIX, THREADS, ArraysCUDA
from .teams import BLOCKS, Plan, plan, power_of_two

# In the order of the enums in cuda/reductions.cu.
LOAD = {"number": 0, "truth": 1, "square": 2, "exp": 3, "partial": 4}
COMBINE = {"sum": 0, "prod": 1, "max": 2, "min": 3}
FINISH = {"as_it_is": 0, "scale": 1, "log": 2, "finite": 3}
STORE = {"as_partial": 0, "as_number": 1, "as_bool": 2}

_RUN = 1024  # numbers that a block sorts, as in cuda/sorting.cu
_CHUNK, _MOST_CHUNKS = 4096, 65535  # numbers of a line that a block goes through, and blocks of a line
_MANY_ROWS = 64  # enough for threads to go along lines of their own

_FLOAT64, _INT64, _BOOL = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)


class _Way(NamedTuple):
    """How an array is reduced, or a first launch of two: which numbers go together, and where results are put."""

    shape: tuple[int, ...]  # of the result
    how: Plan
    kept: Layout  # of the result (of the partial results if there are splits), the array, the centres
    numbers: Layout
    second: tuple[Plan, Layout, Layout] | None  # the same for the launch over the partial results


@functools.lru_cache(4096)
def _way(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, dims: tuple[int, ...] | None, keepdim: bool,
         result_itemsize: int, wide_itemsize: int, in_order: bool) -> _Way:
    """The way to reduce an array; ``in_order`` where the numbers count as they stand, else as memory is read best."""
    reduced = range(len(shape)) if dims is None else dims if shape else ()
    gone, kept = list(reduced), [dim for dim in range(len(shape)) if dim not in reduced]
    columns = _smallest(kept, shape, strides) < _smallest(gone, shape, strides)
    for each in (kept, gone):
        each.sort(key=None if in_order else lambda dim: -abs(strides[dim]))
    result_shape = tuple(1 if dim in reduced else n for dim, n in enumerate(shape) if keepdim or dim not in reduced)
    kept_shape = tuple(shape[dim] for dim in kept)

    def to(itemsize: int) -> tuple[tuple[int, ...], int]:
        dense = _dense(tuple(shape[dim] for dim in sorted(kept)), itemsize)
        return tuple(dense[sorted(kept).index(dim)] for dim in kept), itemsize

    source, result, centres = (tuple(strides[dim] for dim in kept), itemsize), to(result_itemsize), to(8)
    numbers = Layout(tuple(shape[dim] for dim in gone), (tuple(strides[dim] for dim in gone), itemsize))
    how = plan(math.prod(kept_shape), numbers.size, columns)
    if how.splits == 1:
        return _Way(result_shape, how, Layout(kept_shape, result, source, centres), numbers, None)
    partial = _dense(kept_shape, wide_itemsize), wide_itemsize
    between = (math.prod(kept_shape) * wide_itemsize,), wide_itemsize
    second = (plan(math.prod(kept_shape), how.splits, True, True), Layout(kept_shape, result, partial, centres),
              Layout((how.splits,), between))
    return _Way(result_shape, how, Layout(kept_shape, partial, source, centres), numbers, second)


def _smallest(dims: list[int], shape: tuple[int, ...], strides: tuple[int, ...]) -> float:
    return min((abs(strides[dim]) for dim in dims if shape[dim] > 1), default=math.inf)


def _dense(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The strides of an array without gaps."""
    return tuple(itemsize * math.prod(shape[dim + 1:]) for dim in range(len(shape)))


class _Lines(NamedTuple):
    """An array as ``rows`` lines of ``length`` numbers along one dimension, and a result of its shape likewise.

    ``layout`` tells where the lines begin in the result and in the array; steps are distances between their numbers.
    """

    layout: Layout
    rows: int
    length: int
    target_step: int
    source_step: int


def _lines(x: DeviceArray, dim: int, target: DeviceArray) -> _Lines:
    def of(values: tuple[int, ...]) -> tuple[int, ...]:
        return values[:dim] + values[dim + 1:]

    layout = Layout(of(x.shape), (of(target.strides), target.itemsize), (of(x.strides), x.itemsize))
    if not x.ndim:
        return _Lines(layout, 1, 1, 1, 1)
    steps = target.strides[dim] // target.itemsize, x.strides[dim] // x.itemsize
    return _Lines(layout, layout.size, x.shape[dim], *steps)


class ReduceCUDA(ArraysCUDA):
    """Reductions, cumulative sums and sorting."""

    def reduced(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool, dtype: np.dtype, combine: str,
                load: str = "number", finish: str = "as_it_is", factor: float = 1.0,
                centres: DeviceArray | None = None) -> DeviceArray:
        """A reduction of x in the words of cuda/reductions.cu; ``dtype`` is bool, that of x, or the wide one."""
        wide = _wide(x)
        way = _way(x.shape, x.strides, x.itemsize, dims, keepdim, dtype.itemsize, wide.itemsize, False)
        output = self.empty(way.shape, dtype)
        if not output.size:
            return output
        kernel = f"reduce_{SUFFIX[x.dtype]}"
        words = COMBINE[combine], FINISH[finish], STORE[
            "as_bool" if dtype == _BOOL else "as_number" if dtype == x.dtype else "as_partial"]
        if way.second is None:
            self._reduce(kernel, output, x, centres, LOAD[load], words, factor, way.how, way.kept, way.numbers)
            return output
        partial = self.empty((way.how.splits, output.size), wide)
        self._reduce(kernel, partial, x, centres, LOAD[load], (words[0], FINISH["as_it_is"], STORE["as_partial"]),
                     factor, way.how, way.kept, way.numbers)
        self._reduce(kernel, output, partial, centres, LOAD["partial"], words, factor, *way.second)
        return output

    def _reduce(self, kernel: str, output: DeviceArray, x: DeviceArray, centres: DeviceArray | None, load: int,
                words: tuple[int, int, int], factor: float, how: Plan, kept: Layout, numbers: Layout) -> None:
        self.launch("reductions", kernel, (how.blocks, how.splits), (how.threads, 1, 1), output, x, centres, load,
                    *words, how.lanes, how.columns, np.float64(factor), kept, numbers, kept.size, numbers.size)

    def sum(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> DeviceArray:
        return self.reduced(x, dims, keepdim, narrow(x), "sum")

    def mean(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> DeviceArray:
        return self.reduced(x, dims, keepdim, x.dtype, "sum", "number", "scale", _inverse(_count(x, dims)))

    def prod(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> DeviceArray:
        return self.reduced(x, dims, keepdim, narrow(x), "prod")

    def amax(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> DeviceArray:
        refuse_empty("amax", x, dims)
        return self.reduced(x, dims, keepdim, x.dtype, "max")

    def amin(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> DeviceArray:
        refuse_empty("amin", x, dims)
        return self.reduced(x, dims, keepdim, x.dtype, "min")

    def any(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> DeviceArray:
        return self.reduced(x, dims, keepdim, _BOOL, "max" if _count(x, dims) else "sum", "truth")

    def all(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> DeviceArray:
        return self.reduced(x, dims, keepdim, _BOOL, "min" if _count(x, dims) else "prod", "truth")

    def var(self, x: DeviceArray, dims: tuple[int, ...] | None, correction: float, keepdim: bool) -> DeviceArray:
        """In two passes, as the reference: means first, so that nothing cancels."""
        means = self.reduced(x, dims, keepdim, _FLOAT64, "sum", "number", "scale", _inverse(_count(x, dims)))
        return self.reduced(x, dims, keepdim, x.dtype, "sum", "square", "scale",
                            _inverse(max(_count(x, dims) - correction, 0)), means)

    def logsumexp(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> DeviceArray:
        """In two passes: the largest numbers first, so that no exponential overflows."""
        largest = self.reduced(x, dims, keepdim, _FLOAT64, "max", "number", "finite")
        return self.reduced(x, dims, keepdim, x.dtype, "sum", "exp", "log", 1.0, largest)

    def max_with_indices(self, x: DeviceArray, dim: int, keepdim: bool) -> tuple[DeviceArray, DeviceArray]:
        refuse_empty("argmax", x, (dim,), IndexError)
        return self._extremes(x, (dim,), keepdim, False, True)

    def min_with_indices(self, x: DeviceArray, dim: int, keepdim: bool) -> tuple[DeviceArray, DeviceArray]:
        refuse_empty("argmin", x, (dim,), IndexError)
        return self._extremes(x, (dim,), keepdim, True, True)

    def argmax(self, x: DeviceArray, dim: int | None, keepdim: bool) -> DeviceArray:
        dims = None if dim is None else (dim,)
        refuse_empty("argmax", x, dims, IndexError)
        return self._extremes(x, dims, keepdim, False, False)[1]

    def argmin(self, x: DeviceArray, dim: int | None, keepdim: bool) -> DeviceArray:
        dims = None if dim is None else (dim,)
        refuse_empty("argmin", x, dims, IndexError)
        return self._extremes(x, dims, keepdim, True, False)[1]

    def _extremes(self, x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool, smallest: bool,
                  with_values: bool) -> Any:
        way = _way(x.shape, x.strides, x.itemsize, dims, keepdim, x.itemsize, x.itemsize, True)
        values = self.empty(way.shape, x.dtype) if with_values else None
        indices = self.empty(way.shape, _INT64)
        if not indices.size:
            return values, indices
        kernel = f"extreme_{SUFFIX[x.dtype]}"
        if way.second is None:
            self._extreme(kernel, values, indices, x, None, smallest, way.how, way.kept, way.numbers)
            return values, indices
        partial, partial_indices = (self.empty((way.how.splits, indices.size), each) for each in (x.dtype, _INT64))
        self._extreme(kernel, partial, partial_indices, x, None, smallest, way.how, way.kept, way.numbers)
        self._extreme(kernel, values, indices, partial, partial_indices, smallest, *way.second)
        return values, indices

    def _extreme(self, kernel: str, values: DeviceArray | None, indices: DeviceArray, x: DeviceArray,
                 candidates: DeviceArray | None, smallest: bool, how: Plan, kept: Layout, numbers: Layout) -> None:
        self.launch("reductions", kernel, (how.blocks, how.splits), (how.threads, 1, 1), values, indices, x, candidates,
                    smallest, how.lanes, how.columns, kept, numbers, kept.size, numbers.size)

    def sum_to(self, x: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
        """Sum x, which ``shape`` was broadcast to, back to ``shape``."""
        lead = x.ndim - len(shape)
        dims = tuple(range(lead)) + tuple(lead + i for i, size in enumerate(shape) if size == 1 != x.shape[lead + i])
        return self.sum(x, dims, True).view(tuple(shape), None)

    def cumsum(self, x: DeviceArray, dim: int) -> DeviceArray:
        return self._cumulated(x, dim, "sum")

    def cumprod(self, x: DeviceArray, dim: int) -> DeviceArray:
        return self._cumulated(x, dim, "prod")

    def _cumulated(self, x: DeviceArray, dim: int, combine: str) -> DeviceArray:
        output = self.empty(x.shape, narrow(x))
        if not x.size:
            return output
        suffix, word = SUFFIX[x.dtype], COMBINE[combine]
        lines = _lines(x, dim, output)
        steps = np.int64(lines.target_step), np.int64(lines.source_step)
        kept = [abs(stride) for axis, stride in enumerate(x.strides) if axis != dim and x.shape[axis] > 1]
        if lines.rows >= _MANY_ROWS and min(kept) < abs(lines.source_step) * x.itemsize:
            self.launch_each("cumulative", f"cumulate_columns_{suffix}", lines.rows, output, x, word, *steps,
                             lines.layout, lines.rows, lines.length)
            return output
        chunk, before = lines.length, None
        if lines.length > 2 * _CHUNK and lines.rows < BLOCKS:
            chunk = max(_CHUNK, -(-lines.length // _MOST_CHUNKS))
        chunks = -(-lines.length // chunk)
        grid, block, tail = (lines.rows, chunks), (THREADS, 1, 1), (x, word, *steps, lines.layout, chunk, lines.length)
        if chunks > 1:
            totals, before = (self.empty((lines.rows, chunks), _wide(x)) for _ in range(2))
            self.launch("cumulative", f"cumulate_rows_{suffix}", grid, block, None, totals, None, *tail)
            self.launch_each("cumulative", f"cumulate_before_{SUFFIX[totals.dtype]}", lines.rows, before, totals, word,
                             lines.rows, chunks)
        self.launch("cumulative", f"cumulate_rows_{suffix}", grid, block, output, None, before, *tail)
        return output

    def sort(self, x: DeviceArray, dim: int, descending: bool) -> tuple[DeviceArray, DeviceArray]:
        """Sorted values and where they stood: runs of up to 1024 numbers, then runs merged two by two."""
        values, indices = self.empty(x.shape, x.dtype), self.empty(x.shape, _INT64)
        if not x.size:
            return values, indices
        suffix, lines = SUFFIX[x.dtype], _lines(x, dim, values)
        run = min(_RUN, power_of_two(lines.length))
        runs = -(-lines.length // run)
        merges = (runs - 1).bit_length()
        made = (values, indices, lines) if not merges else self._rows_to_sort(x, dim)
        self.launch("sorting", f"sort_runs_{suffix}", (-(-lines.rows * runs * run // _RUN), 1), (THREADS, 1, 1),
                    *made[:2], x, np.int64(made[2].target_step), np.int64(lines.source_step), descending,
                    made[2].layout, run, runs, lines.rows, lines.length)
        for merge in range(1, merges + 1):
            target = (values, indices, lines) if merge == merges else self._rows_to_sort(x, dim)
            self.launch_each("sorting", f"merge_runs_{suffix}", x.size, *target[:2], *made[:2],
                             np.int64(target[2].target_step), descending, target[2].layout, run, lines.length, x.size)
            made, run = target, 2 * run
        return values, indices

    def _rows_to_sort(self, x: DeviceArray, dim: int) -> tuple[DeviceArray, DeviceArray, _Lines]:
        """Values and indices of x with the dimension ``dim`` innermost, and how they are walked along."""
        shape = (*x.shape[:dim], *x.shape[dim + 1:], x.shape[dim])
        values, indices = self.empty(shape, x.dtype), self.empty(shape, _INT64)
        strides = (*values.strides[:dim], values.strides[-1], *values.strides[dim:-1])
        return values, indices, _lines(x, dim, values.view(x.shape, strides))


def _count(x: DeviceArray, dims: tuple[int, ...] | None) -> int:
    """How many numbers each result is made of."""
    return count(x, dims if x.ndim else None)


def _wide(x: DeviceArray) -> np.dtype:
    """The dtype in which sums and products of x are taken."""
    return _FLOAT64 if x.dtype.kind == "f" else _INT64


def _inverse(number: float) -> float:
    return 1.0 / number if number else math.inf
