"""Shapes and layouts: views that share the memory of their argument, and copies that rearrange it.

``reshape``, ``permute``, ``expand``, ``slice`` and ``as_strided`` return views (``reshape`` where the strides
allow it); everything else returns a fresh C-contiguous array.
"""

import math

import numpy as np

_PAD_MODES = ("constant", "reflect", "replicate", "circular")


class ShapeReference:
    """Views, concatenation, repetition and padding."""

    def reshape(self, x, shape):
        """A view where the strides allow it, otherwise a copy.  ``shape`` holds no -1."""
        if math.prod(shape) != x.size:
            raise RuntimeError(f"reshape: shape {tuple(shape)} needs {math.prod(shape)} numbers, input of shape "
                               f"{x.shape} has {x.size}")
        return x.reshape(shape)

    def permute(self, x, dims):
        return x.transpose(dims)

    def expand(self, x, shape):
        """A view in which dimensions of size 1 repeat with stride 0, and new ones stand in front."""
        expand_strides(x, shape)
        # not as_strided: a view must name x as its base, or the tape takes it for a copy
        view = np.broadcast_to(x, shape)
        view.flags.writeable = x.flags.writeable
        return view

    def slice(self, x, key):
        """The view ``x[key]`` for a tuple of ints, slices, ``None`` and ``Ellipsis``; 0-d when nothing is left."""
        for entry in key:
            if isinstance(entry, slice) and entry.step is not None and entry.step <= 0:
                raise ValueError(f"slice: step must be greater than zero, got {entry.step}; use flip to reverse")
        return x[key if Ellipsis in key else (*key, Ellipsis)]

    def as_strided(self, x, shape, strides_in_elements, offset):
        """A view that starts ``offset`` numbers after the first one of x.  The caller keeps it inside the storage."""
        strides = tuple(stride * x.itemsize for stride in strides_in_elements)
        as_strided = np.lib.stride_tricks.as_strided
        return as_strided(as_strided(x, (offset + 1,), (x.itemsize,))[offset:], shape, strides)

    def stack(self, dim, *arrays):
        """Arrays of one shape and dtype along a new dimension."""
        return np.stack(arrays, dim)

    def cat(self, dim, *arrays):
        """Join along ``dim``; arrays of shape (0,) are skipped, as PyTorch does."""
        kept, _ = cat_shape(dim, arrays)
        return np.asarray(np.concatenate(kept, dim), order="C")

    def flip(self, x, dims):
        return np.array(np.flip(x, dims), order="C")

    def roll(self, x, shifts, dims):
        """Shift around the ends; ``dims=()`` rolls the flattened array by ``shifts[0]``."""
        return np.asarray(np.roll(x, shifts, dims) if dims else np.roll(x, shifts[0]), order="C")

    def repeat(self, x, repeats):
        if len(repeats) < x.ndim:
            raise RuntimeError(f"repeat: {len(repeats)} repeats {tuple(repeats)} for an input of {x.ndim} dimensions "
                               f"{x.shape}; at least as many are needed")
        return np.asarray(np.tile(x, repeats), order="C")

    def pad(self, x, pad, mode, value):
        """Pad with ``(before, after)`` pairs, the last dimension first; negative amounts crop (mode constant).

        Modes: ``constant`` (``value``), ``reflect`` (without the edge), ``replicate`` (the edge), ``circular``.
        """
        widths = pad_widths(x.shape, pad, mode)
        if mode == "constant":
            shape = tuple(size + before + after for size, (before, after) in zip(x.shape, widths, strict=True))
            result = np.full(shape, np.asarray(value).astype(x.dtype), x.dtype)
            result[_inner(widths)] = x[_inner([(-before, -after) for before, after in widths])]
            return result
        for dim, (before, after) in enumerate(widths):
            if before or after:
                x = np.take(x, _sources(x.shape[dim], before, after, mode), dim)
        return np.array(x, order="C")

    def pad_backward(self, grad_output, input_shape, pad, mode):
        """Every number of grad_output goes back to the one that it was copied from, to ``input_shape``."""
        widths = pad_widths(input_shape, pad, mode)
        if mode == "constant":
            return self.pad(grad_output, tuple(-amount for amount in pad), mode, 0)
        grad = grad_output
        for dim in range(len(input_shape)):
            before, after = widths[dim]
            if before or after:
                lead = (slice(None),) * dim
                size = input_shape[dim]
                grad_input = grad[(*lead, slice(before, before + size))].copy()
                for place, source in enumerate(_sources(size, before, after, mode)):
                    if not before <= place < before + size:
                        grad_input[(*lead, source)] += grad[(*lead, place)]
                grad = grad_input
        return np.array(grad, order="C")


