"""Datasets: things with samples that can be asked for by number, or iterated over."""

from __future__ import annotations

import itertools
import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from minidl import _random
from minidl._ext.core import Tensor

T = TypeVar("T", covariant=True)


class Dataset(Generic[T]):
    """A dataset with ``__getitem__(index)`` and, for most samplers, ``__len__()``.

    It may also offer ``__getitems__(indices)``, a list of the samples of a whole batch; what that returns may have a
    method ``collated()``, which the default collation then calls instead of stacking sample by sample.
    """

    def __getitem__(self, index: Any) -> T:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T]):
    """A stream of samples: ``__iter__()`` instead of numbers.

    Each worker of a ``DataLoader`` iterates over a copy of its own; ``get_worker_info()`` says which part to give.
    """

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")


class Rows(Sequence[Any]):
    """A batch gathered from tensors in one call, which still looks like the list of its samples."""

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self.tensors = tensors

    def collated(self) -> list[Tensor]:
        """What stacking the samples one by one would give."""
        return list(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return tuple(tensor[index] for tensor in self.tensors)


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample i is ``(tensors[0][i], tensors[1][i], ...)``.

    Raises ``ValueError`` when the tensors are not equally many rows.
    """

    def __init__(self, *tensors: Tensor) -> None:
        if len({len(tensor) for tensor in tensors}) > 1:
            raise ValueError("Size mismatch between tensors: their first dimensions are "
                             f"{', '.join(str(len(tensor)) for tensor in tensors)}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> Rows:
        rows = np.asarray(indices, np.int64)
        return Rows(tuple(tensor[rows] for tensor in self.tensors))

    def __len__(self) -> int:
        return len(self.tensors[0])


class ConcatDataset(Dataset[T]):
    """Several datasets as one, in this order.

    Raises ``ValueError`` for no dataset at all and for an index out of range, ``TypeError`` for a stream.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("datasets should not be an empty iterable")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T:
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        number = bisect_right(self.cumulative_sizes, index)
        return self.datasets[number][index - (self.cumulative_sizes[number - 1] if number else 0)]


class Subset(Dataset[T]):
    """The samples ``indices`` of a dataset."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[T]:
        return samples(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def samples(dataset: Any, indices: Sequence[int]) -> Sequence[Any]:
    """The samples of a batch, in one call where the dataset has one for that."""
    gather = getattr(dataset, "__getitems__", None)
    return gather(indices) if gather is not None else [dataset[i] for i in indices]


def random_split(dataset: Any, lengths: Sequence[float], generator: _random.Generator | None = None) -> list[Subset]:
    """Split a dataset at random into subsets of ``lengths``, which may also be fractions that sum up to 1.

    Fractions are rounded down, and what is left goes to the first subsets, one sample each.  The same seed gives
    PyTorch's split.  Raises ``ValueError`` when the lengths do not sum up to that of the dataset.
    """
    total = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for i, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ValueError(f"Fraction at index {i} is not between 0 and 1")
        counts = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
        for i, count in enumerate(counts):
            if count == 0:
                warnings.warn(f"Length of split at index {i} is 0: an empty dataset.", stacklevel=2)
    else:
        counts = [int(length) for length in lengths]
    if sum(counts) != total:
        raise ValueError("Sum of input lengths does not equal the length of the input dataset: "
                         f"{sum(counts)} and {total}")
    indices = _random.randperm(total, generator).tolist()
    ends = itertools.accumulate(counts)
    return [Subset(dataset, indices[end - count : end]) for end, count in zip(ends, counts, strict=True)]
