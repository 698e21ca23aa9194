"""``linear``, and the class indices' twin ``one_hot``."""

from __future__ import annotations

from minidl._tensor import Tensor
from minidl.ops import creation, matmul


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``: input (..., in), weight (out, in), bias (out,) -> (..., out).

    Raises ``RuntimeError`` for sizes or dtypes that do not fit together.
    """
    return matmul.linear(input, weight, bias)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class indices (int64) of any shape -> (..., num_classes) int64 with a one at each index.

    ``num_classes`` is by default one more than the largest index.  Raises ``RuntimeError`` for other dtypes and for
    indices that are no class.
    """
    if tensor.dtype.name != "int64":
        raise RuntimeError(f"one_hot is only applicable to index tensor of type LongTensor, got {tensor.dtype}; "
                           "convert it with .long()")
    return creation.one_hot(tensor, num_classes)
