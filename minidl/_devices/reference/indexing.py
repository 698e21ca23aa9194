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
    entries = tuple(int(entry) if isinstance(entry, np.ndarray) and entry.ndim == 0 and entry.dtype.kind in "iu"
                    else np.asarray(entry) if isinstance(entry, (list, bool)) else entry for entry in indices)
    basic, key, arrays = split_key(x.shape, entries)
    for entry, dim in arrays:
        if entry.dtype != bool and entry.size:
            require_range("index", entry, dim, x.shape[dim], -x.shape[dim], IndexError)
    return x[basic], key


def split_key(shape, entries):
    """The basic key of the ints, slices and ``None``, the key of arrays for what it leaves, and the arrays' dimensions.

    An array is what has a dtype and dimensions, of whatever device; masks are compared with the shape.
    """
    consumed = 0
    for entry in entries:
        if is_array(entry):
            consumed += entry.ndim if entry.dtype == bool else 1
        elif entry is not None and entry is not Ellipsis:
            consumed += 1
    if consumed > len(shape):
        raise IndexError(f"index: too many indices: {consumed} for a tensor of {len(shape)} dimensions {shape}")
    basic: list[Any] = []
    key: list[Any] = []
    arrays: list[tuple[Any, int]] = []
    dim = 0
    for entry in entries:
        if entry is Ellipsis:
            full = [slice(None)] * (len(shape) - consumed)
            basic += full
            key += full
            dim += len(full)
        elif is_array(entry):
            width = entry.ndim if entry.dtype == bool else 1
            _check_entry(entry, shape, dim)
            basic += [slice(None)] * width
            key.append(entry)
            arrays.append((entry, dim))
            dim += width
        else:
            basic.append(entry)
            if not isinstance(entry, (int, np.integer)):
                key.append(slice(None))
            dim += entry is not None
    return (*basic, Ellipsis), tuple(key), arrays


def is_array(entry):
    """Whether a part of a key is an array of indices or bools."""
    return hasattr(entry, "dtype") and not isinstance(entry, np.generic)


def _check_entry(entry, shape, dim):
    if entry.dtype == bool:
        if entry.shape != shape[dim:dim + entry.ndim]:
            raise IndexError(f"index: a mask of shape {entry.shape} at dimension {dim} does not match a tensor of "
                             f"shape {shape}")
    elif entry.dtype.kind not in "iu":
        raise IndexError(f"index: tensors used as indices must be integers or booleans, got {entry.dtype}")


def require_range(op, index, dim, size, lowest, error=OutOfRangeError):
    """Raise where an entry of ``index`` lies outside ``lowest .. size - 1``."""
    if index.size and (index.min() < lowest or index.max() >= size):
        wrong = index.max() if index.max() >= size else index.min()
        raise error(f"{op}: index {wrong} is out of bounds for dimension {dim} with size {size}")


def require_index_shape(op, x, dim, index):
    """Raise where the shape of ``index`` is none for gather and scatter along ``dim`` of x."""
    if index.ndim != x.ndim:
        raise RuntimeError(f"{op}: index {index.shape} must have as many dimensions as input {x.shape}")
    for i in range(x.ndim):
        if i != dim and index.shape[i] > x.shape[i]:
            raise RuntimeError(f"{op}: index {index.shape} must be no larger than input {x.shape} apart from dimension "
                               f"{dim}")


def require_source_shape(op, index, source):
    """Raise where ``source`` has no number for each entry of ``index``."""
    if source.ndim != index.ndim or any(map(int.__gt__, index.shape, source.shape)):
        raise RuntimeError(f"{op}: index {index.shape} must be no larger than source {source.shape}")


def put_error(values, shape):
    """The ``RuntimeError`` of ``index_put_`` for values that do not broadcast to the result's shape."""
    return RuntimeError(f"index_put_: values of shape {np.shape(values)} cannot be broadcast to the indexing "
                        f"result of shape {shape}")


def select_error(x, mask):
    """The ``RuntimeError`` of ``masked_select`` for shapes that do not broadcast."""
    return RuntimeError(f"masked_select: input {x.shape} and mask {mask.shape} do not broadcast")


def require_vector(index):
    """Raise where the index of ``index_select`` has several dimensions."""
    if index.ndim > 1:
        raise IndexError(f"index_select: index must have one dimension, got {index.shape}")


def _grid(op, x, dim, index):
    """Indices of every dimension of x, such that entry ``dim`` is ``index`` and the others count."""
    require_index_shape(op, x, dim, index)
    require_range(op, index, dim, x.shape[dim], 0)
    grid = list(np.ogrid[tuple(slice(size) for size in index.shape)])
    grid[dim] = index
    return tuple(grid)


def _put(op, x, dim, index, source, accumulate):
    result = np.array(x, order="C", copy=True)
    target, places = np.atleast_1d(result), np.atleast_1d(index)
    if isinstance(source, np.ndarray):
        source = np.atleast_1d(source)
        require_source_shape(op, places, source)
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
                # broadcast first: for some shapes that do not fit, NumPy's add.at reads beyond the values
                fitting = np.broadcast_to(np.asarray(values).astype(x.dtype), view[(*key, Ellipsis)].shape)
                np.add.at(view, (*key, Ellipsis), fitting)
            else:
                view[(*key, Ellipsis)] = values
        except ValueError:
            raise put_error(values, view[(*key, Ellipsis)].shape) from None

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
            raise select_error(x, mask) from None
        return x[mask]

    def index_select(self, x, dim, index):
        """The slices of x along ``dim`` that the 1-D ``index`` names."""
        require_vector(index)
        require_range("index_select", index, dim, x.shape[dim] if x.ndim else 1, 0, IndexError)
        if x.ndim == 0:
            return x.copy()
        return np.asarray(np.take(x, np.atleast_1d(index), dim), order="C")
