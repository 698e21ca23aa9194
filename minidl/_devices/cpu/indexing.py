"""Indexing on the CPU: whole slices gathered into memory of the caching allocator."""

import numpy as np

from ..._ext.storage import empty
from ..reference.indexing import IndexingReference, require_range


class IndexingCPU(IndexingReference):
    """What is not here stays with the reference."""

    def index(self, x, indices):
        if len(indices) == 1 and x.ndim and isinstance(indices[0], np.ndarray) and indices[0].dtype.kind in "iu":
            return _take("index", x, 0, indices[0], -x.shape[0])
        return super().index(x, indices)

    def index_select(self, x, dim, index):
        return _take("index_select", x, dim, index, 0) if x.ndim and index.ndim == 1 else super().index_select(
            x, dim, index)


def _take(op, x, dim, index, lowest):
    """``np.take`` into fresh memory; its mode "wrap" reads negative indices and, unlike "raise", writes directly."""
    require_range(op, index, dim, x.shape[dim], lowest, IndexError)
    result = empty(x.shape[:dim] + index.shape + x.shape[dim + 1:], x.dtype)
    if result.size:
        np.take(x, index, dim, result, "wrap")
    return result
