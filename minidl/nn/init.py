"""Filling tensors with their first values.  Each function works in place, off the tape, and returns its tensor.

Random numbers are PyTorch's for the same seed.  Glorot and Bengio 2010 ("Xavier") and He et al. 2015 ("Kaiming",
https://arxiv.org/abs/1502.01852) choose the spread so that signals keep their size from layer to layer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl._tensor import Tensor
from minidl.autograd import no_grad
from minidl.ops.creation import empty_like, eye, from_numpy
from minidl.ops.pointwise import where

_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
           "sigmoid")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights before an activation function are larger: sqrt(2) for ReLU, 5/3 for tanh.

    ``param`` is the negative slope of ``'leaky_relu'`` (0.01).  Raises ``ValueError`` for an unknown function.
    """
    if nonlinearity in _LINEAR:
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "selu":
        return 3.0 / 4
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Inputs that each output of a weight (out, in, ...) sums, and outputs that each input goes to."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    receptive_field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive_field, tensor.shape[0] * receptive_field


def _fan(tensor: Tensor, mode: str) -> int:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode.lower()} not supported, please use one of ['fan_in', 'fan_out']")
    return _calculate_fan_in_and_fan_out(tensor)[mode.lower() == "fan_out"]


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number everywhere."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix.  Raises ``ValueError`` for other than 2 dimensions."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return tensor.copy_(eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out))."""
    std = gain * math.sqrt(2.0 / float(sum(_calculate_fan_in_and_fan_out(tensor))))
    a = math.sqrt(3.0) * std
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    std = gain * math.sqrt(2.0 / float(sum(_calculate_fan_in_and_fan_out(tensor))))
    return normal_(tensor, 0.0, std, generator)


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Any = None) -> Tensor:
    """Uniform in +-gain * sqrt(3 / fan); ``a`` is the negative slope of the leaky ReLU behind."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Any = None) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan); ``a`` is the negative slope of the leaky ReLU behind."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


@no_grad()
def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: Any = None) -> Tensor:
    """Normal, but within [a, b]: what falls outside is drawn again.

    Where [a, b] holds less than 0.3 of the normal distribution, uniform numbers are drawn and accepted by their
    density.  Warns for a mean more than two standard deviations away from [a, b].
    """
    if not a - 2 * std <= mean <= b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be "
                      "incorrect.", stacklevel=2)
    inside = (math.erf((b - mean) / (std * math.sqrt(2.0))) - math.erf((a - mean) / (std * math.sqrt(2.0)))) / 2
    if inside > 0.3:
        low, high = (tensor.new_tensor(bound).item() for bound in (a, b))
        return _draw_until_accepted(
            tensor, lambda out: out.normal_(mean, std, generator=generator),
            lambda drawn: (drawn < low) | (drawn > high))
    highest = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2  # the logarithm of the density's peak in [a, b]
    return _draw_until_accepted(
        tensor, lambda out: out.uniform_(a, b, generator=generator),
        lambda drawn: empty_like(drawn).uniform_(generator=generator).log() > (
            ((drawn - mean) / std).square() * -0.5 - highest))


def _draw_until_accepted(tensor: Tensor, draw: Callable[[Tensor], Tensor],
                         refused: Callable[[Tensor], Tensor]) -> Tensor:
    """Fill ``tensor``; draw as many numbers again and take those that are wanted, until none is refused."""
    values = draw(tensor)
    pending = refused(values)
    while pending.any():
        drawn = draw(empty_like(tensor))
        values = where(pending, drawn, values)
        pending = pending & refused(drawn)
    return tensor if values is tensor else tensor.copy_(values)


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """``gain`` times a matrix whose rows, or columns where there are fewer of them, are orthogonal and of length one.

    Dimensions from the second on count as one (Saxe et al. 2013, arXiv:1312.6120).  The numbers are PyTorch's but for
    rounding: the factorisation is NumPy's.  Raises ``ValueError`` for fewer than 2 dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if not tensor.numel():
        return tensor
    normal = tensor.new_empty(tensor.shape[0], tensor.numel() // tensor.shape[0]).normal_(0, 1, generator=generator)
    wide = normal.shape[0] < normal.shape[1]
    q, r = np.linalg.qr((normal.t() if wide else normal).numpy(force=True))
    q *= np.sign(np.diag(r))  # R with a positive diagonal makes Q unique, and evenly distributed (Mezzadri 2007)
    return tensor.copy_(from_numpy(q.T if wide else q).reshape(tensor.shape)).mul_(gain)
