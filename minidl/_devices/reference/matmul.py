"""Matrix products in plain NumPy."""

import numpy as np


def check_matmul(a, b):
    """PyTorch's ``RuntimeError`` where ``a @ b`` has no meaning."""
    if a.ndim == 0 or b.ndim == 0:
        raise RuntimeError(f"matmul: both arguments need at least 1 dimension, got shapes {a.shape} and {b.shape}")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise RuntimeError(f"matmul: shapes {a.shape} and {b.shape} cannot be multiplied: the last size of the first, "
                           f"{a.shape[-1]}, must be {inner}")
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise RuntimeError(f"matmul: the batch dimensions {a.shape[:-2]} and {b.shape[:-2]} of shapes {a.shape} and "
                           f"{b.shape} do not broadcast") from None


def check_linear(input, weight, bias):
    """``RuntimeError`` where input (..., in), weight (out, in) and bias (out,) do not fit together."""
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None and array.dtype != input.dtype:
            raise RuntimeError(f"linear: input has dtype minidl.{input.dtype}, {name} has dtype minidl.{array.dtype}; "
                               "convert one with .to(...)")
    if weight.ndim != 2:
        raise RuntimeError(f"linear: weight must have shape (out_features, in_features), got {weight.shape}")
    if input.ndim == 0 or input.shape[-1] != weight.shape[1]:
        raise RuntimeError(f"linear: input {input.shape}, expected (..., {weight.shape[1]}) for weight {weight.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(f"linear: bias {bias.shape}, expected ({weight.shape[0]},) for weight {weight.shape}")


def rows(x):
    """x (..., n) as a matrix (rows, n)."""
    return x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])


class MatmulReference:
    """``a @ b`` and the affine map of ``Linear`` with its gradients."""

    def matmul(self, a, b):
        """1-D arguments are a row on the left and a column on the right; dimensions before the last two broadcast."""
        check_matmul(a, b)
        with np.errstate(all="ignore"):
            return np.asarray(np.matmul(a, b), order="C")

    def linear(self, input, weight, bias):
        """(..., in) @ (out, in)^T + (out,) -> (..., out)"""
        check_linear(input, weight, bias)
        with np.errstate(all="ignore"):
            output = np.matmul(input, weight.T)
            return np.asarray(output if bias is None else output + bias, order="C")

    def linear_backward_input(self, grad_output, weight):
        """(..., out) @ (out, in) -> (..., in)"""
        with np.errstate(all="ignore"):
            return np.asarray(np.matmul(grad_output, weight), order="C")

    def linear_backward_weight(self, grad_output, input):
        """(..., out)^T @ (..., in) -> (out, in)"""
        with np.errstate(all="ignore"):
            return np.asarray(np.matmul(rows(grad_output).T, rows(input)), order="C")

    def linear_backward_bias(self, grad_output):
        """(..., out) -> (out,)"""
        with np.errstate(all="ignore"):
            return np.sum(rows(grad_output), 0, np.float64).astype(grad_output.dtype)
