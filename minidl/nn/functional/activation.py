"""Activation functions: the ops, with PyTorch's arguments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from minidl._tensor import Tensor
from minidl._types import dtype as _dtype
from minidl.ops import pointwise
from minidl.ops import softmax as _softmax


def _maybe_inplace(input: Tensor, inplace: bool, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The result, written into the input's memory if asked for; the derivative then reads a copy of the input."""
    return input.copy_(function(input.clone())) if inplace else function(input)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(x, 0)``; the gradient at 0 is 0."""
    return input.relu_() if inplace else pointwise.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``x`` above 0 and ``negative_slope * x`` below (Maas et al. 2013)."""
    return _maybe_inplace(input, inplace, lambda x: pointwise.leaky_relu(x, negative_slope))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` above 0 and ``alpha * (e**x - 1)`` below (Clevert et al. 2015, https://arxiv.org/abs/1511.07289)."""
    return _maybe_inplace(input, inplace, lambda x: pointwise.elu(x, alpha))


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return pointwise.tanh(input)


def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + e**-x)``."""
    return pointwise.sigmoid(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + e**(beta * x)) / beta``, and ``x`` itself where ``beta * x > threshold``."""
    return pointwise.softplus(input, beta, threshold)


def logsigmoid(input: Tensor) -> Tensor:
    """``log(sigmoid(x))``, accurate for large ``|x|``."""
    return pointwise.log_sigmoid(input)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``x`` times the chance that a standard normal number is below ``x`` (https://arxiv.org/abs/1606.08415).

    ``approximate='tanh'`` is the authors' formula ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``.
    """
    if approximate == "tanh":
        return 0.5 * input * (1 + (0.7978845608028654 * (input + 0.044715 * input * input * input)).tanh())
    if approximate != "none":
        raise RuntimeError(f"approximate argument must be either none or tanh, got {approximate!r}")
    return pointwise.gelu(input)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: _dtype | None = None) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``dim``.  Leaving ``dim`` out is deprecated, as in PyTorch."""
    return _along("softmax", _softmax.softmax, input, dim, _stacklevel, dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: _dtype | None = None) -> Tensor:
    """``x - log(sum(exp(x)))`` along ``dim``, without overflow.  Leaving ``dim`` out is deprecated, as in PyTorch."""
    return _along("log_softmax", _softmax.log_softmax, input, dim, _stacklevel, dtype)


def _along(name: str, function: Any, input: Tensor, dim: int | None, stacklevel: int, dtype: _dtype | None) -> Tensor:
    if dim is None:
        warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as "
                      "an argument.", stacklevel=stacklevel)
        dim = 0 if input.ndim in (0, 1, 3) else 1
    return function(input, dim, dtype)
