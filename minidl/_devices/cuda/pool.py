"""Pooling over windows on the GPU: cuda/pooling.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class PoolCUDA(ArraysCUDA):
    """Pooling over windows."""
