"""Indexing: basic keys make views, tensors of indices or of bools gather copies; both can be written through."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._ext.core import Op, Tensor, grad_enabled, inplace
from minidl._ext.views import plain_key
from minidl.ops.rules import normalize_dim
from minidl.ops.shape import _slice


def _index_put_backward(F, node, grad):
    _, indices, values_shape, accumulate = node.args
    grad_input = grad_values = None
    if node.needs(0):
        grad_input = grad if accumulate else F.index_put(grad, indices, 0.0, False)
    if node.needs(2):
        picked = F.index(grad, indices)
        grad_values = picked if picked.shape == values_shape else F.sum_to(picked, values_shape)
    return grad_input, None, grad_values


def _scatter_backward(F, node, grad, index):
    dim = node.args[1]
    return (
        F.scatter(grad, dim, index, F.zeros_like(F.gather(grad, dim, index))) if node.needs(0) else None,
        None,
        None,
        F.gather(grad, dim, index) if node.needs(3) else None,
    )


def _scatter_add_backward(F, node, grad, index):
    return grad, None, None, F.gather(grad, node.args[1], index) if node.needs(3) else None


_index = Op("index", backward=lambda F, node, grad: F.index_backward(grad, node.args[0], node.args[1]))
Op("index_backward", backward=lambda F, node, grad: F.index(grad, node.args[2]))
_index_put = Op("index_put", backward=_index_put_backward)
_gather = Op("gather", saves={2: (0,)}, backward=lambda F, node, grad, index: F.scatter_add(
    F.new_zeros(grad, node.args[0]), node.args[1], index, grad))
_scatter = Op("scatter", saves={2: (0, 3)}, backward=_scatter_backward)
_scatter_add = Op("scatter_add", saves={2: (3,)}, backward=_scatter_add_backward)
_nonzero = Op("nonzero")


def _raw_key(part: Any, input: Tensor) -> Any:
    """One part of a key as the device of ``input`` takes it: a CPU tensor can be a key anywhere."""
    if isinstance(part, Tensor):
        if part._backend is not input._backend and part.device.type != "cpu":
            raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor "
                               f"({input.device}), got one on {part.device}")
        if part.dtype.is_floating_point:
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        # A copy while recording: the rule reads the key again, and nobody guards it against a change until then.
        return part._backend.copy(part._raw) if grad_enabled() else part._raw
    if isinstance(part, np.ndarray):
        return part.copy() if grad_enabled() else part
    if isinstance(part, (list, range)):
        return np.asarray(part) if len(part) else np.zeros(0, np.int64)
    if isinstance(part, np.integer):
        return int(part)
    if part is None or part is Ellipsis or isinstance(part, (int, slice)):
        return part
    raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                     f"(got {type(part).__name__})")


def _parse(input: Tensor, key: Any) -> tuple[tuple[Any, ...], bool]:
    """The key as a tuple for the device, and whether it is basic: ints, slices, None and ``...`` only."""
    parts = plain_key(key, input._raw.shape)
    if parts is not None:
        return parts, True
    parts = tuple(_raw_key(part, input) for part in (key if isinstance(key, tuple) else (key,)))
    plain = not any(isinstance(part, (np.ndarray, bool)) or hasattr(part, "dtype") for part in parts)
    taken = 0
    for part in parts:
        if part is None or part is Ellipsis or isinstance(part, bool):
            continue
        if isinstance(part, slice):
            if part.step is not None and part.step <= 0:
                raise ValueError("step must be greater than zero; use .flip() to reverse a dimension")
            taken += 1
        elif isinstance(part, int):
            taken += 1
        else:
            taken += part.ndim if part.dtype == np.bool_ else 1
    if taken > input.ndim:
        if not input.ndim:
            raise IndexError(
                "invalid index of a 0-dim tensor. Use `tensor.item()` to convert a 0-dim tensor to a number")
        raise IndexError(f"too many indices for tensor of dimension {input.ndim}")
    if plain:
        _check_bounds(input, parts)
    return parts, plain


def _check_bounds(input: Tensor, parts: tuple[Any, ...]) -> None:
    """PyTorch's error for an integer that is out of range."""
    given = sum(1 for part in parts if part is not None and part is not Ellipsis)
    d = 0
    for part in parts:
        if part is Ellipsis:
            d += input.ndim - given
        elif isinstance(part, slice):
            d += 1
        elif part is not None:
            size = input._raw.shape[d]
            if not -size <= part < size:
                raise IndexError(f"index {part} is out of bounds for dimension {d} with size {size}")
            d += 1


