"""Reductions, cumulative sums and sorting on the GPU: cuda/reductions.cu, cuda/cumulative.cu and cuda/sorting.cu.

A large reduction is two launches: partial results of shares of it, then those together.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minidl._devices.reference.reduce import count, narrow, refuse_empty
from minidl._ext.device_array import DeviceArray, Layout

from .arrays import SUFFIX, THREADS, ArraysCUDA
from .teams import BLOCKS, Plan, plan, power_of_two

# In the order of the enums in cuda/reductions.cu.
LOAD = ["number", "truth", "square", "exp", "partial"]
COMBINE = ["sum", "prod", "max", "min"]
FINISH = ["as_it_is", "scale", "log", "finite"]
STORE = ["as_partial", "as_number", "as_bool"]

_RUN = 1024  # numbers that a block sorts, as in cuda/sorting.cu
_CHUNK, _MOST_CHUNKS = 4096, 65535  # numbers of a line that a block goes through, and blocks of a line
_MANY_ROWS = 64  # enough for threads to go along lines of their own

_FLOAT64, _INT64, _BOOL = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)


class Dims(NamedTuple):
    """The dimensions of a reduction, each kind from the outermost to the innermost in memory."""

    kept: list[int]
    reduced: list[int]
    columns: bool


def split_dims(x: DeviceArray, dims: tuple[int, ...] | None) -> Dims:
    """Which dimensions of x stay and which go, in the order of memory."""
    reduced = range(x.ndim) if dims is None else dims if x.ndim else ()

    def sorted_by_stride(each: Any) -> list[int]:
        return sorted(each, key=lambda dim: -abs(x.strides[dim]))

    def smallest_stride(each: Any) -> float:
        return min((abs(x.strides[dim]) for dim in each if x.shape[dim] > 1), default=math.inf)

    kept = [dim for dim in range(x.ndim) if dim not in reduced]
    return Dims(sorted_by_stride(kept), sorted_by_stride(reduced), smallest_stride(kept) < smallest_stride(reduced))


def shape_without(x: DeviceArray, dims: tuple[int, ...] | None, keepdim: bool) -> tuple[int, ...]:
    """The shape of a reduction of x."""
    if dims is None:
        return (1,) * (x.ndim if keepdim else 0)
    return tuple(1 if dim in dims else size for dim, size in enumerate(x.shape) if keepdim or dim not in dims)


def _strides(result: DeviceArray, kept: list[int], keepdim: bool) -> tuple[int, ...]:
    """The strides of a reduction's result along the dimensions that were ``kept``."""
    if keepdim:
        return tuple(result.strides[dim] for dim in kept)
    places = {dim: place for place, dim in enumerate(sorted(kept))}
    return tuple(result.strides[places[dim]] for dim in kept)


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
        output = self.empty(shape_without(x, dims, keepdim), dtype)
        if not output.size:
            return output
        kept, gone, columns = split_dims(x, dims)
        kept_shape = tuple(x.shape[dim] for dim in kept)
        numbers = Layout(tuple(x.shape[dim] for dim in gone), (tuple(x.strides[dim] for dim in gone), x.itemsize))
        target = _strides(output, kept, keepdim), dtype.itemsize
        centre = target if centres is None else (_strides(centres, kept, keepdim), _FLOAT64.itemsize)
        source = tuple(x.strides[dim] for dim in kept), x.itemsize
        store = STORE.index("as_bool" if dtype == _BOOL else "as_number" if dtype == x.dtype else "as_partial")
        words = COMBINE.index(combine), FINISH.index(finish), store
        kernel = f"reduce_{SUFFIX[x.dtype]}"
        how = plan(output.size, numbers.size, columns)
        if how.splits == 1:
            self._reduce(kernel, output, x, centres, load, words, how, factor,
                         Layout(kept_shape, target, source, centre), numbers, output.size)
            return output
        wide = _wide(x)
        partial = self.empty((how.splits, *kept_shape), wide)
        between = partial.strides[1:], wide.itemsize
        first_words = words[0], FINISH.index("as_it_is"), STORE.index("as_partial")
        self._reduce(kernel, partial, x, centres, load, first_words, how, factor,
                     Layout(kept_shape, between, source, centre), numbers, output.size)
        self._reduce(kernel, output, partial, centres, "partial", words, plan(output.size, how.splits, True, True),
                     factor, Layout(kept_shape, target, between, centre),
                     Layout((how.splits,), (partial.strides[:1], wide.itemsize)), output.size)
        return output

    def _reduce(self, kernel: str, output: DeviceArray, x: DeviceArray, centres: DeviceArray | None, load: str,
                words: tuple[int, int, int], how: Plan, factor: float, kept: Layout, gone: Layout,
                outputs: int) -> None:
        self.launch("reductions", kernel, (how.blocks, how.splits), (how.threads, 1, 1), output, x, centres,
                    LOAD.index(load), *words, how.lanes, how.columns, np.float64(factor), kept, gone, outputs,
                    gone.size)

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
        shape = shape_without(x, dims, keepdim)
        values = self.empty(shape, x.dtype) if with_values else None
        indices = self.empty(shape, _INT64)
        if not indices.size:
            return values, indices
        kept, gone, columns = split_dims(x, dims)
        kept, gone = sorted(kept), sorted(gone)  # an index counts in this order
        places, numbers = (Layout(tuple(x.shape[dim] for dim in each),
                                  (tuple(x.strides[dim] for dim in each), x.itemsize)) for each in (kept, gone))
        kernel = f"extreme_{SUFFIX[x.dtype]}"
        how = plan(indices.size, numbers.size, columns)
        if how.splits == 1:
            self._extreme(kernel, values, indices, x, None, smallest, how, places, numbers)
            return values, indices
        partial, partial_indices = (self.empty((how.splits, indices.size), each) for each in (x.dtype, _INT64))
        self._extreme(kernel, partial, partial_indices, x, None, smallest, how, places, numbers)
        places, numbers = (Layout(partial.shape[dim:dim + 1], (partial.strides[dim:dim + 1], x.itemsize))
                           for dim in (1, 0))
        self._extreme(kernel, values, indices, partial, partial_indices, smallest,
                      plan(indices.size, how.splits, True, True), places, numbers)
        return values, indices

    def _extreme(self, kernel: str, values: DeviceArray | None, indices: DeviceArray, x: DeviceArray,
                 candidates: DeviceArray | None, smallest: bool, how: Plan, kept: Layout, gone: Layout) -> None:
        self.launch("reductions", kernel, (how.blocks, how.splits), (how.threads, 1, 1), values, indices, x, candidates,
                    smallest, how.lanes, how.columns, kept, gone, kept.size, gone.size)

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
        suffix, word = SUFFIX[x.dtype], COMBINE.index(combine)
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
