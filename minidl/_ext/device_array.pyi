from typing import Any

import numpy as np

LAYOUT_BYTES: int

class DeviceArray:
    ptr: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    base: Any
    size: int
    itemsize: int
    contiguous: bool
    def __init__(
        self, ptr: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, dtype: np.dtype, base: Any = None
    ) -> None: ...
    @property
    def ndim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def view(
        self, shape: tuple[int, ...], strides: tuple[int, ...] | None, offset: int = 0, dtype: np.dtype | None = None
    ) -> DeviceArray: ...

class Layout:
    size: int
    flat: bool
    scalar: int
    bytes: bytes
    def __init__(self, shape: tuple[int, ...], *operands: tuple[tuple[int, ...], int]) -> None: ...
    def in_groups(self, count: int) -> tuple[Layout, int] | None: ...

def pack(arguments: tuple[Any, ...]) -> bytes: ...
