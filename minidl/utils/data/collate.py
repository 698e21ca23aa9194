"""From a list of samples to a batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from minidl._ext.core import Tensor
from minidl._types import NAMES
from minidl.ops.creation import from_numpy, tensor
from minidl.ops.shape import stack


def default_collate(batch: Any) -> Any:
    """Stack the samples of ``batch``, a list, along a new first dimension.

    Tensors, NumPy arrays and numbers become a tensor (Python floats of float64, ints of int64), texts stay a list,
    tuples become a list, and dicts, lists and named tuples keep their kind, with a batch at each place.  A batch that
    can do it itself (``collated()``) is asked to.

    Raises ``TypeError`` for samples of another kind and ``RuntimeError`` for samples of different sizes.
    """
    collated = getattr(batch, "collated", None)
    if collated is not None:
        return collated()
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, np.ndarray):
        if first.dtype.kind not in "biuf":
            raise TypeError(_unknown(first.dtype))
        return from_numpy(np.stack(batch))
    if isinstance(first, (np.bool_, np.number)):
        return from_numpy(np.asarray(batch))
    if isinstance(first, float):
        return tensor(batch, dtype=NAMES["float64"])
    if isinstance(first, int):
        return tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return like_mapping(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return like_sequence(first, columns)
    raise TypeError(_unknown(type(first)))


def default_convert(data: Any) -> Any:
    """A sample as it comes, with its NumPy arrays turned into tensors: the collation of loaders without batches."""
    if isinstance(data, (np.ndarray, np.bool_, np.number)):
        array = np.asarray(data)
        return from_numpy(array) if array.dtype.kind in "biuf" else data
    if isinstance(data, Mapping):
        return like_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        converted = [default_convert(value) for value in data]
        return like_sequence(data, converted)
    return data


def like_mapping(kind: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    """``items`` as a mapping of the kind of another one, or as a dict where that cannot be made."""
    try:
        if isinstance(kind, MutableMapping):
            # A copy, because the mapping may have properties beyond its items.
            clone = copy.copy(kind)
            clone.update(items)
            return clone
        return type(kind)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def like_sequence(kind: Sequence[Any], items: list[Any]) -> Any:
    """``items`` as a sequence of the kind of another one; as a list for a tuple and where that cannot be made."""
    if isinstance(kind, tuple):
        return type(kind)(*items) if hasattr(kind, "_fields") else items
    try:
        if isinstance(kind, MutableSequence):
            clone = copy.copy(kind)
            clone[:] = items
            return clone
        return type(kind)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _unknown(kind: object) -> str:
    return f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {kind}"