def getitem(input: Tensor, key: Any) -> Tensor:
    """``input[key]``: a view for ints, slices, None and ``...``; a copy for tensors or lists of indices or bools."""
    parts, plain = _parse(input, key)
    return _slice(input, parts) if plain else _index(input, parts)


def setitem(input: Tensor, key: Any, value: Any) -> None:
    """``input[key] = value``, in place, with gradients to both."""
    parts, plain = _parse(input, key)
    if not isinstance(value, (Tensor, bool, int, float)):
        from minidl.ops.creation import tensor

        value = tensor(value, dtype=input.dtype, device=input.device)
    if plain:
        target = _slice(input, parts)
        if not isinstance(value, Tensor):
            target.fill_(value)
            return
        # PyTorch lets leading ones of the value fall away
        while value.ndim > target.ndim and value.shape[0] == 1:
            value = value.reshape(value.shape[1:])
        target.copy_(value)
        return
    inplace(_index_put, input, parts, value.to(input.dtype) if isinstance(value, Tensor) else value, False)


def index_put(input: Tensor, indices: tuple[Tensor, ...], values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of ``input`` with ``values`` put (or added) at ``indices``."""
    return _index_put(input, tuple(_raw_key(i, input) for i in indices), values, accumulate)


def index_put_(input: Tensor, indices: tuple[Tensor, ...], values: Tensor, accumulate: bool = False) -> Tensor:
    """``index_put`` in place."""
    return inplace(_index_put, input, tuple(_raw_key(i, input) for i in indices), values, accumulate)


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim=0``, and so on; out has the shape of ``index`` (int64)."""
    return _gather(input, normalize_dim(dim, input.ndim, "gather"), _long(index, "gather"))


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None) -> Tensor:
    """A copy of ``input`` with ``out[index[i][j]][j] = src[i][j]`` for ``dim=0``, and so on."""
    along = normalize_dim(dim, input.ndim, "scatter")
    return _scatter(input, along, _long(index, "scatter"), _source(src, value, index, input))


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of ``input`` with ``out[index[i][j]][j] += src[i][j]`` for ``dim=0``, and so on."""
    return _scatter_add(input, normalize_dim(dim, input.ndim, "scatter_add"), _long(index, "scatter_add"), src)


def scatter_(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None) -> Tensor:
    """``scatter`` in place."""
    along = normalize_dim(dim, input.ndim, "scatter_")
    return inplace(_scatter, input, along, _long(index, "scatter_"), _source(src, value, index, input))


def scatter_add_(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``scatter_add`` in place."""
    along = normalize_dim(dim, input.ndim, "scatter_add_")
    return inplace(_scatter_add, input, along, _long(index, "scatter_add_"), src)


def _source(src: Any, value: Any, index: Tensor, input: Tensor) -> Tensor:
    from minidl.ops.creation import full

    if (src is None) == (value is None):
        raise TypeError("scatter() takes a tensor src or a number value, one of them")
    src = value if src is None else src
    return src if isinstance(src, Tensor) else full(index.shape, src, dtype=input.dtype, device=input.device)


def _long(index: Tensor, op: str) -> Tensor:
    if index.dtype.np != np.int64:
        raise RuntimeError(f"{op}(): Expected dtype int64 for index, got {index.dtype}")
    return index


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The entries ``index`` (int64 or int32, 1-D) along ``dim``, copied."""
    at = normalize_dim(dim, input.ndim, "index_select")
    if index.ndim > 1:
        raise IndexError(f"index_select(): Index is supposed to be a vector, but it has shape {tuple(index.shape)}")
    return getitem(input, (slice(None),) * at + (index,))


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The values where ``mask`` (bool, broadcast) holds, 1-D."""
    from minidl.ops.shape import broadcast_to

    if mask.dtype.category != 0:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = np.broadcast_shapes(input.shape, mask.shape)
    return getitem(broadcast_to(input, shape), broadcast_to(mask, shape))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of everything that is not zero, one row each: (count, ndim) int64; ``as_tuple``: its columns.

    As a tuple they can serve as a key; a 0-d tensor counts as one of shape (1,) then.
    """
    return _nonzero(input.reshape(1) if not input.ndim else input).unbind(1) if as_tuple else _nonzero(input)
