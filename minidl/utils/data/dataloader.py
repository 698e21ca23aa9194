"""``DataLoader``: batches of a dataset, in this process or from worker processes, from any point of an epoch on."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from minidl import _random
from minidl._random import Generator
from minidl.ops.creation import from_numpy
from minidl.utils.data.collate import default_collate, default_convert
from minidl.utils.data.dataset import IterableDataset
from minidl.utils.data.fetch import make_fetch
from minidl.utils.data.pinning import pin
from minidl.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

T = TypeVar("T", covariant=True)


class DataLoader(Generic[T]):
    """Iterates over a dataset in batches, each epoch by a new ``iter()``; arguments and defaults are PyTorch's.

    ``shuffle`` draws what PyTorch draws: the same seed gives the same batches, epoch after epoch.  Where the dataset
    has ``__getitems__`` (as ``TensorDataset`` and those of ``minidl.datasets`` do) a batch is gathered in one call.

    With ``num_workers`` each batch is made in one of so many processes, ``prefetch_factor`` batches per worker ahead,
    and comes in the same order.  They are forked on Linux and otherwise started as ``multiprocessing`` does by default
    (or as ``multiprocessing_context`` says, a name or a context); a forked one shares the dataset's memory and computes
    with one thread.  An exception in a worker is raised here, with the worker's traceback in its text; a worker that
    dies is a ``RuntimeError``, and so is one that lets wait longer than ``timeout`` seconds (0: for ever).
    ``persistent_workers`` keeps them from one epoch to the next.  ``worker_init_fn(number)`` runs first in each.
    ``pin_memory`` puts the tensors of a batch, wherever in it they are, into memory that a GPU reads by itself (see
    ``pin``), for ``.to("cuda", non_blocking=True)``; where there is no GPU, a warning says that it does not.

    ``state_dict()`` and ``load_state_dict()`` let a run be continued at the exact batch; see there.

    Raises ``ValueError`` for arguments that contradict each other, as PyTorch does.
    """

    def __init__(self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None,
                 sampler: Iterable[Any] | None = None, batch_sampler: Iterable[Any] | None = None, num_workers: int = 0,
                 collate_fn: Callable[[Any], Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
                 timeout: float = 0, worker_init_fn: Callable[[int], Any] | None = None,
                 multiprocessing_context: Any = None, generator: Generator | None = None, *,
                 prefetch_factor: int | None = None, persistent_workers: bool = False) -> None:
        streams = isinstance(dataset, IterableDataset)
        _check(num_workers >= 0, "num_workers option should be non-negative; use num_workers=0 to disable "
                                 "multiprocessing.")
        _check(timeout >= 0, "timeout option should be non-negative")
        _check(num_workers > 0 or prefetch_factor is None,
               "prefetch_factor option could only be specified in multiprocessing: let num_workers > 0, or set "
               "prefetch_factor to None.")
        _check(prefetch_factor is None or prefetch_factor > 0,
               f"prefetch_factor option should be positive, but got {prefetch_factor}")
        _check(num_workers > 0 or not persistent_workers, "persistent_workers option needs num_workers > 0")
        _check(num_workers > 0 or multiprocessing_context is None,
               "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got "
               f"num_workers={num_workers}")
        for name, value in (("shuffle", shuffle), ("sampler", sampler), ("batch_sampler", batch_sampler)):
            _check(not streams or value in (None, False) or value is False,
                   f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}")
        _check(sampler is None or not shuffle, "sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            _check(batch_size == 1 and not shuffle and sampler is None and not drop_last,
                   "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
            batch_size = None
        else:
            _check(batch_size is not None or not drop_last, "batch_size=None option disables auto-batching and is "
                                                            "mutually exclusive with drop_last")
        if sampler is None:
            if streams:
                sampler = _Endless()
            else:
                sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.persistent_workers = persistent_workers
        self._streams = streams
        self._pool: Any = None  # of persistent workers
        self._base_seed: int | None = None
        self._under_way = False  # an epoch has begun and not ended
        self._handed_out = 0  # batches of it
        self._resumed = False

    @property
    def _indices(self) -> Iterable[Any]:
        """What gives the argument of each fetch: lists of indices, or indices if samples come one by one."""
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    @property
    def _random_order(self) -> Any:
        """The sampler that has drawn the order of the epoch and can give it again, or None."""
        for sampler in (self.batch_sampler, self.sampler):
            for one in (sampler, getattr(sampler, "sampler", None)):
                if hasattr(one, "load_state_dict"):
                    return one
        return None

    def __iter__(self) -> Iterator[T]:
        if self._resumed:
            self._resumed = False
        else:
            if self._random_order is not None:
                self._random_order.reset()
            # The seed of the workers; drawn without workers too, because PyTorch does.
            if self._base_seed is None or not self.persistent_workers:
                self._base_seed = _random.draw_seed(self.generator)
            self._handed_out = 0
        self._under_way = True
        return _Epoch(self, self._handed_out)

    def __len__(self) -> int:
        """Number of batches.  Raises ``TypeError`` for a stream or a sampler of unknown length."""
        if not self._streams:
            return len(self._indices)  # type: ignore[arg-type]
        count = len(self.dataset)
        if self.batch_size is None:
            return count
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Where the latest iteration stands, as nested dicts of numbers and tensors.

        It holds the number of batches handed out, the order drawn for the epoch and the states of the generators that
        were given.  A loader made with the same arguments that loads it gives, in its next iteration, the batches
        after the last one handed out (none, if that was the last of the epoch), and then epochs as this one would.  The
        state of the default generator is not part of it: save ``get_rng_state()`` beside it where no generator was
        given.

        A sampler of one's own takes part with the three methods that ``Sampler`` names; one without them must give the
        same order once more, of which the batches handed out are skipped.  A stream is read once more up to the same
        place.  Random numbers drawn inside worker processes begin anew.
        """
        order = self._random_order
        return {
            "under_way": self._under_way,
            "handed_out": self._handed_out,
            "base_seed": self._base_seed,
            "generator": None if self.generator is None else from_numpy(self.generator.get_state()),
            "sampler": None if order is None else order.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next ``iter()`` go on where ``state_dict()`` was called."""
        if self.generator is not None and state_dict["generator"] is not None:
            self.generator.set_state(np.asarray(state_dict["generator"]))
        if self._random_order is not None and state_dict["sampler"] is not None:
            self._random_order.load_state_dict(state_dict["sampler"])
        self._base_seed = state_dict["base_seed"]
        self._under_way = self._resumed = state_dict["under_way"]
        self._handed_out = state_dict["handed_out"]

    def _end(self) -> None:
        self._under_way = False
        self._handed_out = 0
        if self._random_order is not None:
            self._random_order.reset()


class _Epoch(Iterator[Any]):
    """The batches of one epoch, without the first ``skip``."""

    def __init__(self, loader: DataLoader[Any], skip: int) -> None:
        self._loader = loader
        self._pin = loader.pin_memory and _gpu_is_there()
        # Of a stream the samples themselves must be skipped, else it is enough to skip their indices.
        indices = iter(loader._indices) if loader._streams else itertools.islice(loader._indices, skip, None)
        self._batches: Iterator[Any] = self._from_workers(indices) if loader.num_workers else map(
            make_fetch(loader.dataset, loader.batch_sampler is not None, loader.collate_fn, loader.drop_last), indices)
        if loader._streams:
            next(itertools.islice(self._batches, skip, skip), None)

    def _from_workers(self, indices: Iterator[Any]) -> Iterator[Any]:
        from minidl.utils.data.worker_pool import WorkerPool

        loader = self._loader
        pool = loader._pool
        if pool is None or pool.closed:
            pool = WorkerPool(loader)
            if loader.persistent_workers:
                loader._pool = pool
        return pool.start(indices)

    def __next__(self) -> Any:
        loader = self._loader
        try:
            batch = next(self._batches)
        except StopIteration:
            loader._end()
            raise
        if self._pin:
            batch = pin(batch)
        loader._handed_out += 1
        return batch

    def __len__(self) -> int:
        return len(self._loader)


class _Endless(Sampler[int]):
    """Indices for a stream, which does not look at them."""

    def __iter__(self) -> Iterator[int]:
        return itertools.repeat(0)


def _gpu_is_there() -> bool:
    from minidl._devices.cuda.process import device_count

    if device_count():
        return True
    warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't "
                  "be used.", stacklevel=4)
    return False


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
