"""Optimizer steps over all parameters in one launch on the GPU: cuda/optimizer.cu."""

from __future__ import annotations

from .arrays import ArraysCUDA


class OptimizerCUDA(ArraysCUDA):
    """Optimizer steps over all parameters in one launch."""
