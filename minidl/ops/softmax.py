"""Softmax and its logarithm."""

from __future__ import annotations

from minidl._ext.core import Op, Tensor, register
from minidl._types import dtype as _dtype
from minidl.ops.rules import normalize_dim

_softmax = Op(
    "softmax",
    backward=lambda F, node, grad, out: F.softmax_backward(grad, out, node.args[1]),
    saves_output=True,
    promotion=None,
)
_log_softmax = Op(
    "log_softmax",
    backward=lambda F, node, grad, out: F.log_softmax_backward(grad, out, node.args[1]),
    saves_output=True,
)


def _softmax_backward(grad: Tensor, output: Tensor, dim: int) -> Tensor:
    product = grad * output
    return product - output * product.sum(dim, True)


def _log_softmax_backward(grad: Tensor, output: Tensor, dim: int) -> Tensor:
    return grad - output.exp() * grad.sum(dim, True)


register("softmax_backward", _softmax_backward)
register("log_softmax_backward", _log_softmax_backward)


def softmax(input: Tensor, dim: int, dtype: _dtype | None = None) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``dim``, of ``input`` as ``dtype`` where one is given."""
    return _softmax(_floating(input, dtype, "softmax"), normalize_dim(dim, input.ndim, "softmax"))


def log_softmax(input: Tensor, dim: int, dtype: _dtype | None = None) -> Tensor:
    """``x - log(sum(exp(x)))`` along ``dim``, without overflow; of ``input`` as ``dtype`` where one is given."""
    return _log_softmax(_floating(input, dtype, "log_softmax"), normalize_dim(dim, input.ndim, "log_softmax"))


def _floating(input: Tensor, dtype: _dtype | None, op: str) -> Tensor:
    if dtype is not None:
        input = input.to(dtype)
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"{op} is not implemented for {input.dtype}; convert the input first with .float()")
    return input
