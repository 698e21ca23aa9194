"""Constants, ranges and triangles on the GPU: cuda/creation.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class CreationCUDA(ArraysCUDA):
    """Constants, ranges and triangles."""
