"""Reductions, cumulative sums and sorting on the GPU: cuda/reductions.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class ReduceCUDA(ArraysCUDA):
    """Reductions, cumulative sums and sorting."""
