"""New arrays on the CPU, in memory of the caching allocator."""

import numpy as np

from ..._ext import assign
from ..._ext.storage import empty
from ..reference.creation import CreationReference


class CreationCPU(CreationReference):
    """Constants; ranges and triangles are the reference's."""

    def empty(self, shape, np_dtype):
        return empty(tuple(shape), np.dtype(np_dtype))

    def full(self, shape, value, np_dtype):
        result = empty(tuple(shape), np.dtype(np_dtype))
        if not assign.fill_(result, value):
            result[...] = np.asarray(value).astype(np_dtype)
        return result

    def zeros(self, shape, np_dtype):
        return self.full(shape, False if np.dtype(np_dtype) == bool else 0, np_dtype)
