"""Matrix products over BLAS (``gemm.pyx``).

Each function takes the reference's method and returns its fast version, which calls it for what it does not take.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

_Product: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
_Linear: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]

def matmul(reference: _Product) -> _Product: ...
def linear(reference: _Linear) -> _Linear: ...
def linear_backward_input(reference: _Product) -> _Product: ...
def linear_backward_weight(reference: _Product) -> _Product: ...
