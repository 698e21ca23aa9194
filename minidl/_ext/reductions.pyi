"""Sums and means (``reductions.pyx``).

Each function takes the reference's method and returns its fast version, which calls it for what it does not take.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

_Reduction: TypeAlias = Callable[[np.ndarray, tuple[int, ...] | None, bool], np.ndarray]

def sum(reference: _Reduction) -> _Reduction: ...
def mean(reference: _Reduction) -> _Reduction: ...
def sum_to(
    reference: Callable[[np.ndarray, tuple[int, ...]], np.ndarray],
) -> Callable[[np.ndarray, tuple[int, ...]], np.ndarray]: ...
def linear_backward_bias(reference: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]: ...
