"""Softmax and its logarithm on the GPU: cuda/softmax.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class SoftmaxCUDA(ArraysCUDA):
    """Softmax and its logarithm."""
