"""Indexing with tensors, gather and scatter on the GPU: cuda/indexing.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class IndexingCUDA(ArraysCUDA):
    """Indexing with tensors, gather and scatter."""
