"""Reductions, cumulative sums and sorting: derivative rules, then the public functions.

``dim`` is an int, a tuple of ints or None (all dimensions); negative numbers count from the back.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from minidl._ext.core import Op, Tensor
from minidl._types import dtype as _dtype
from minidl._types import get_default_dtype
from minidl.ops.rules import count, normalize_dim, normalize_dims, with_dims


def _sum_backward(F, node, grad):
    shape, dims, keepdim = node.args
    return F.expand(with_dims(F, grad, shape, dims, keepdim), shape)


def _mean_backward(F, node, grad):
    shape, dims, keepdim = node.args
    share = F.div(grad, float(count(shape, dims) or 1))
    return F.expand(with_dims(F, share, shape, dims, keepdim), shape)


def _extreme_backward(F, node, grad, input, output):
    """amax and amin: equal winners share the gradient."""
    shape, dims, keepdim = node.args
    winners = F.eq(input, with_dims(F, output, shape, dims, keepdim))
    count_of_winners = F.sum(F.where(winners, F.ones_like(input), 0.0), dims, True)
    share = F.div(with_dims(F, grad, shape, dims, keepdim), count_of_winners)
    return F.where(winners, share, 0.0)


def _picked_backward(F, node, grad, index):
    """max and min along a dimension, sort: the gradient returns to where the value came from."""
    shape, dim = node.args[0], node.args[1]
    if grad.ndim < len(shape):
        kept = shape[:dim] + (1,) + shape[dim + 1 :]
        grad, index = F.reshape(grad, kept), F.reshape(index, kept)
    return F.scatter_add(F.new_zeros(grad, shape), dim, index, grad)


def _var_backward(F, node, grad, input):
    shape, dims, correction, keepdim = node.args
    scale = 2.0 / (count(shape, dims) - correction) if count(shape, dims) > correction else math.nan
    centred = F.sub(input, F.mean(input, dims, True))
    return F.mul(F.mul(with_dims(F, grad, shape, dims, keepdim), scale), centred)


def _logsumexp_backward(F, node, grad, input, output):
    shape, dims, keepdim = node.args
    weights = F.exp(F.sub(input, with_dims(F, output, shape, dims, keepdim)))
    return F.mul(with_dims(F, grad, shape, dims, keepdim), weights)


def _cumsum_backward(F, node, grad):
    dim = node.args[1]
    return F.flip(F.cumsum(F.flip(grad, (dim,)), dim), (dim,))


def _with_index_kept(name):
    """The device function's values and indices, and the indices once more to keep for the rule."""

    def forward(F, *args):
        values, index = getattr(F, name)(*args)
        return values, index, index

    return forward


def _by_dims(name):
    """PyTorch's names: 0 for the reduction of everything, 1 along dimensions."""
    return lambda node: f"{name}Backward{0 if node.args[1] is None else 1}"


_sum = Op("sum", _by_dims("Sum"), backward=_sum_backward)
_mean = Op("mean", _by_dims("Mean"), backward=_mean_backward)
_amax = Op("amax", backward=_extreme_backward, saves={0: (0,)}, saves_output=True)
_amin = Op("amin", backward=_extreme_backward, saves={0: (0,)}, saves_output=True)
_max_of_all = Op("amax", "MaxBackward1", backward=_extreme_backward, saves={0: (0,)}, saves_output=True)
_min_of_all = Op("amin", "MinBackward1", backward=_extreme_backward, saves={0: (0,)}, saves_output=True)
_max = Op("max_with_indices", "MaxBackward0", backward=lambda F, node, grad, _, index: _picked_backward(
    F, node, grad, index), outputs=2, forward=_with_index_kept("max_with_indices"))
_min = Op("min_with_indices", "MinBackward0", backward=lambda F, node, grad, _, index: _picked_backward(
    F, node, grad, index), outputs=2, forward=_with_index_kept("min_with_indices"))
_sort = Op("sort", backward=lambda F, node, grad, _, index: _picked_backward(F, node, grad, index), outputs=2,
           forward=_with_index_kept("sort"))
