"""New arrays on the CPU, in memory of the caching allocator."""

import numpy as np

from ..._ext import assign
from ..._ext.storage import empty
from ..reference.creation import CreationReference


def full(shape, value, np_dtype):
    """What is no Python number that fits."""
    result = empty(tuple(shape), np.dtype(np_dtype))
    result[...] = np.asarray(value).astype(np_dtype)
    return result


class CreationCPU(CreationReference):
    """Constants; ranges and triangles are the reference's."""

    def empty(self, shape, np_dtype):
        return empty(tuple(shape), np.dtype(np_dtype))

    full = staticmethod(assign.full(full))

    def zeros(self, shape, np_dtype):
        return self.full(shape, False if np.dtype(np_dtype) == bool else 0, np_dtype)
