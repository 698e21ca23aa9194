"""New arrays from nothing but numbers: constants, ranges, identity; and the triangles and one-hot rows of others."""

import math

import numpy as np


class CreationReference:
    """Shapes are tuples of ints, ``np_dtype`` is a NumPy dtype."""

    def empty(self, shape, np_dtype):
        return np.empty(shape, np_dtype)

    def full(self, shape, value, np_dtype):
        return np.full(shape, np.asarray(value).astype(np_dtype), np_dtype)

    def zeros(self, shape, np_dtype):
        return np.zeros(shape, np_dtype)

    def arange(self, start, end, step, np_dtype):
        """``start + i * step`` for i = 0 .. ceil((end - start) / step) - 1; floats are computed in double."""
        return (start + np.arange(arange_steps(start, end, step)) * step).astype(np_dtype)

    def linspace(self, start, end, steps, np_dtype):
        """``steps`` numbers from ``start`` to ``end``, counted from the nearer end so that both are met exactly."""
        require_steps(steps)
        if steps == 1:
            return np.full(1, start).astype(np_dtype)
        i = np.arange(steps)
        step = (end - start) / max(steps - 1, 1)
        return np.where(i < steps // 2, start + step * i, end - step * (steps - 1 - i)).astype(np_dtype)

    def eye(self, n, m, np_dtype):
        require_sizes(n, m)
        return np.eye(n, m, dtype=np_dtype)

    def tril(self, x, diagonal):
        """The last two dimensions with zeros above the diagonal."""
        require_matrix("tril", x)
        return np.asarray(np.tril(x, diagonal), order="C")

    def triu(self, x, diagonal):
        """The last two dimensions with zeros below the diagonal."""
        require_matrix("triu", x)
        return np.asarray(np.triu(x, diagonal), order="C")

    def one_hot(self, index, classes):
        """(...) of class numbers to (..., classes) of int64 zeros and ones; ``classes=-1`` takes the largest + 1."""
        if index.size and index.min() < 0:
            raise RuntimeError(f"one_hot: class values must be non-negative, got {index.min()}")
        if classes < 0:
            if not index.size:
                raise RuntimeError("one_hot: cannot infer the number of classes from an empty tensor; give num_classes")
            classes = int(index.max()) + 1
        if index.size and index.max() >= classes:
            raise RuntimeError(f"one_hot: class value {index.max()} must be smaller than num_classes {classes}")
        return (index[..., None] == np.arange(classes)).astype(np.int64)


def arange_steps(start, end, step):
    """How many numbers ``arange`` makes."""
    if step == 0:
        raise RuntimeError("arange: step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError(f"arange: bounds {start} and {end} are inconsistent with the sign of step {step}")
    if isinstance(start, int) and isinstance(end, int) and isinstance(step, int):
        return -((start - end) // step)
    return math.ceil((end - start) / step)


def require_steps(steps):
    """Raise where ``linspace`` cannot make so many numbers."""
    if steps < 0:
        raise RuntimeError(f"linspace: number of steps must be non-negative, got {steps}")


def require_sizes(n, m):
    """Raise where ``eye`` has no such matrix."""
    if n < 0 or m < 0:
        raise RuntimeError(f"eye: n and m must be greater or equal to 0, got {n} and {m}")


def require_matrix(op, x):
    """Raise where there are no rows and columns."""
    if x.ndim < 2:
        raise RuntimeError(f"{op}: input must have at least 2 dimensions, got shape {x.shape}")