_var = Op("var", backward=_var_backward, saves={0: (0,)})
_logsumexp = Op("logsumexp", backward=_logsumexp_backward, saves={0: (0,)}, saves_output=True)
_cumsum = Op("cumsum", backward=_cumsum_backward)
_sum_to = Op("sum_to", "SumBackward0", backward=lambda F, node, grad: F.expand(grad, node.args[0]))
_prod = Op("prod")
_any, _all, _argmax, _argmin = Op("any"), Op("all"), Op("argmax"), Op("argmin")


def sum_to(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``input`` summed over the dimensions along which ``shape`` would be broadcast to it."""
    return input if tuple(input.shape) == tuple(shape) else _sum_to(input, tuple(shape))


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: _dtype | None = None) -> Tensor:
    """Sum over ``dim``; integers and bool are summed in int64."""
    if dtype is not None:
        input = input.to(dtype)
    return _sum(input, normalize_dims(dim, input.ndim, "sum"), keepdim)


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: _dtype | None = None) -> Tensor:
    """Average over ``dim``.  Raises ``RuntimeError`` for integer tensors."""
    if dtype is not None:
        input = input.to(dtype)
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"mean(): could not infer output dtype. Input dtype must be either a floating point or "
                           f"complex dtype. Got: {input.dtype}; convert it first with .float()")
    return _mean(input, normalize_dims(dim, input.ndim, "mean"), keepdim)


def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: _dtype | None = None) -> Tensor:
    """Product over ``dim`` (one dimension or all).  The gradient is exact where factors are zero."""
    if dtype is not None:
        input = input.to(dtype)
    dims = normalize_dims(dim, input.ndim, "prod")
    if not input.requires_grad:
        return _prod(input, dims, keepdim)
    # A tree of plain products: differentiable to any order, also through zeros, without dividing.
    if dims is None:
        factors, along, shape = input.reshape(-1), 0, (1,) * input.ndim if keepdim else ()
    else:
        factors, along = input, dims[0]
        shape = tuple(1 if d == along else n for d, n in enumerate(input.shape) if keepdim or d != along)
    if factors.shape[along] == 0:
        return _prod(input.detach(), dims, keepdim)
    while factors.shape[along] > 1:
        half, odd = divmod(factors.shape[along], 2)
        product = factors.narrow(along, 0, half) * factors.narrow(along, half, half)
        if odd:
            from minidl.ops.shape import cat

            product = cat([product, factors.narrow(along, 2 * half, 1)], along)
        factors = product
    return factors.reshape(shape)


def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Largest value over ``dim``; equal winners share the gradient."""
    return _amax(input, normalize_dims(dim, input.ndim, "amax"), keepdim)


def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Smallest value over ``dim``; equal winners share the gradient."""
    return _amin(input, normalize_dims(dim, input.ndim, "amin"), keepdim)


class max_result(NamedTuple):
    """What ``max`` along a dimension returns."""

    values: Tensor
    indices: Tensor


class min_result(NamedTuple):
    """What ``min`` along a dimension returns."""

    values: Tensor
    indices: Tensor


class sort_result(NamedTuple):
    """What ``sort`` and ``topk`` return."""

    values: Tensor
    indices: Tensor


def _second_tensor(op: str, dim: Any, other: Tensor | None) -> Tensor | None:
    """What ``input`` is compared with: the second argument may be a dimension or a tensor."""
    if other is not None and dim is not None:
        raise TypeError(f"{op}() takes a dimension or another tensor, not both")
    return dim if isinstance(dim, Tensor) else other


def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """Largest value of all, ``(values, indices)`` along ``dim``, or elementwise against a second tensor."""
    second = _second_tensor("max", dim, other)
    if second is not None:
        from minidl.ops.pointwise import maximum

        return maximum(input, second)
    if dim is None:
        return _max_of_all(input, None, False)
    return max_result(*_max(input, normalize_dim(dim, input.ndim, "max"), keepdim))


def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """Smallest value of all, ``(values, indices)`` along ``dim``, or elementwise against a second tensor."""
    second = _second_tensor("min", dim, other)
    if second is not None:
        from minidl.ops.pointwise import minimum

        return minimum(input, second)
    if dim is None:
        return _min_of_all(input, None, False)
    return min_result(*_min(input, normalize_dim(dim, input.ndim, "min"), keepdim))


def _no_bool(input: Tensor, op: str) -> None:
    if input.dtype.category == 0:
        raise RuntimeError(f"{op}(): does not support bool input")


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index (int64) of the largest value along ``dim``, or in the flattened tensor."""
    _no_bool(input, "argmax")
    return _argmax(input, None if dim is None else normalize_dim(dim, input.ndim, "argmax"), keepdim)


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index (int64) of the smallest value along ``dim``, or in the flattened tensor."""
    _no_bool(input, "argmin")
    return _argmin(input, None if dim is None else normalize_dim(dim, input.ndim, "argmin"), keepdim)


def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether anything along ``dim`` is not zero."""
    return _any(input, normalize_dims(dim, input.ndim, "any"), keepdim)


def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether nothing along ``dim`` is zero."""
    return _all(input, normalize_dims(dim, input.ndim, "all"), keepdim)


def var(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float = 1) -> Tensor:
    """Variance over ``dim``: squared deviations summed and divided by ``count - correction``."""
    if not input.dtype.is_floating_point:
        raise RuntimeError("std and var only support floating point and complex dtypes")
    if unbiased is not None:
        correction = 1 if unbiased else 0
    return _var(input, normalize_dims(dim, input.ndim, "var"), correction, keepdim)


def std(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float = 1) -> Tensor:
    """Standard deviation over ``dim``: the square root of ``var``."""
    return var(input, dim, unbiased, keepdim, correction=correction).sqrt()


def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(input)))`` over ``dim``, without overflow."""
    if not input.dtype.is_floating_point:
        input = input.to(get_default_dtype())
    return _logsumexp(input, normalize_dims(dim, input.ndim, "logsumexp"), keepdim)


def norm(input: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: _dtype | None = None) -> Tensor:
    """The ``p``-norm over ``dim``: ``sum(|x|**p) ** (1/p)``; its gradient at 0 is 0."""
    from minidl.ops import pointwise

    if dtype is not None:
        input = input.to(dtype)
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"norm: expected a floating point tensor as input, got {input.dtype}; convert it with "
                           ".float()")
    if p in (math.inf, "inf"):
        return amax(input.abs(), dim, keepdim)
    if p == 1:
        return sum(input.abs(), dim, keepdim)
    p = 2 if p == "fro" else p
    total = sum(input * input if p == 2 else input.abs() ** p, dim, keepdim)
    # The root has an infinite slope at 0; what lies under it is held constant there.
    safe = pointwise.where(total == 0, total.detach() + 1.0, total)
    return pointwise.where(total == 0, 0.0, safe.sqrt() if p == 2 else safe ** (1.0 / p))


def cumsum(input: Tensor, dim: int, *, dtype: _dtype | None = None) -> Tensor:
    """Running sum along ``dim``."""
    if dtype is not None:
        input = input.to(dtype)
    return _cumsum(input, normalize_dim(dim, input.ndim, "cumsum"))


def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> sort_result:
    """``(values, indices)`` in order along ``dim``; equal values keep their order, whatever ``stable`` says."""
    return sort_result(*_sort(input, normalize_dim(dim, input.ndim, "sort"), descending))


def argsort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Tensor:
    """The indices that put ``input`` in order along ``dim``."""
    return sort(input, dim, descending, stable=stable).indices


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> sort_result:
    """The ``k`` largest (or smallest) values along ``dim`` with their indices, in order."""
    along = normalize_dim(dim, input.ndim, "topk")
    if not 0 <= k <= input.shape[along]:
        raise RuntimeError(f"topk: selected index k={k} out of range for dimension {dim} of size {input.shape[along]}")
    values, indices = sort(input, along, largest)
    return sort_result(values.narrow(along, 0, k), indices.narrow(along, 0, k))
