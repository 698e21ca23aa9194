"""Random numbers on raw arrays: PyTorch's CPU numbers for the same seed, bit for bit.

Each function fills (or makes) a NumPy array from a ``Generator``, the module's ``default_generator`` if none is given.
What a seed gives is PyTorch 2.13's:

- float32 uniforms come from the lower 24 bits of one word of MT19937, float64 ones from the lower 53 bits of two;
- fewer than 16 normals (or ones not contiguous) are made pair by pair in double, the second of a pair being kept in
  the generator; from 16 on in blocks of 16 uniforms of the array's own dtype, the last 16 anew if a part is left over;
- integers are a word modulo the range, of 64 bits from 2**28 on;
- Bernoulli's trials and dropout compare float64 uniforms with the probability (dropout: of keeping);
- a transposed or sliced array is filled in the order of its memory.

A shuffled ``DataLoader`` draws like this, with W = its own generator or, if it has none, the default one:

1. ``iter(loader)`` draws the workers' base seed from W: ``draw_seed(W)``.
2. The first batch asks the ``RandomSampler`` for its permutation. Without a generator, that draws ``draw_seed()`` from
   the default generator, seeds a generator of its own with it and takes ``randperm(n)`` from that one. With a
   generator, it takes ``randperm(n)`` from it.
3. When the batches are exhausted the sampler has also drawn a second ``randperm(n)`` from the same generator, for the
   part of an epoch beyond n samples, which is empty: its n - 1 words are gone from W if it was given.

The next epoch starts again at 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minidl._ext import random as _ext
from minidl._generator import Generator, PhiloxGenerator, seed_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Generator", "default_generator", "manual_seed", "initial_seed", "seed", "get_rng_state", "set_rng_state",
           "uniform_", "normal_", "random_", "bernoulli_", "dropout_mask", "randperm", "draw_seed"]

_LARGEST = {np.dtype(each): float(np.finfo(each).max) for each in (np.float32, np.float64)}

default_generator = Generator()
default_generator.seed()


def manual_seed(seed: int) -> Generator:
    """Seed the default generators of the CPU, which is returned, and of all GPUs; what ``int()`` can read is a seed."""
    default_generator.manual_seed(int(seed))
    seed_gpus(int(seed))
    return default_generator


def initial_seed() -> int:
    """The seed of the default generator's present stream."""
    return default_generator.initial_seed()


def seed() -> int:
    """Seed the default generators of the CPU and of all GPUs from the system's entropy; returns the seed."""
    drawn = default_generator.seed()
    seed_gpus(drawn)
    return drawn


def get_rng_state() -> np.ndarray:
    """The state of the default generator, as an array of bytes."""
    return default_generator.get_state()


def set_rng_state(new_state: np.ndarray) -> None:
    """Let the default generator go on from ``new_state``."""
    default_generator.set_state(new_state)


def draw_seed(generator: Generator | None = None) -> int:
    """One int in [0, 2**63), as ``torch.empty((), dtype=torch.int64).random_().item()`` gives it."""
    return int(random_(np.empty((), np.int64), generator=generator))


def uniform_(array: np.ndarray, low: float = 0.0, high: float = 1.0, generator: Generator | None = None) -> np.ndarray:
    """Fill a floating array with numbers uniform in [low, high)."""
    check_uniform(array.dtype, low, high)
    given = _chosen(generator)
    _fill_in_memory_order(array, lambda out: _ext.fill_uniform(given, out, low, high))
    return array


