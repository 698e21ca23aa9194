"""From the indices of a batch to the batch, in the process that computes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from minidl.utils.data.dataset import IterableDataset, samples


def make_fetch(dataset: Any, batched: bool, collate_fn: Callable[[Any], Any], drop_last: bool) -> Callable[[Any], Any]:
    """A function that makes a batch from a list of indices, or a sample from one index if not ``batched``.

    For a stream only the number of indices counts, and the function raises ``StopIteration`` at its end.
    """
    if not isinstance(dataset, IterableDataset):
        return lambda indices: collate_fn(samples(dataset, indices) if batched else dataset[indices])
    stream = iter(dataset)

    def fetch(indices: Any) -> Any:
        if not batched:
            return collate_fn(next(stream))
        batch = list(itertools.islice(stream, len(indices)))
        if not batch or (drop_last and len(batch) < len(indices)):
            raise StopIteration
        return collate_fn(batch)

    return fetch
