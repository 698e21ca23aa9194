"""What tests of the tape start from: a vector, a matrix, and a function of a user."""

from __future__ import annotations

from typing import Any

import numpy as np

import minidl


def leaf(*values: float, lib: Any = minidl) -> Any:
    """A float64 vector that requires a gradient, of minidl or of PyTorch."""
    return lib.tensor(list(values), dtype=lib.float64, requires_grad=True)


def matrix(lib: Any, requires_grad: bool = False) -> Any:
    """A (3, 4) float64 matrix that shares the memory of a NumPy array."""
    x = lib.from_numpy(np.arange(1.0, 13.0).reshape(3, 4))
    return x.requires_grad_() if requires_grad else x


class Scale(minidl.autograd.Function):
    """``x * factor`` whose rule reads its input and its output."""

    @staticmethod
    def forward(ctx, x, factor):
        out = x * factor
        ctx.save_for_backward(x, out)
        ctx.factor = factor
        return out

    @staticmethod
    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        return grad * ctx.factor + 0.0 * x + 0.0 * out, None
