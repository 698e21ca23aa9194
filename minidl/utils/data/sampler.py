"""Samplers: in which order the samples of a dataset come, and how they are put into batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

from minidl import _random
from minidl._random import Generator
from minidl.ops.creation import from_numpy

T = TypeVar("T", covariant=True)


class Sampler(Generic[T]):
    """Base of all samplers: ``__iter__()`` gives indices, or lists of them, and perhaps ``__len__()`` how many.

    So that a ``DataLoader`` can go on in the middle of an epoch, a sampler whose order is drawn at random offers
    ``state_dict()``, which describes the latest iteration, ``load_state_dict(state)``, after which the next iteration
    gives the indices of that one once more from the first on, and ``reset()``, which forgets the latest iteration.
    """

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices in random order, those of PyTorch for the same seed.

    Without ``replacement`` a permutation of the dataset, and another one when ``num_samples`` are more.  Without a
    ``generator``, each iteration draws a seed from the default generator for one of its own.

    Raises ``TypeError`` and ``ValueError`` for a ``replacement`` and ``num_samples`` that make no sense.
    """

    DRAWN_AT_ONCE = 32  # with replacement

    def __init__(self, data_source: Sized, replacement: bool = False, num_samples: int | None = None,
                 generator: Generator | None = None) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        if not isinstance(self.num_samples, int) or self.num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={self.num_samples}")
        self._draws: list[np.ndarray] = []  # of the latest iteration
        self._drawing: Generator | None = None  # what it draws from
        self._resumed = False

    @property
    def num_samples(self) -> int:
        """How many indices an iteration gives."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        if not self._resumed:
            self._draws = []
            self._drawing = self.generator
            if self.generator is None:
                self._drawing = Generator().manual_seed(_random.draw_seed())
        self._resumed = False
        draws, generator = self._draws, self._drawing
        for draw in list(draws):
            yield from draw.tolist()
        n, wanted = len(self.data_source), self.num_samples
        each = self.DRAWN_AT_ONCE if self.replacement else n
        # One draw more than is full, as PyTorch does: its numbers are gone from the generator even if none is used.
        for number in range(len(draws), wanted // each + 1):
            count = min(each, wanted - number * each)
            if self.replacement:
                draw = _random.random_(np.empty(count, np.int64), 0, n, generator)
            else:
                draw = _random.randperm(n, generator)[:count]
            draws.append(draw)
            yield from draw.tolist()

    def __len__(self) -> int:
        return self.num_samples

    def reset(self) -> None:
        """Forget the latest iteration: what ``state_dict`` describes then is the moment before the next one."""
        self._draws, self._drawing, self._resumed = [], None, False

    def state_dict(self) -> dict[str, Any]:
        """The latest iteration: the indices drawn so far, how many in each draw, and the state of its generator."""
        drawing = self._drawing or self.generator
        return {
            "indices": from_numpy(np.concatenate([np.empty(0, np.int64), *self._draws])),
            "draws": [len(draw) for draw in self._draws],
            "generator": None if drawing is None else from_numpy(drawing.get_state()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next iteration give the indices of the one that ``state_dict`` described, and draw on from there.

        Raises ``ValueError`` for the state of a sampler over a larger dataset.
        """
        ends = np.cumsum(state_dict["draws"], dtype=np.int64)
        indices = np.array(state_dict["indices"], np.int64)
        if indices.max(initial=0) >= max(len(self.data_source), 1):
            raise ValueError(f"RandomSampler: the state is that of a larger dataset: it holds index {indices.max()}, "
                             f"but there are {len(self.data_source)} samples")
        self.reset()
        if state_dict["generator"] is not None:
            self._drawing = self.generator or Generator()
            self._drawing.set_state(np.asarray(state_dict["generator"]))
        if len(ends):
            self._draws = np.split(indices, ends[:-1])
            self._resumed = True


class SubsetRandomSampler(Sampler[int]):
    """The given indices in random order, those of PyTorch for the same seed."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in _random.randperm(len(self.indices), self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class BatchSampler(Sampler[list[int]]):
    """Lists of ``batch_size`` indices of another sampler; the last may be shorter, or is left out with ``drop_last``.

    Raises ``ValueError`` for a ``batch_size`` that is not a positive int.
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)
