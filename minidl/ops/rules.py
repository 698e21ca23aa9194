"""Small words that the derivative rules share.  ``F`` is a device (raw arrays) or the graph namespace (Tensors)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl._ext.core import GRAPH


def recorded(F: Any) -> bool:
    """Whether the rule itself is being put on the tape (``create_graph=True``)."""
    return F is GRAPH


def to_shape(F: Any, node: Any, index: int, grad: Any) -> Any:
    """A gradient summed over the dimensions along which argument ``index`` was broadcast."""
    shape = node.args[index]
    return grad if grad.shape == shape else F.sum_to(grad, shape)


def with_dims(F: Any, reduced: Any, shape: tuple[int, ...], dims: tuple[int, ...] | None, keepdim: bool) -> Any:
    """A reduction's result with its reduced dimensions back as ones."""
    if keepdim:
        return reduced
    kept = tuple(1 if dims is None or d in dims else size for d, size in enumerate(shape))
    return F.reshape(reduced, kept)


def count(shape: tuple[int, ...], dims: tuple[int, ...] | None) -> int:
    """How many numbers a reduction over ``dims`` takes together."""
    return math.prod(shape if dims is None else (shape[d] for d in dims))


def transposed(F: Any, x: Any) -> Any:
    """The last two dimensions swapped."""
    order = list(range(x.ndim))
    order[-2:] = order[-1], order[-2]
    return F.permute(x, tuple(order))


def normalize_dim(dim: int, ndim: int, op: str) -> int:
    """A dimension number counted from the front.  Raises ``IndexError`` as PyTorch does."""
    bound = max(ndim, 1)
    if not -bound <= dim < bound:
        raise IndexError(
            f"{op}: Dimension out of range (expected to be in range of [{-bound}, {bound - 1}], but got {dim})"
        )
    return dim % bound


def normalize_dims(dim: Any, ndim: int, op: str) -> tuple[int, ...] | None:
    """Dimension numbers counted from the front, sorted; None (all) for None and the empty tuple."""
    if dim is None:
        return None
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not dims:
        return None
    found = tuple(sorted(normalize_dim(d, ndim, op) for d in dims))
    if len(set(found)) != len(found):
        raise RuntimeError(f"{op}: dim {dims} appears multiple times in the list of dims")
    return found if ndim else None


def given(args: tuple[Any, ...], named: Any, op: str) -> tuple[Any, ...]:
    """Sizes or dimensions given one by one, as one sequence, or by name."""
    if named is not None:
        if args:
            raise TypeError(f"{op}(): got {args} by position and {named} by name; give one of them")
        args = (named,)
    return tuple(args[0]) if len(args) == 1 and not isinstance(args[0], (int, np.integer)) else args
