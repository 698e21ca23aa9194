"""Arrays as compiled kernels want them."""

import numpy as np

from minidl._ext.storage import empty


def contiguous(array: np.ndarray) -> np.ndarray:
    """``array`` itself if it is C-contiguous and aligned, else a copy of it in memory of the caching allocator."""
    if array.flags.carray or (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
        return array
    copy = empty(array.shape, array.dtype.newbyteorder("="))
    copy[...] = array
    return copy
