"""Matrix products and Linear on the GPU: cuda/gemm.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class MatmulCUDA(ArraysCUDA):
    """Matrix products and Linear."""
