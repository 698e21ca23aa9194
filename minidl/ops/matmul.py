"""Matrix products: derivative rules, then the public functions."""

from __future__ import annotations

from minidl._ext.core import Op, Tensor, formulas, register
from minidl.ops.rules import to_shape, transposed


def _matmul_backward(F, node, grad, input, other):
    """c = a @ b:  grad_a = grad_c @ b^T,  grad_b = a^T @ grad_c."""
    return (
        to_shape(F, node, 0, F.matmul(grad, transposed(F, other))) if node.needs(0) else None,
        to_shape(F, node, 1, F.matmul(transposed(F, input), grad)) if node.needs(1) else None,
    )


@formulas
def _linear_backward(F, node, grad, input, weight):
    return F.linear_backward_input(grad, weight), F.linear_backward_weight(grad, input), F.linear_backward_bias(grad)


_matmul = Op("matmul", lambda node: "MmBackward0" if max(map(len, node.args)) == 2 else "BmmBackward0",
             backward=_matmul_backward, saves={0: (1,), 1: (0,)}, promotion="arithmetic")
# input (..., in), weight (out, in), bias (out,) or None -> (..., out); the device checks shapes and dtypes
linear = Op("linear", lambda node: "MmBackward0" if node.args[2] is None else "AddmmBackward0",
            backward=_linear_backward, saves={0: (1,), 1: (0,)}, leading=True)


def _rows(x: Tensor) -> Tensor:
    return x.reshape((-1, x.shape[-1]))


register("linear_backward_input", lambda grad, weight: _matmul(grad, weight) if grad.ndim > 1 else matmul(grad, weight))
register("linear_backward_weight", lambda grad, input: _matmul(_rows(grad).t(), _rows(input)))
register("linear_backward_bias", lambda grad: _rows(grad).sum(0))


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product with PyTorch's rules: vectors, matrices, and stacks of matrices that broadcast.

    Shapes: (n,) @ (n,) -> (), (m, n) @ (n,) -> (m,), (..., m, n) @ (..., n, p) -> (..., m, p).
    Raises ``RuntimeError`` with both shapes when the inner sizes differ.
    """
    if not input.ndim or not other.ndim:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {input.ndim}D and {other.ndim}D")
    inner = other.shape[-2] if other.ndim > 1 else other.shape[0]
    if input.shape[-1] != inner:
        raise RuntimeError(
            f"matmul: mat1 and mat2 shapes cannot be multiplied ({_sides(input)} and {_sides(other)}): the last size "
            f"of the first, {input.shape[-1]}, must equal the {'second to last' if other.ndim > 1 else 'only'} size of "
            f"the second, {inner}")
    if input.dtype != other.dtype:
        raise RuntimeError(f"matmul: expected both tensors to have the same dtype, but got {input.dtype} and "
                           f"{other.dtype}; convert one with .to(...)")
    left = input.reshape((1, -1)) if input.ndim == 1 else input
    right = other.reshape((-1, 1)) if other.ndim == 1 else other
    product = _matmul(left, right)
    if input.ndim == 1:
        product = product.squeeze(-2)
    return product.squeeze(-1) if other.ndim == 1 else product


def _sides(x: Tensor) -> str:
    return "x".join(str(size) for size in x.shape)


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Matrix product of two matrices: (n, m) @ (m, p) -> (n, p)."""
    if input.ndim != 2 or mat2.ndim != 2:
        raise RuntimeError(f"mm: both must be matrices, got {input.ndim}D and {mat2.ndim}D; use matmul for others")
    return matmul(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two stacks of matrices: (b, n, m) @ (b, m, p) -> (b, n, p)."""
    if input.ndim != 3 or mat2.ndim != 3 or input.shape[0] != mat2.shape[0]:
        raise RuntimeError(f"bmm: batch1 {tuple(input.shape)} and batch2 {tuple(mat2.shape)} must be 3D tensors with "
                           "the same first size")
    return matmul(input, mat2)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Inner product of two vectors of one length."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    return matmul(input, tensor)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Matrix times vector: (n, m) @ (m,) -> (n,)."""
    return matmul(input, vec)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of two vectors: (n,), (m,) -> (n, m)."""
    return input.reshape((-1, 1)) * vec2
