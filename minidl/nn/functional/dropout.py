"""Dropout."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from minidl._tensor import Tensor
from minidl.ops import dropout as _dropout


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each number with probability ``p`` and scale the others by ``1 / (1 - p)``; nothing outside of training.

    Srivastava et al. 2014 (https://jmlr.org/papers/v15/srivastava14a.html).  Raises ``ValueError`` for a ``p`` that is
    no probability.
    """
    return _drop(_dropout.dropout, input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``dropout`` of whole channels of an input (N, C, H, W)."""
    if input.ndim == 3:
        warnings.warn("dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior "
                      "is desired - input is interpreted as shape (N, C, L), where C is the channel dim.", stacklevel=2)
    elif input.ndim != 4:
        raise RuntimeError(f"dropout2d: expected input (N, C, H, W), got {tuple(input.shape)}")
    return _drop(_dropout.feature_dropout, input, p, training, inplace)


def _drop(function: Callable[[Tensor, float], Tensor], input: Tensor, p: float, training: bool,
          inplace: bool) -> Tensor:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if p == 0 or not training or not input.numel():
        return input
    result = input * 0.0 if p == 1 else function(input, p)
    return input.copy_(result) if inplace else result
