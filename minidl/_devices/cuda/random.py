"""Random numbers on the GPU: cuda/random.cu.  They differ from the CPU's for the same seed, and are drawn by the GPU.

A draw uses one counter of the generator for each four numbers, or two where a number takes 64 bits.  The last argument
of a launch is the seed and the position, so that a launch can be repeated with the numbers that come next.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import _random
from minidl._ext.device_array import DeviceArray
from minidl._generator import PhiloxGenerator, default_of_gpu, seed_gpus

from .arrays import SUFFIX, ArraysCUDA

_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


class RandomCUDA(ArraysCUDA):
    """What is filled or made at random."""

    def uniform_(self, x: DeviceArray, low: float, high: float, generator: Any) -> None:
        _random.check_uniform(x.dtype, low, high)
        self._draw(f"uniform_{SUFFIX[x.dtype]}", x, 4 if x.itemsize == 4 else 2, generator, x.dtype.type(low),
                   x.dtype.type(high))

    def normal_(self, x: DeviceArray, mean: float, std: float, generator: Any) -> None:
        _random.check_normal(x.dtype, std)
        self._draw(f"normal_{SUFFIX[x.dtype]}", x, 4 if x.itemsize == 4 else 2, generator, x.dtype.type(mean),
                   x.dtype.type(std))

    def random_(self, x: DeviceArray, low: int | None, high: int | None, generator: Any) -> None:
        first, count = _random.whole_numbers(x.dtype, low, high)
        self._integers(x, first, count, generator)

    def _integers(self, x: DeviceArray, first: int, count: int, generator: Any) -> None:
        self._draw(f"integers_{SUFFIX[x.dtype]}", x, 2, generator, np.int64(first), np.uint64(count))

    def bernoulli_(self, x: DeviceArray, p: float, generator: Any) -> None:
        _random.check_probability(p)
        self._draw(f"bernoulli_{SUFFIX[x.dtype]}", x, 4, generator, np.float64(p))

    def dropout_mask(self, shape: tuple[int, ...], p: float, generator: Any) -> DeviceArray:
        _random.check_dropout(p)
        kept = self.empty(shape, _BOOL)
        self.bernoulli_(kept, 1.0 - p, generator)
        return kept

    def randperm(self, n: int, generator: Any) -> DeviceArray:
        """The order in which n random words of 64 bits sort."""
        _random.check_length(n)
        words = self.empty((n,), _INT64)
        self._integers(words, 0, 0, generator)
        return self.sort(words, 0, False)[1]

    def _draw(self, kernel: str, x: DeviceArray, per_counter: int, generator: Any, *arguments: Any) -> None:
        counters = -(-x.size // per_counter)
        philox = self._chosen(generator).take(counters)
        self.launch_each("random", kernel, counters, x, *arguments, x.size, philox)

    def _chosen(self, generator: Any) -> PhiloxGenerator:
        if generator is None:
            return default_of_gpu(self.runtime.index)
        if not isinstance(generator, PhiloxGenerator) or generator.device.index not in (None, self.device.index):
            raise RuntimeError(f"Expected a '{self.device}' device type for generator but found '{generator.device}'; "
                               f"make one with minidl.Generator('{self.device}')")
        return generator


# ---- the default generators, by the number of the GPU: what minidl.cuda shows under PyTorch's names ------------------


def manual_seed(seed: int, index: int) -> None:
    """Seed the default generator of a GPU; it need not have been used."""
    default_of_gpu(index).manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    """Seed the default generators of all GPUs."""
    seed_gpus(int(seed))


def seed(index: int) -> int:
    """Seed the default generator of a GPU from the system's entropy; returns the seed."""
    return default_of_gpu(index).seed()


def initial_seed(index: int) -> int:
    """The seed of the present stream of a GPU's default generator."""
    return default_of_gpu(index).initial_seed()


def get_rng_state(index: int) -> np.ndarray:
    """The state of a GPU's default generator: 16 bytes."""
    return default_of_gpu(index).get_state()


def set_rng_state(new_state: np.ndarray, index: int) -> None:
    """Let a GPU's default generator go on from ``new_state``."""
    default_of_gpu(index).set_state(new_state)
