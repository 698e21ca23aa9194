"""Generators of random numbers: the CPU's, and those of GPUs, which are a seed and a position.

A GPU needs no more of a generator than these two numbers (cuda/random.cu), so nothing here knows CUDA, and one can be
made, seeded and saved where there is no GPU.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from minidl import _types
from minidl._ext import random as _ext


class Generator(_ext.Generator):
    """A stream of random numbers, for ``device='cpu'`` that of ``torch.Generator`` with the same seed.

    ``Generator('cuda')`` makes one for any GPU, ``Generator('cuda:1')`` for that one; they are ``PhiloxGenerator``.
    """

    def __new__(cls, device: _types.device | str = "cpu") -> Any:
        if cls is Generator and str(device).startswith("cuda"):
            return PhiloxGenerator(device)
        return super().__new__(cls, device)


class PhiloxGenerator(Generator):
    """The counter-based stream of a GPU: a seed and the number of counters that have been used, each of 128 bits.

    Its numbers are others than the CPU's, and the same on every GPU for the same seed.
    """

    _device: _types.device
    _offset: int

    def __new__(cls, device: _types.device | str = "cuda") -> Any:
        generator = super().__new__(cls)
        generator._device, generator._offset = _types.device(device), 0
        return generator

    @property
    def device(self) -> _types.device:
        return self._device

    def manual_seed(self, seed: int) -> PhiloxGenerator:
        """Start the stream that belongs to ``seed`` (an int of 64 bits, negative ones count from 2**64 down)."""
        super().manual_seed(seed)
        self._offset = 0
        return self

    def get_offset(self) -> int:
        """How many counters have been used since the seed."""
        return self._offset

    def set_offset(self, offset: int) -> None:
        """Go on after ``offset`` counters."""
        self._offset = offset & 0xFFFFFFFFFFFFFFFF

    def take(self, counters: int) -> bytes:
        """The ``Philox`` of cuda/random.cu for a launch that uses so many counters; the next one begins behind them."""
        given = struct.pack("<3Q", self.initial_seed(), self._offset, 0)
        self.set_offset(self._offset + counters)
        return given

    def get_state(self) -> np.ndarray:
        """Seed and position, as an array of 16 bytes, which ``set_state`` takes."""
        return np.frombuffer(struct.pack("<2Q", self.initial_seed(), self._offset), np.uint8).copy()

    def set_state(self, state: np.ndarray) -> None:
        """Go on from where ``get_state`` was called, exactly."""
        if not isinstance(state, np.ndarray) or state.dtype != np.uint8:
            raise TypeError(f"set_state: expected an array of bytes (uint8) from get_state, got "
                            f"{getattr(state, 'dtype', type(state).__name__)}")
        if state.size != 16:
            raise RuntimeError(f"RNG state is wrong size: that of a CUDA generator has 16 bytes, got {state.size}")
        seed, offset = struct.unpack("<2Q", state.tobytes())
        self.manual_seed(seed)
        self.set_offset(offset)

    def clone_state(self) -> PhiloxGenerator:
        """A generator of its own that goes on from the same position."""
        other = PhiloxGenerator(self._device)
        other.set_state(self.get_state())
        return other

    def __reduce__(self) -> Any:
        return _restored, (str(self._device), self.get_state())

    def __repr__(self) -> str:
        return f"<minidl.Generator on {self._device}, initial seed {self.initial_seed()}>"


def _restored(device: str, state: np.ndarray) -> PhiloxGenerator:
    generator = PhiloxGenerator(device)
    generator.set_state(state)
    return generator


# ---- the generators of GPUs from which everybody draws who names none ------------------------------------------------

_defaults: dict[int, PhiloxGenerator] = {}
_seed_of_all: int | None = None  # what generators that are not made yet begin with


def default_of_gpu(index: int) -> PhiloxGenerator:
    """The default generator of a GPU: seeded by ``seed_gpus``, or from the system's entropy if nobody called that."""
    if index not in _defaults:
        made = _defaults[index] = PhiloxGenerator(_types.device("cuda", index))
        if _seed_of_all is None:
            made.seed()
        else:
            made.manual_seed(_seed_of_all)
    return _defaults[index]


def seed_gpus(seed: int) -> None:
    """Seed the default generators of all GPUs, whether they have been used yet or not."""
    global _seed_of_all
    _seed_of_all = seed
    for generator in _defaults.values():
        generator.manual_seed(seed)
