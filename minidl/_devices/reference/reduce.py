"""Reductions, cumulative sums and sorting in plain NumPy.

``dims`` is a tuple of non-negative ints, or ``None`` for all of them; ``keepdim`` keeps the reduced dimensions
with size 1.  A 0-d array may be reduced along its dimension 0, as in PyTorch.  Sums of float32 are taken in
float64, sums of integers and booleans are int64.
"""

import math

import numpy as np


def _axes(x, dims):
    """``dims`` for NumPy; a 0-d array has no axis to name."""
    return None if x.ndim == 0 else dims


def count(x, dims):
    """How many numbers a reduction over ``dims`` (None: all) takes together."""
    return x.size if dims is None else math.prod(x.shape[dim] for dim in dims)


def _wide(x):
    """The dtype in which sums and products of x are taken."""
    return np.float64 if x.dtype.kind == "f" else np.int64


def narrow(x):
    """The dtype in which sums and products of x are returned."""
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)


def refuse_empty(op, x, dims, whole=RuntimeError):
    """PyTorch's errors where nothing is left to choose an extreme from."""
    if x.size:
        return
    if dims is None:
        raise whole(f"{op}: nothing to reduce in a tensor of shape {x.shape}; specify a dim of non-zero size")
    for dim in dims:
        if x.shape[dim] == 0:
            raise IndexError(f"{op}: reduction dim {dim} of a tensor of shape {x.shape} must have non-zero size")


class ReduceReference:
    """Reductions over some or all dimensions."""

    def sum(self, x, dims, keepdim):
        with np.errstate(all="ignore"):
            return np.asarray(np.sum(x, _axes(x, dims), _wide(x), keepdims=keepdim)).astype(narrow(x), order="C")

    def mean(self, x, dims, keepdim):
        with np.errstate(all="ignore"):
            total = np.sum(x, _axes(x, dims), np.float64, keepdims=keepdim)
            return np.asarray(total / np.float64(count(x, _axes(x, dims)))).astype(x.dtype, order="C")

    def prod(self, x, dims, keepdim):
        with np.errstate(all="ignore"):
            return np.asarray(np.prod(x, _axes(x, dims), _wide(x), keepdims=keepdim)).astype(narrow(x), order="C")

    def amax(self, x, dims, keepdim):
        refuse_empty("amax", x, dims)
        return np.array(np.amax(x, _axes(x, dims), keepdims=keepdim), order="C")

    def amin(self, x, dims, keepdim):
        refuse_empty("amin", x, dims)
        return np.array(np.amin(x, _axes(x, dims), keepdims=keepdim), order="C")

    def any(self, x, dims, keepdim):
        return np.array(np.any(x, _axes(x, dims), keepdims=keepdim), order="C")

    def all(self, x, dims, keepdim):
        return np.array(np.all(x, _axes(x, dims), keepdims=keepdim), order="C")

    def var(self, x, dims, correction, keepdim):
        """``sum((x - mean(x)) ** 2) / max(n - correction, 0)``, in two passes."""
        axes = _axes(x, dims)
        with np.errstate(all="ignore"):
            mean = np.sum(x, axes, np.float64, keepdims=True) / np.float64(count(x, axes))
            squares = np.sum(np.square(x - mean), axes, keepdims=keepdim)
            return np.asarray(squares / np.float64(max(count(x, axes) - correction, 0))).astype(x.dtype, order="C")

    def logsumexp(self, x, dims, keepdim):
        """``log(sum(exp(x)))`` with the largest number taken out of the exponential."""
        axes = _axes(x, dims)
        with np.errstate(all="ignore"):
            largest = np.amax(x, axes, keepdims=True, initial=-np.inf).astype(np.float64)
            largest = np.where(np.isinf(largest), 0, largest)
            result = np.log(np.sum(np.exp(x - largest), axes, keepdims=True)) + largest
            if not keepdim:
                result = np.squeeze(result, axes)
            return np.asarray(result).astype(x.dtype, order="C")

    def max_with_indices(self, x, dim, keepdim):
        """The largest number along ``dim`` and the first place where it stands; NaN counts as largest."""
        indices = self.argmax(x, dim, True)
        return _taken(x, dim, indices, keepdim)

    def min_with_indices(self, x, dim, keepdim):
        """The smallest number along ``dim`` and the first place where it stands; NaN counts as smallest."""
        indices = self.argmin(x, dim, True)
        return _taken(x, dim, indices, keepdim)

    def argmax(self, x, dim, keepdim):
        return _arg("argmax", np.argmax, x, dim, keepdim)

    def argmin(self, x, dim, keepdim):
        return _arg("argmin", np.argmin, x, dim, keepdim)

    def cumsum(self, x, dim):
        return _along(np.cumsum, x, dim)

    def cumprod(self, x, dim):
        return _along(np.cumprod, x, dim)

    def sort(self, x, dim, descending):
        """Sorted values and where they stood; equal numbers keep their order, NaN counts as largest."""
        rows = np.atleast_1d(x)
        if descending:
            size = rows.shape[dim]
            indices = np.flip(size - 1 - np.argsort(np.flip(rows, dim), dim, kind="stable"), dim)
        else:
            indices = np.argsort(rows, dim, kind="stable")
        values = np.take_along_axis(rows, indices, dim)
        return np.asarray(values.reshape(x.shape), order="C"), np.asarray(indices.reshape(x.shape), np.int64, order="C")

    def sum_to(self, x, shape):
        """Sum x, which ``shape`` was broadcast to, back to ``shape``."""
        lead = x.ndim - len(shape)
        dims = tuple(range(lead)) + tuple(lead + i for i, size in enumerate(shape) if size == 1 != x.shape[lead + i])
        return self.sum(x, dims, True).reshape(shape)


def _arg(op, function, x, dim, keepdim):
    refuse_empty(op, x, None if dim is None else (dim,), IndexError)
    return np.array(function(x, None if x.ndim == 0 else dim, keepdims=keepdim), np.int64, order="C")


def _taken(x, dim, indices, keepdim):
    """Values of x at ``indices`` (size 1 along ``dim``), and the indices."""
    if x.ndim == 0:
        return x.copy(), indices
    values = np.asarray(np.take_along_axis(x, indices, dim), order="C")
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def _along(function, x, dim):
    with np.errstate(all="ignore"):
        return function(np.atleast_1d(x), dim, _wide(x)).reshape(x.shape).astype(narrow(x), order="C")
