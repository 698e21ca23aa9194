"""2-d convolution and its gradients on the GPU: cuda/conv2d.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class ConvCUDA(ArraysCUDA):
    """2-d convolution and its gradients."""