def normal_(array: np.ndarray, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> np.ndarray:
    """Fill a floating array with normally distributed numbers.

    float32 has the bits of PyTorch on processors with AVX2; elsewhere PyTorch's own differ from these by rounding.
    """
    check_normal(array.dtype, std)
    given = _chosen(generator)
    in_blocks = array.size >= 16 and array.flags.c_contiguous
    _fill_in_memory_order(array, lambda out: _ext.fill_normal(given, out, mean, std, in_blocks))
    return array


def random_(array: np.ndarray, low: int | None = None, high: int | None = None,
            generator: Generator | None = None) -> np.ndarray:
    """Fill an array of any dtype with integers in [low, high).

    ``high`` alone missing stands for all that the dtype can hold from ``low`` on (floating: up to 2**24 or 2**53, from
    where not every integer is a float); both missing for all non-negative ones.
    """
    given = _chosen(generator)
    first, count = whole_numbers(array.dtype, low, high)
    if low is None and high is None:
        _fill_in_memory_order(array, lambda out: _fill_without_bounds(given, out, count))
    else:
        _fill_in_memory_order(array, lambda out: _ext.fill_integers(given, out, count, first))
    return array


def bernoulli_(array: np.ndarray, p: float = 0.5, generator: Generator | None = None) -> np.ndarray:
    """Fill an array of any dtype with ones, of probability ``p``, and zeros."""
    check_probability(p)
    given = _chosen(generator)

    def fill(out: np.ndarray) -> None:
        trials = np.empty(out.shape, np.bool_)
        _ext.fill_bernoulli(given, trials, p)
        out[...] = trials

    _fill_in_memory_order(array, fill)
    return array


def dropout_mask(shape: Sequence[int], p: float, generator: Generator | None = None) -> np.ndarray:
    """A bool array, True where ``dropout`` with probability ``p`` of zeroing keeps an element."""
    check_dropout(p)
    kept = np.empty(shape, np.bool_)
    _ext.fill_bernoulli(_chosen(generator), kept, 1.0 - p)
    return kept


def randperm(n: int, generator: Generator | None = None) -> np.ndarray:
    """An int64 array holding a permutation of 0 .. n - 1."""
    check_length(n)
    out = np.empty(n, np.int64)
    _ext.fill_permutation(_chosen(generator), out)
    return out


def _chosen(generator: Generator | None) -> Generator:
    """The generator to draw from on the CPU."""
    if isinstance(generator, PhiloxGenerator):
        raise RuntimeError(f"Expected a 'cpu' device type for generator but found '{generator.device}'")
    return generator or default_generator


# ---- what can be drawn, on any device --------------------------------------------------------------------------------


def check_uniform(dtype: np.dtype, low: float, high: float) -> None:
    """Raise what ``uniform_`` raises for a wrong dtype or range."""
    _need_floating("uniform_", dtype)
    if not low <= high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low} > to={high}")
    if not high - low <= _LARGEST[dtype]:
        raise RuntimeError(f"uniform_ expects to-from <= the largest {dtype}, but found to={high} and from={low}")


def check_normal(dtype: np.dtype, std: float) -> None:
    """Raise what ``normal_`` raises for a wrong dtype or deviation."""
    _need_floating("normal_", dtype)
    if not std >= 0:
        raise RuntimeError(f"normal_ expects std >= 0.0, but found std {std}")


def whole_numbers(dtype: np.dtype, low: int | None, high: int | None) -> tuple[int, int]:
    """What ``random_`` draws from: the first number, and how many there are (0 for all of 64 bits)."""
    largest = _largest_integer(dtype)
    first = 0 if low is None else int(low)
    last = largest if high is None else int(high) - 1
    if first > last:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={first} >= to={last + 1}")
    if dtype.kind != "f":
        smallest = 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)
        for name, value in (("from", first), ("to - 1", last)):
            if not smallest <= value <= largest:
                raise RuntimeError(f"random_: {name} = {value} is out of bounds for {dtype}, [{smallest}, {largest}]")
    return first, (last - first + 1) % (1 << 64)


def check_probability(p: float) -> None:
    """Raise what ``bernoulli_`` raises for what is no probability."""
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")


def check_dropout(p: float) -> None:
    """Raise what dropout raises for what is no probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def check_length(n: int) -> None:
    """Raise what ``randperm`` raises for a negative length."""
    if n < 0:
        raise RuntimeError(f"randperm: n must be non-negative, got {n}")


def _need_floating(op: str, dtype: np.dtype) -> None:
    if dtype not in _LARGEST:
        raise NotImplementedError(f"{op} is not implemented for {dtype}, only for float32 and float64; "
                                  f"for integers use random_")


def _largest_integer(dtype: np.dtype) -> int:
    """The largest integer of a dtype below which it holds all."""
    if dtype.kind == "b":
        return 1
    if dtype.kind == "f":
        return 1 << (np.finfo(dtype).nmant + 1)
    return int(np.iinfo(dtype).max)


def _fill_without_bounds(generator: Generator, out: np.ndarray, count: int) -> None:
    words = out if out.dtype == np.int64 else np.empty(out.shape, np.int64)
    _ext.fill_words(generator, words, count, wide=out.itemsize == 8)
    if words is not out:
        out[...] = words


def _fill_in_memory_order(array: np.ndarray, fill: Callable[[np.ndarray], None]) -> None:
    """Call ``fill`` on a C-contiguous array whose elements lie as those of ``array`` do in memory."""
    if array.flags.c_contiguous:
        fill(array)
        return
    by_stride = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    in_order = array.transpose(by_stride)
    if in_order.flags.c_contiguous:
        fill(in_order)
        return
    filled = np.empty(in_order.shape, array.dtype)
    fill(filled)
    in_order[...] = filled
