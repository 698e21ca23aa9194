"""The caching allocator of the CPU (``storage.pyx``)."""

from typing import Any, TypedDict, final

import numpy as np

class _MemoryStats(TypedDict):
    in_use: int
    peak: int
    held: int

@final
class Storage:
    def __new__(cls, owner: Any = None) -> Storage: ...
    @property
    def owner(self) -> Any: ...
    @property
    def nbytes(self) -> int: ...
    version: int

def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray: ...
def empty_cache() -> None: ...
def memory_stats() -> _MemoryStats: ...
