"""What is timed: a case is made once for each library, from the same numbers, and says what it computed.

A case is known by its family and its name, so that every library can make it in a process of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Result(NamedTuple):
    """Numbers that every library has to agree on, within ``tolerance`` times the largest of them."""

    name: str
    numbers: np.ndarray
    tolerance: float


@dataclass(frozen=True)
class Job:
    """``call`` is what is timed; it returns when the work is done.  ``results`` were computed before."""

    call: Callable[[], Any]
    results: list[Result]


@dataclass(frozen=True)
class Options:
    """What the command line said that a case has to know."""

    quick: bool = False
    mnist: str | None = None
    tiny: bool = False      # the smallest sizes, for the tests of the benchmarks themselves


@dataclass(frozen=True)
class Case:
    """``make(library)`` gives the job, or None where the library has nothing to time.

    One call of the job stands for ``inner`` of what ``unit`` is told of.  Cases of one ``group`` share a geometric
    mean.
    """

    name: str
    make: Callable[[Library], Job | None]
    unit: str = "ms"
    inner: int = 1
    group: str = field(default="", compare=False)


@dataclass(frozen=True)
class Library:
    """A library in this process, by name: minidl, torch or jax; and where it computes."""

    name: str
    channels_last: bool = False
    device: str = "cpu"

    @property
    def is_jax(self) -> bool:
        """JAX has no tensors that change and no modules: its cases are written on their own."""
        return self.name == "jax"

    @property
    def lib(self) -> Any:
        """The module."""
        return importlib.import_module(self.name)

    def tensor(self, array: np.ndarray) -> Any:
        """A copy of the array on the library's device; an image in its memory format."""
        if self.is_jax:
            return importlib.import_module("jax.numpy").array(array)
        tensor = self.lib.tensor(array)     # as a loader has it, in memory of the library
        if self.device != "cpu":
            tensor = tensor.to(self.device)
        if self.channels_last and array.ndim == 4:
            tensor = tensor.contiguous(memory_format=self.lib.channels_last)
        return tensor

    def module(self, made: Any) -> Any:
        """A network in the library's memory format, on its device."""
        if self.device != "cpu":
            made = made.to(self.device)
        return made.to(memory_format=self.lib.channels_last) if self.channels_last else made

    def set_threads(self, threads: int) -> None:
        """How many threads it may use; JAX is told when its process starts."""
        if not self.is_jax:
            self.lib.set_num_threads(threads)


def numpy_of(values: Any) -> np.ndarray:
    """A tensor of any of the libraries as float64."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)


def seeded(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal float32 numbers, the same for every library."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def disagreement(ours: Sequence[Result], theirs: Sequence[Result]) -> str:
    """The first thing that two libraries computed differently, in words; empty where they agree."""
    if [result.name for result in ours] != [result.name for result in theirs]:
        return f"the results are called {[r.name for r in ours]} and {[r.name for r in theirs]}"
    for (name, mine, tolerance), (_, peer, _) in zip(ours, theirs, strict=True):
        if mine.shape != peer.shape:
            return f"{name}: the shapes are {mine.shape} and {peer.shape}"
        scale = float(np.abs(peer).max(initial=0))
        apart = float(np.abs(mine - peer).max(initial=0))
        if not apart <= tolerance * scale:  # also where one is not a number
            return (f"{name}: apart by {apart:.3g}, where the largest number is {scale:.3g} and {tolerance:g} of it "
                    "allowed")
    return ""
