"""Batch normalization and dropout on the GPU: cuda/normalization.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class NormalizationCUDA(ArraysCUDA):
    """Batch normalization and dropout."""
