"""Memory that shows a kernel's mistakes: no access behind an array, NaN in what is free, no alignment."""

import ctypes
import mmap
from contextlib import contextmanager

import numpy as np

from minidl._ext import storage

_PAGE = mmap.PAGESIZE
_NO_ACCESS, _READ_WRITE = 0, 3      # PROT_NONE, PROT_READ | PROT_WRITE


@contextmanager
def guarded(*arrays: np.ndarray):
    """Copies of the arrays of which each ends right before a page without access: a read beyond the end is a crash."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    copies, guards, maps = [], [], []
    for array in arrays:
        pages = (array.nbytes + _PAGE - 1) // _PAGE
        memory = mmap.mmap(-1, (pages + 1) * _PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert libc.mprotect(start + pages * _PAGE, _PAGE, _NO_ACCESS) == 0
        copy = np.frombuffer(memory, array.dtype, array.size, pages * _PAGE - array.nbytes).reshape(array.shape)
        copy[...] = array
        copies.append(copy)
        guards.append(start + pages * _PAGE)
        maps.append(memory)
    try:
        yield copies
    finally:
        for guard in guards:
            libc.mprotect(guard, _PAGE, _READ_WRITE)


def fill_free_memory_with_nan() -> None:
    """What the allocator hands out next, as results or as scratch, shows whatever a kernel forgets to write."""
    sizes = [quarters << log2 for log2 in range(4, 18) for quarters in (4, 5, 6, 7)]
    for block in [storage.empty((size,), np.dtype(np.uint8)) for size in sizes]:
        block.fill(0xFF)


def moved_by_four_bytes(array: np.ndarray) -> np.ndarray:
    memory = np.empty(array.nbytes + 68, np.uint8)
    start = -memory.ctypes.data % 64 + 4
    moved = memory[start:start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert moved.ctypes.data % 64 == 4
    return moved
