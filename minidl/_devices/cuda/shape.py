"""Views, which cost no launch; joining, repeating and padding, which copy on the GPU: cuda/assign.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class ShapeCUDA(ArraysCUDA):
    """Views, which cost no launch; joining, repeating and padding, which copy."""
