"""A batch in pinned memory, from which a GPU copies while Python goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minidl.utils.data.collate import like_mapping, like_sequence


def pin(data: Any) -> Any:
    """``data`` with all its tensors in pinned memory: those in dicts, lists, tuples and named tuples, which keep their
    kind.

    What has a method ``pin_memory``, as tensors have and a batch of one's own may have, is asked for it; everything
    else stays as it is.  Raises ``RuntimeError`` for a tensor on a GPU.
    """
    if hasattr(data, "pin_memory"):
        return data.pin_memory()
    if isinstance(data, (str, bytes)):
        return data
    if isinstance(data, Mapping):
        return like_mapping(data, {key: pin(value) for key, value in data.items()})
    if isinstance(data, tuple):
        pinned = [pin(value) for value in data]
        return type(data)(*pinned) if hasattr(data, "_fields") else type(data)(pinned)
    if isinstance(data, Sequence):
        return like_sequence(data, [pin(value) for value in data])
    return data
