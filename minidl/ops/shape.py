"""Shapes: views that share storage as PyTorch's do, and rearrangements that copy."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from minidl._ext.core import Op, Tensor, alike, formulas, from_raw, register
from minidl._ext.views import whole_shape
from minidl._types import as_dtype
from minidl.ops.rules import given, normalize_dim, normalize_dims


def _inverse(order):
    inverse = [0] * len(order)
    for place, dim in enumerate(order):
        inverse[dim] = place
    return tuple(inverse)


def _cat_backward(F, node, grad):
    """Each part gets its own stretch of the gradient."""
    dim, start, parts = node.args[0], 0, [None]
    for i, shape in enumerate(node.args[1:], 1):
        stop = start + shape[dim]
        key = (slice(None),) * dim + (slice(start, stop),)
        parts.append(F.slice(grad, key) if node.needs(i) else None)
        start = stop
    return tuple(parts)


def _repeat_backward(F, node, grad):
    shape, repeats = node.args
    split: list[int] = []
    summed: list[int] = []
    padded = (1,) * (len(repeats) - len(shape)) + shape
    for times, size in zip(repeats, padded, strict=True):
        summed.append(len(split))
        split += [times, size]
    return F.reshape(F.sum(F.reshape(grad, tuple(split)), tuple(summed), False), shape)


def _roll_backward(F, node, grad):
    _, shifts, dims = node.args
    return F.roll(grad, tuple(-s for s in shifts), dims)


def _cast_backward(F, node, grad):
    return F.cast(grad, node.args[2])


def _copy_slices_backward(F, node, grad, *_):
    """An in-place op on a view of this tensor: the view's part of the gradient goes through that op's rule."""
    inner, steps = node.args
    grad_view = grad
    for name, args in steps:
        grad_view = getattr(F, name)(grad_view, *args)
    results = inner.op.backward(F, inner, grad_view, *inner.saved_values(F))
    results = results if isinstance(results, tuple) else (results,)
    filling = F.zeros_like(grad_view) if results[0] is None else results[0]
    return (F.view_scatter(grad, filling, steps) if node.needs(0) else None, *results[1:])


def _view_scatter_backward(F, node, grad):
    steps = node.args[2]
    part = grad
    for name, args in steps:
        part = getattr(F, name)(part, *args)
    return F.view_scatter(grad, F.zeros_like(part), steps) if node.needs(0) else None, part


def _slice_name(node):
    """PyTorch takes a key apart; its last part names the step."""
    parts = [part for part in node.args[1] if part is not Ellipsis and part != slice(None)]
    if not parts:
        return "AliasBackward0"
    return {int: "SelectBackward0", type(None): "UnsqueezeBackward0"}.get(type(parts[-1]), "SliceBackward0")


def _reshape_op(grad_name):
    return Op("reshape", grad_name, backward=formulas(lambda F, node, grad: F.reshape(grad, node.args[0])), view=True)


def _permute_op(grad_name):
    return Op("permute", grad_name, backward=lambda F, node, grad: F.permute(grad, _inverse(node.args[1])), view=True)


# One op under the names that PyTorch prints for it; the first is the one that is found by its name.
_reshape, _squeeze, _squeeze_dim, _unsqueeze = map(
    _reshape_op, ("ViewBackward0", "SqueezeBackward0", "SqueezeBackward1", "UnsqueezeBackward0"))
_permute, _t, _transpose = map(_permute_op, ("PermuteBackward0", "TBackward0", "TransposeBackward0"))
_expand = Op("expand", backward=lambda F, node, grad: grad if grad.shape == node.args[0] else F.sum_to(
    grad, node.args[0]), view=True)
_slice = Op("slice", _slice_name, view=True,
            backward=formulas(lambda F, node, grad: F.slice_backward(grad, node.args[0], node.args[1])))
_slice_backward = Op("slice_backward", backward=formulas(lambda F, node, grad: F.slice(grad, node.args[2])))
_copy = Op("copy", "CloneBackward0", backward=formulas(lambda F, node, grad: grad))
_cast = Op("cast", "ToCopyBackward0", backward=_cast_backward, forward=lambda F, x, dtype, _: F.cast(x, dtype))
_cat = Op("cat", backward=_cat_backward)
_stack = Op("cat", "StackBackward0", backward=_cat_backward)
_flip = Op("flip", backward=lambda F, node, grad: F.flip(grad, node.args[1]))
_roll = Op("roll", backward=_roll_backward)
_repeat = Op("repeat", backward=_repeat_backward)
_pad = Op("pad", backward=lambda F, node, grad: F.pad_backward(grad, node.args[0], node.args[1], node.args[2]))
_pad_backward = Op("pad_backward", backward=lambda F, node, grad: F.pad(grad, node.args[2], node.args[3], 0.0))
_tril = Op("tril", backward=lambda F, node, grad: F.tril(grad, node.args[1]))
_triu = Op("triu", backward=lambda F, node, grad: F.triu(grad, node.args[1]))
_view_scatter = Op("view_scatter", backward=_view_scatter_backward)
Op("copy_slices", "CopySlices", backward=_copy_slices_backward)
Op("zeros_like")
Op("ones_like")
Op("new_zeros")


def _complete(input: Tensor, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes with a -1 worked out."""
    total = input._raw.size
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        if sizes.count(-1) > 1:
            raise RuntimeError("only one dimension can be inferred")
        if known == 0 or total % known:
            raise RuntimeError(f"shape '{list(sizes)}' is invalid for input of size {total}")
        return tuple(total // known if size == -1 else size for size in sizes)
    if math.prod(sizes) != total or any(size < 0 for size in sizes):
        raise RuntimeError(f"shape '{list(sizes)}' is invalid for input of size {total}")
    return sizes


def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The same numbers in another shape (one size may be -1): a view where the strides allow, else a copy."""
    whole = whole_shape(sizes, input._raw.size) if shape is None else None
    return _reshape(input, _complete(input, given(sizes, shape, "reshape")) if whole is None else whole)


def view(input: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    """The same memory in another shape.  Raises ``RuntimeError`` where only a copy could have it."""
    whole = whole_shape(sizes, input._raw.size) if size is None else None
    result = _reshape(input, _complete(input, given(sizes, size, "view")) if whole is None else whole)
    if result._base is None and result._raw.size and not input._backend.same_memory(result._raw, input._raw):
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension "
                           "spans across two contiguous subspaces). Use .reshape(...) instead.")
    return result


def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """A view with the dimensions in the order ``dims``."""
    return _permute(input, _order(given(order, dims, "permute"), input.ndim))


@functools.lru_cache(maxsize=256)
def _order(wanted: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    order = tuple(normalize_dim(d, ndim, "permute") for d in wanted)
    if sorted(order) != list(range(ndim)):
        raise RuntimeError(f"permute: dims {wanted} must name each of the {ndim} dimensions once")
    return order


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions swapped."""
    return _transpose(input, _swapped(input.ndim, dim0, dim1))


@functools.lru_cache(maxsize=256)
def _swapped(ndim: int, dim0: int, dim1: int) -> tuple[int, ...]:
    order = list(range(max(ndim, 1)))
    a, b = normalize_dim(dim0, ndim, "transpose"), normalize_dim(dim1, ndim, "transpose")
    order[a], order[b] = order[b], order[a]
    return tuple(order[:ndim])


def t(input: Tensor) -> Tensor:
    """A view of a matrix with rows and columns swapped."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return _t(input, _REVERSED[input.ndim])


_REVERSED = ((), (0,), (1, 0))


def backwards(input: Tensor) -> Tensor:
    """A view with the dimensions in reverse order."""
    return _permute(input, tuple(range(input.ndim - 1, -1, -1)))


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """A view with the dimensions ``source`` moved to ``destination``."""
    sources, targets = normalize_each(source, input, "movedim"), normalize_each(destination, input, "movedim")
    order = [d for d in range(input.ndim) if d not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return _permute(input, tuple(order))


def normalize_each(dims: Any, input: Tensor, op: str) -> tuple[int, ...]:
    """Dimension numbers counted from the front, in the order given."""
    return tuple(normalize_dim(d, input.ndim, op) for d in ((dims,) if isinstance(dims, int) else dims))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from ``start_dim`` to ``end_dim`` as one."""
    shape = input._shape
    flat = _flat_shape(shape, start_dim, end_dim)
    return input if flat == shape else _reshape(input, flat)


@functools.lru_cache(maxsize=256)
def _flat_shape(shape: tuple[int, ...], start_dim: int, end_dim: int) -> tuple[int, ...]:
    start, end = normalize_dim(start_dim, len(shape), "flatten"), normalize_dim(end_dim, len(shape), "flatten")
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension ``dim`` split into ``sizes`` (one may be -1)."""
    at, shape = normalize_dim(dim, input.ndim, "unflatten"), tuple(input.shape)
    return reshape(input, (*shape[:at], *sizes, *shape[at + 1 :])) if -1 not in sizes else _reshape(
        input, (*shape[:at], *_complete(input, (*shape[:at], *sizes, *shape[at + 1 :]))[at : at + len(sizes)],
                *shape[at + 1 :]))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """A view without the dimensions of size one (all, or those in ``dim``)."""
    if dim is None:
        return _squeeze(input, _squeezed(input._raw.shape, None))
    return _squeeze_dim(input, _squeezed(input._raw.shape, dim if isinstance(dim, int) else tuple(dim)))


@functools.lru_cache(maxsize=256)
def _squeezed(shape: tuple[int, ...], dim: Any) -> tuple[int, ...]:
    dims = normalize_dims(dim, len(shape), "squeeze")
    return tuple(size for d, size in enumerate(shape) if size != 1 or (dims is not None and d not in dims))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A view with a dimension of size one put in at ``dim``."""
    shape = input._raw.shape
    at = normalize_dim(dim, len(shape) + 1, "unsqueeze")
    return _unsqueeze(input, (*shape[:at], 1, *shape[at:]))


def expand(input: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    """A view in which dimensions of size one are repeated without copying; -1 keeps a size."""
    return _expand(input, _expanded(input._raw.shape, given(sizes, size, "expand")))


@functools.lru_cache(maxsize=256)
def _expanded(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    extra = len(wanted) - len(shape)
    padded = (1,) * extra + shape
    if extra < 0 or any(
        own != want and not (want == -1 and d >= extra) and own != 1
        for d, (own, want) in enumerate(zip(padded, wanted, strict=False))
    ) or any(want == -1 for want in wanted[: max(extra, 0)]):
        raise RuntimeError(f"expand: a tensor of shape {list(shape)} does not fit the sizes {list(wanted)}: a size "
                           "must match, or be one in the tensor, or be asked for as -1")
    return tuple(own if want == -1 else want for own, want in zip(padded, wanted, strict=True))


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """``expand`` under NumPy's name."""
    return expand(input, tuple(size))


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A view of ``length`` entries along ``dim`` from ``start`` on."""
    at = normalize_dim(dim, input.ndim, "narrow")
    if start < 0:
        start += input.shape[at]
    if length < 0 or not 0 <= start <= input.shape[at] - length:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({input.shape[at]}).")
    return _slice(input, (slice(None),) * at + (slice(start, start + length),))


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of entry ``index`` along ``dim``, which disappears."""
    at = normalize_dim(dim, input.ndim, "select")
    if not -input.shape[at] <= index < input.shape[at]:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension "
                         f"{dim}")
    return _slice(input, (slice(None),) * at + (index,))


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of stretches of a given size (the last may be shorter) or of the given sizes along ``dim``."""
    at = normalize_dim(dim, tensor.ndim, "split")
    total = tensor.shape[at]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size <= 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        sections = [min(size, total - start) for start in range(0, max(total, 1), size)]
    else:
        sections = list(split_size_or_sections)
        if sum(sections) != total:
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {total} (input tensor's size "
                               f"at dimension {dim}), but got split_sizes={sections}")
    parts, start = [], 0
    for size in sections:
        parts.append(narrow(tensor, at, start, size))
        start += size
    return tuple(parts)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` views of equal stretches along ``dim``."""
    at = normalize_dim(dim, input.ndim, "chunk")
    return split(input, max(-(-input.shape[at] // chunks), 1), at)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of every entry along ``dim``."""
    at = normalize_dim(dim, input.ndim, "unbind")
    return tuple(select(input, at, i) for i in range(input.shape[at]))


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors put one after the other along ``dim``; the other sizes must agree."""
    if not len(tensors):
        raise RuntimeError("cat(): expected a non-empty list of Tensors")
    return _join(_cat, tensors, dim)


def _join(op: Op, tensors: Sequence[Tensor], dim: int) -> Tensor:
    from minidl.ops.promotion import promote

    parts = [x for x in promote(1, tuple(tensors)) if tuple(x.shape) != (0,)] or [tensors[0]]
    at = normalize_dim(dim, parts[0].ndim, "cat")
    for i, part in enumerate(parts):
        if part.ndim != parts[0].ndim or any(
            a != b for d, (a, b) in enumerate(zip(part.shape, parts[0].shape, strict=False)) if d != at
        ):
            raise RuntimeError(f"cat: sizes of tensors must match except in dimension {at}; tensor 0 has shape "
                               f"{tuple(parts[0].shape)}, tensor {i} has shape {tuple(part.shape)}")
    return op(at, *parts)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension ``dim``."""
    if not len(tensors):
        raise RuntimeError("stack expects a non-empty TensorList")
    plain = alike(tensors)
    if plain is not None:
        raws, backend = plain
        return from_raw(backend.stack(normalize_dim(dim, raws[0].ndim + 1, "stack"), *raws), backend)
    for i, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(tensors[0].shape)} at entry "
                               f"0 and {list(tensor.shape)} at entry {i}")
    at = normalize_dim(dim, tensors[0].ndim + 1, "stack")
    return _join(_stack, [unsqueeze(tensor, at) for tensor in tensors], at)


def flip(input: Tensor, *axes: Any, dims: Any = None) -> Tensor:
    """A copy with the order along ``dims`` reversed."""
    return _flip(input, normalize_each(given(axes, dims, "flip"), input, "flip"))


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """A copy in which entries move by ``shifts`` along ``dims`` and re-enter at the other end."""
    if dims is None:
        return roll(input.reshape(-1), shifts, 0).reshape(input.shape)
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    return _roll(input, shifts, normalize_each(dims, input, "roll"))


def repeat(input: Tensor, *times: Any, repeats: Any = None) -> Tensor:
    """A copy with the tensor laid out ``repeats`` times along each dimension."""
    times = given(times, repeats, "repeat")
    if len(times) < input.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    return _repeat(input, times)


def tile(input: Tensor, *times: Any, dims: Any = None) -> Tensor:
    """``repeat`` that takes fewer numbers than there are dimensions."""
    times = given(times, dims, "tile")
    return _repeat(input, (1,) * (input.ndim - len(times)) + times)


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle; zeros above ``diagonal``."""
    return _tril(input, diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle; zeros below ``diagonal``."""
    return _triu(input, diagonal)


def clone(input: Tensor) -> Tensor:
    """A copy with memory of its own, on the tape."""
    return _copy(input)


def contiguous(input: Tensor) -> Tensor:
    """The tensor itself if its numbers lie in row-major order, else a copy in which they do."""
    return input if input.is_contiguous() else _copy(input)


def cast(input: Tensor, dtype: Any) -> Tensor:
    """The tensor itself if it has ``dtype``, else a copy that has."""
    wanted = as_dtype(dtype).np
    return input if input._raw.dtype == wanted else _cast(input, wanted, input._raw.dtype)


register("cast", cast)


def pad_nd(input: Tensor, pad: tuple[int, ...], mode: str, value: float) -> Tensor:
    """The device's ``pad`` on the tape; ``nn.functional.pad`` checks the arguments."""
    return _pad(input, pad, mode, value)
