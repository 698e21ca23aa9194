"""Dropout (Srivastava et al. 2014): numbers are zeroed by chance, the others scaled so that the mean stays."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._ext.core import Op, Tensor, from_raw

_dropout_apply = Op("dropout_apply", "MulBackward0",
                    backward=lambda F, node, grad: F.dropout_apply(grad, node.args[1], node.args[2]))


def dropout(input: Tensor, p: float) -> Tensor:
    """Each number zeroed with probability ``p`` in (0, 1); on the CPU in PyTorch's places for the same seed."""
    mask = _mask(input, tuple(input.shape), p)
    return _dropout_apply(input, mask, _scale(input, p))


def feature_dropout(input: Tensor, p: float) -> Tensor:
    """The same for whole channels of an input (N, C, ...)."""
    backend = input._backend
    mask = _mask(input, (*input.shape[:2], *(1,) * (input.ndim - 2)), p)
    return input * from_raw(backend.mul(backend.cast(mask, input.dtype.np), _scale(input, p)), backend)


def _mask(input: Tensor, shape: tuple[int, ...], p: float) -> Any:
    """Where numbers are kept, drawn by the input's device from its default generator."""
    return input._backend.dropout_mask(shape, p, None)


def _scale(input: Tensor, p: float) -> float:
    """1 / (1 - p), rounded as the input's dtype divides."""
    return float(np.divide(1, 1 - p, dtype=input.dtype.np))
