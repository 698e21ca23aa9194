"""What all operations on a GPU stand on: new arrays, launches over all their numbers, dtypes in kernels' names."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl import _types
from minidl._ext.device_array import DeviceArray, Layout

from .runtime import Runtime, runtime

# Endings of kernels' names, as in cuda/common.cuh.
SUFFIX: dict[np.dtype[Any], str] = {
    np.dtype(np.float32): "f32", np.dtype(np.float64): "f64", np.dtype(np.uint8): "u8", np.dtype(np.int8): "i8",
    np.dtype(np.int16): "i16", np.dtype(np.int32): "i32", np.dtype(np.int64): "i64", np.dtype(np.bool_): "b8",
}
CODE: dict[Any, int] = {dtype: code for code, dtype in enumerate(SUFFIX)}  # the enum Type of cuda/assign.cu
BITS = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}  # itemsize -> ending of kernels that only move numbers
THREADS = 256  # of a block, where a kernel does not say otherwise
_WAVES = 32  # blocks per multiprocessor at most: a thread takes several numbers then


class ArraysCUDA:
    """One GPU.  The operations are methods of the classes that derive from this one."""

    array_type = DeviceArray

    def __init__(self, index: int) -> None:
        self.device = _types.device("cuda", index)
        self.runtime: Runtime = runtime(index)
        self.launch = self.runtime.launch

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...  # the operations of the other families

    def empty(self, shape: Any, np_dtype: Any) -> DeviceArray:
        """An uninitialised array without gaps."""
        return self.runtime.empty(tuple(shape), np.dtype(np_dtype))

    def launch_each(self, file: str, name: str, count: int, *arguments: Any) -> None:
        """Launch a kernel whose threads share ``count`` numbers (``FOR_EACH`` in common.cuh); none for none."""
        if count:
            blocks = min(-(-count // THREADS), _WAVES * self.runtime.multiprocessors)
            self.launch(file, name, (blocks, 1), (THREADS, 1, 1), *arguments)

    def dense(self, x: DeviceArray) -> DeviceArray:
        """The array itself if it has no gaps, else a copy that has none."""
        return x if x.contiguous else self.copy(x)


def number_for(value: Any, dtype: np.dtype[Any]) -> Any:
    """A Python number as the argument of a kernel for arrays of ``dtype``: float, double or, for all others, 64 bits.

    It becomes what the dtype can hold, as in C: 300 beside uint8 is 44.
    """
    if dtype.kind == "f":
        return float(value) if dtype.itemsize == 4 else np.float64(value)
    if dtype.kind == "b":
        return np.int64(bool(value))
    return np.int64(wrapped(int(value), 64, True))


def wrapped(value: int, bits: int, signed: bool) -> int:
    """The integer that ``bits`` bits hold of a larger one."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def bits_of(value: Any, dtype: np.dtype[Any]) -> np.uint64:
    """A Python number in ``dtype``, as the argument of a kernel that only moves numbers."""
    # -0.0 equals 0, and so is the one for the other to a cache
    return _bits(value, dtype, not value and math.copysign(1, value) < 0)


@functools.lru_cache(maxsize=256)
def _bits(value: Any, dtype: np.dtype[Any], negative_zero: bool) -> np.uint64:
    with np.errstate(all="ignore"):
        return np.uint64(int.from_bytes(np.asarray(value).astype(dtype).tobytes(), "little"))


def shown(x: DeviceArray, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The strides with which x shows itself, broadcast, in ``shape``, and its itemsize: an operand of a ``Layout``."""
    lead = len(shape) - x.ndim
    if x.shape == shape:
        return x.strides, x.itemsize
    return (0,) * lead + tuple(
        0 if size == 1 else stride for size, stride in zip(x.shape, x.strides, strict=True)), x.itemsize


@functools.lru_cache(maxsize=1024)
def _flat(count: int, arrays: int) -> Layout:
    """The ``Layout`` of arrays of ``count`` numbers without gaps."""
    return Layout((count,), *[((1,), 1)] * arrays)


def layout_of(shape: tuple[int, ...], *arrays: DeviceArray) -> Layout:
    """The ``Layout`` of arrays that broadcast to ``shape``."""
    for x in arrays:
        if not x.contiguous or x.shape != shape:
            break
    else:
        return _flat(arrays[0].size, len(arrays))
    return Layout(shape, *(shown(x, shape) for x in arrays))
