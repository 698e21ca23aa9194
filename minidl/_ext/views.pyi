"""Strided views of raw arrays (``views.pyx``)."""

from collections.abc import Sequence

import numpy as np

def strided(x: np.ndarray, shape: Sequence[int], strides: Sequence[int], offset: int) -> np.ndarray: ...
