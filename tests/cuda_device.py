"""The GPU that the tests compute on: the real one where ``MINIDL_TEST_GPU=real`` says so, else the emulated one.

Of the emulated one ``MINIDL_TEST_GPU`` may name other ways, several with commas between them:

    ptx             kernels as NVIDIA's nvcc makes them, inline PTX included, instead of g++
    stand-in        over the stand-in for PyCUDA, also where PyCUDA is built
    order=2         threads at random (0 forward, 1 backward) also where a test does not ask for it
    lazy=2          streams work at random times (0 at once, 1 as late as they may)
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import cuda_emulation
import numpy as np

from minidl._devices.registry import backend_of
from minidl._ext import core
from minidl._ext.device_pool import DevicePool

REAL = os.environ.get("MINIDL_TEST_GPU") == "real"


@functools.cache
def emulation() -> Any:
    """What steers the emulated GPU; raises ``CannotEmulateError`` where it cannot be built."""
    words = [word for word in os.environ.get("MINIDL_TEST_GPU", "").split(",") if word]
    settings = {name: int(value) for name, equals, value in (word.partition("=") for word in words) if equals}
    unknown = {word for word in words if "=" not in word} - {"ptx", "stand-in"}
    if unknown or settings.keys() - {"order", "lazy", "seed"}:
        raise ValueError(f"MINIDL_TEST_GPU={','.join(words)}: it knows real, ptx, stand-in, order=, lazy= and seed=")
    return cuda_emulation.load(total_memory=8 << 30, ptx="ptx" in words, stand_in="stand-in" in words, **settings)


@functools.cache
def backend() -> Any:
    """The operations of the GPU ``cuda:0``.

    On the emulated one, memory comes in blocks of just the bytes that are needed, so that what lies behind an array is
    out of bounds.
    """
    if not REAL:
        emulation()
    gpu = backend_of("cuda:0")
    if not REAL:
        gpu.runtime.pool = DevicePool(gpu.runtime._take, exact=True)
    return gpu


@contextlib.contextmanager
def order(number: int) -> Iterator[None]:
    """Run the threads of kernels in another order: 0 forward, 1 backward, 2 at random; a real GPU has its own."""
    if REAL:
        yield
    else:
        with emulation().configured(order=number):
            yield


@contextlib.contextmanager
def lazy(number: int) -> Iterator[None]:
    """Let streams work 0 at once, 1 as late as they may, 2 at random times; those of a real GPU have their own."""
    if REAL:
        yield
    else:
        with emulation().configured(lazy=number):
            yield


def tensor(array: np.ndarray) -> Any:
    """A tensor on the GPU with the numbers of an array."""
    return core.from_raw(backend().from_host(np.asarray(array)), backend())


def numbers(result: Any) -> np.ndarray:
    """The numbers of a tensor, wherever it lies."""
    return np.asarray(result._backend.to_host(result.detach()._raw))


def raw(array: np.ndarray) -> Any:
    """A raw array on the GPU with the numbers and the strides of an array, in memory of its own."""
    array = np.asarray(array)
    if array.flags.c_contiguous:
        return backend().from_host(array)
    whole = array
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    offset = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return backend().from_host(whole.ravel(order="K")).view(array.shape, array.strides, offset)


def assert_same(got: Any, wanted: Any, tolerance: float, told: str = "") -> None:
    """Raw arrays of the GPU against the reference's: dtypes, shapes and numbers, to ``tolerance`` of the largest."""
    if not isinstance(wanted, tuple):
        got, wanted = (got,), (wanted,)
    for one, two in zip(got, wanted, strict=True):
        result = backend().to_host(one)
        assert (result.dtype, result.shape) == (two.dtype, two.shape), told
        largest = np.abs(two[np.isfinite(two)]).max(initial=0) if two.dtype.kind == "f" else 0
        np.testing.assert_allclose(result, two, rtol=0, atol=tolerance * max(1.0, float(largest)), err_msg=told)