def expand_strides(x, shape):
    """The strides, in bytes, with which x shows itself in ``shape``."""
    lead = len(shape) - x.ndim
    if lead < 0:
        raise RuntimeError(f"expand: {len(shape)} sizes {tuple(shape)} for an input of {x.ndim} dimensions "
                           f"{x.shape}; at least as many are needed")
    for dim, size in enumerate(x.shape):
        if size not in (1, shape[lead + dim]):
            raise RuntimeError(f"expand: size {shape[lead + dim]} at dimension {lead + dim} must match the "
                               f"existing size {size}: only dimensions of size 1 expand; target {tuple(shape)}, "
                               f"input {x.shape}")
    return (0,) * lead + tuple(0 if x.shape[i] != shape[lead + i] else x.strides[i] for i in range(x.ndim))


def cat_shape(dim, arrays):
    """The arrays that ``cat`` joins, and the shape of the result."""
    kept = [array for array in arrays if array.shape != (0,)] or arrays[:1]
    first = kept[0]
    if first.ndim == 0:
        raise RuntimeError("cat: zero-dimensional tensors cannot be concatenated; use stack")
    for number, array in enumerate(kept):
        if array.ndim != first.ndim:
            raise RuntimeError(f"cat: tensors must have the same number of dimensions, got {first.ndim} and "
                               f"{array.ndim}")
        for i in range(first.ndim):
            if i != dim and array.shape[i] != first.shape[i]:
                raise RuntimeError(f"cat: sizes must match except in dimension {dim}: expected size "
                                   f"{first.shape[i]} but got {array.shape[i]} at dimension {i} of tensor {number} "
                                   f"(shapes {first.shape} and {array.shape})")
    shape = list(first.shape)
    shape[dim] = sum(array.shape[dim] for array in kept)
    return kept, tuple(shape)


def pad_widths(shape, pad, mode):
    """``(before, after)`` per dimension of ``shape`` from F.pad's flat list, checked for ``mode``."""
    if mode not in _PAD_MODES:
        raise NotImplementedError(f"pad: unrecognised mode {mode!r}; known are {', '.join(_PAD_MODES)}")
    if len(pad) % 2 or len(pad) > 2 * len(shape):
        raise RuntimeError(f"pad: {tuple(pad)} must hold a (before, after) pair for at most each of the {len(shape)} "
                           f"dimensions of input {tuple(shape)}")
    widths = [(0, 0)] * len(shape)
    for i in range(len(pad) // 2):
        widths[len(shape) - 1 - i] = (pad[2 * i], pad[2 * i + 1])
    for dim, (before, after) in enumerate(widths):
        size, most = shape[dim], max(before, after)
        where = f"(before, after) = ({before}, {after}) at dimension {dim} of input {tuple(shape)}"
        if mode == "constant":
            if size + before + after < 0:
                raise RuntimeError(f"pad: {where} crops more than is there")
        elif min(before, after) < 0:
            raise RuntimeError(f"pad: mode {mode!r} cannot crop: {where}; use mode 'constant' or a slice")
        elif most and size == 0:
            raise RuntimeError(f"pad: mode {mode!r} has nothing to copy: {where}")
        elif mode == "reflect" and most and most >= size:
            raise RuntimeError(f"pad: mode 'reflect' needs padding less than the size of the dimension: {where}")
        elif mode == "circular" and most > size:
            raise RuntimeError(f"pad: mode 'circular' would wrap around more than once: {where}")
    return widths


def _inner(widths):
    """The slices of a padded array that the input fills; a negative width crops nothing here."""
    return tuple(slice(max(before, 0), -after if after > 0 else None) for before, after in widths)


def _sources(size, before, after, mode):
    """For each place of a padded dimension, the place of the input whose number it shows."""
    place = np.arange(-before, size + after)
    if mode == "reflect":
        return size - 1 - np.abs(size - 1 - np.abs(place))
    if mode == "replicate":
        return np.clip(place, 0, size - 1)
    return place % size
