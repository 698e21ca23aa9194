"""Reductions, cumulative sums and sorting on the GPU: cuda/reductions.cu.

A large reduction is two launches: partial results of shares of it, then those together.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minidl._devices.reference.reduce import count, narrow, refuse_empty
from minidl._ext.device_array import DeviceArray, Layout

from .arrays import SUFFIX, ArraysCUDA
from .teams import Plan, plan

# In the order of the enums in cuda/reductions.cu.
LOAD = ["number", "truth", "square", "exp", "partial"]
COMBINE = ["sum", "prod", "max", "min"]
FINISH = ["as_it_is", "scale", "log", "finite"]
STORE = ["as_partial", "as_number", "as_bool"]

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
        wide = _FLOAT64 if x.dtype.kind == "f" else _INT64
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


def _count(x: DeviceArray, dims: tuple[int, ...] | None) -> int:
    """How many numbers each result is made of."""
    return count(x, dims if x.ndim else None)


def _inverse(number: float) -> float:
    return 1.0 / number if number else math.inf
