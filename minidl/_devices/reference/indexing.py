"""Advanced indexing, gather and scatter in plain NumPy.

``indices`` is a tuple of integer or boolean arrays, slices, ints and ``None`` as it stood in the brackets.  The
meaning is PyTorch's: ints, slices and ``None`` take their view first, and the arrays index that view.  (NumPy
counts an int among the arrays, which moves dimensions in ``x[0, :, [1, 2]]``.)
"""

from typing import Any

import numpy as np


class OutOfRangeError(IndexError, RuntimeError):
    """An index beyond its dimension; PyTorch raises ``RuntimeError`` from gather and scatter."""


def split(x, indices):
    """The view of x that the ints, slices and ``None`` ask for, and the key of arrays that indexes it."""
    indices = tuple(int(entry) if isinstance(entry, np.ndarray) and entry.ndim == 0 and entry.dtype.kind in "iu"
                    else np.asarray(entry) if isinstance(entry, (list, bool)) else entry for entry in indices)
    consumed = 0
    for entry in indices:
        if isinstance(entry, np.ndarray):
            consumed += entry.ndim if entry.dtype == bool else 1
        elif entry is not None and entry is not Ellipsis:
            consumed += 1
    if consumed > x.ndim:
        raise IndexError(f"index: too many indices: {consumed} for a tensor of {x.ndim} dimensions {x.shape}")
    basic: list[Any] = []
    key: list[Any] = []
    dim = 0
    for entry in indices:
        if entry is Ellipsis:
            full = [slice(None)] * (x.ndim - consumed)
            basic += full
            key += full
            dim += len(full)
        elif isinstance(entry, np.ndarray):
            width = entry.ndim if entry.dtype == bool else 1
            _check_entry(entry, x.shape, dim)
            basic += [slice(None)] * width
            key.append(entry)
            dim += width
        else:
            basic.append(entry)
            if not isinstance(entry, (int, np.integer)):
                key.append(slice(None))
            dim += entry is not None
    return x[(*basic, Ellipsis)], tuple(key)


def _check_entry(entry, shape, dim):
    if entry.dtype == bool:
        if entry.shape != shape[dim:dim + entry.ndim]:
            raise IndexError(f"index: a mask of shape {entry.shape} at dimension {dim} does not match a tensor of "
                             f"shape {shape}")
    elif entry.dtype.kind not in "iu":
        raise IndexError(f"index: tensors used as indices must be integers or booleans, got {entry.dtype}")
    elif entry.size:
        require_range("index", entry, dim, shape[dim], -shape[dim], IndexError)


def require_range(op, index, dim, size, lowest, error=OutOfRangeError):
    """Raise where an entry of ``index`` lies outside ``lowest .. size - 1``."""
    if index.size and (index.min() < lowest or index.max() >= size):
        wrong = index.max() if index.max() >= size else index.min()
        raise error(f"{op}: index {wrong} is out of bounds for dimension {dim} with size {size}")


def _grid(op, x, dim, index):
    """Indices of every dimension of x, such that entry ``dim`` is ``index`` and the others count."""
    if index.ndim != x.ndim:
        raise RuntimeError(f"{op}: index {index.shape} must have as many dimensions as input {x.shape}")
    for i in range(x.ndim):
        if i != dim and index.shape[i] > x.shape[i]:
            raise RuntimeError(f"{op}: index {index.shape} must be no larger than input {x.shape} apart from dimension "
                               f"{dim}")
    require_range(op, index, dim, x.shape[dim], 0)
    grid = list(np.ogrid[tuple(slice(size) for size in index.shape)])
    grid[dim] = index
    return tuple(grid)


def _put(op, x, dim, index, source, accumulate):
    result = np.array(x, order="C", copy=True)
    target, places = np.atleast_1d(result), np.atleast_1d(index)
    if isinstance(source, np.ndarray):
        source = np.atleast_1d(source)
        if source.ndim != places.ndim or any(map(int.__gt__, places.shape, source.shape)):
            raise RuntimeError(f"{op}: index {places.shape} must be no larger than source {source.shape}")
        source = source[tuple(map(slice, places.shape))]
    grid = _grid(op, target, dim, places)
    if accumulate:
        np.add.at(target, grid, source)
    else:
        target[grid] = source
    return result


class IndexingReference:
    """Reading and writing at computed places."""

    def index(self, x, indices):
        view, key = split(x, indices)
        return np.array(view[(*key, Ellipsis)], order="C")

    def index_put_(self, x, indices, values, accumulate):
        """``x[indices] = values``, or ``+=`` with every duplicate counted where ``accumulate``."""
        view, key = split(x, indices)
        try:
            if accumulate:
                np.add.at(view, (*key, Ellipsis), np.asarray(values).astype(x.dtype))
            else:
                view[(*key, Ellipsis)] = values
        except ValueError:
            raise RuntimeError(f"index_put_: values of shape {np.shape(values)} cannot be broadcast to the indexing "
                               f"result of shape {view[(*key, Ellipsis)].shape}") from None

    def index_put(self, x, indices, values, accumulate):
        """A copy of x with ``values`` put."""
        result = np.array(x, order="C", copy=True)
        self.index_put_(result, indices, values, accumulate)
        return result

    def index_backward(self, grad_output, input_shape, indices):
        """Zeros of ``input_shape`` to which grad_output was added at ``indices``."""
        grad_input = np.zeros(input_shape, grad_output.dtype)
        self.index_put_(grad_input, indices, grad_output, True)
        return grad_input

    def gather(self, x, dim, index):
        """``y[i, j, ...] = x[i, index[i, j, ...], ...]`` with the index at ``dim``; index may be smaller than x."""
        grid = _grid("gather", np.atleast_1d(x), dim, np.atleast_1d(index))
        return np.asarray(np.atleast_1d(x)[grid].reshape(index.shape), order="C")

    def scatter(self, x, dim, index, source):
        """A copy of x with ``y[i, index[i, j, ...], ...] = source[i, j, ...]``; source is an array or a number."""
        return _put("scatter", x, dim, index, source, False)

    def scatter_add(self, x, dim, index, source):
        """A copy of x with ``y[i, index[i, j, ...], ...] += source[i, j, ...]``, every duplicate counted."""
        return _put("scatter_add", x, dim, index, source, True)

    def nonzero(self, x):
        """(n, ndim) int64: the places of the numbers that are not zero, in order."""
        return np.asarray(np.argwhere(x), np.int64, order="C")

    def masked_select(self, x, mask):
        """(n,): the numbers of x where mask is true, the two broadcast together."""
        try:
            x, mask = np.broadcast_arrays(x, mask)
        except ValueError:
            raise RuntimeError(f"masked_select: input {x.shape} and mask {mask.shape} do not broadcast") from None
        return x[mask]

    def index_select(self, x, dim, index):
        """The slices of x along ``dim`` that the 1-D ``index`` names."""
        if index.ndim > 1:
            raise IndexError(f"index_select: index must have one dimension, got {index.shape}")
        require_range("index_select", index, dim, x.shape[dim] if x.ndim else 1, 0, IndexError)
        if x.ndim == 0:
            return x.copy()
        return np.asarray(np.take(x, np.atleast_1d(index), dim), order="C")
