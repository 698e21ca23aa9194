"""Elementwise operations (``pointwise.pyx``).

Each function takes the reference's method and returns its fast version, which calls it for what it does not take.
"""

from collections.abc import Callable
from typing import TypeAlias, final

import numpy as np

_Operand: TypeAlias = np.ndarray | float  # a float stands for any Python number
_Unary: TypeAlias = Callable[[np.ndarray], np.ndarray]
_Binary: TypeAlias = Callable[[_Operand, _Operand], np.ndarray]
_InPlace: TypeAlias = Callable[[np.ndarray, _Operand], None]

@final
class Loops:
    def __new__(
        cls,
        reference: _Unary | _Binary | _InPlace,
        nanoseconds: float,
        floats_only: bool,
        ufunc: np.ufunc | None = None,
    ) -> Loops: ...

def unary(reference: _Unary, nanoseconds: float = 0.0, floats_only: bool = False) -> _Unary: ...
def binary(reference: _Binary, nanoseconds: float = 0.0, floats_only: bool = False) -> _Binary: ...
def backward(reference: _Binary) -> _Binary: ...
def in_place(reference: _InPlace, ufunc: np.ufunc) -> _InPlace: ...
def sigmoid(reference: _Unary) -> _Unary: ...
