"""Arrays that end where the process may not read any further."""

import ctypes
import mmap
from contextlib import contextmanager

import numpy as np

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
