"""Losses on the GPU: cuda/loss.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class LossCUDA(ArraysCUDA):
    """Losses."""
