"""Softmax in readable NumPy: the specification that faster devices are compared with."""

import numpy as np


class SoftmaxReference:
    """Softmax and its logarithm over one dimension, with their derivatives.

    ``dim`` counts from the front; a 0-d array counts as one class.  The largest number is subtracted first, so that no
    exponential overflows; a slice that holds NaN, +inf, or -inf everywhere gives NaN, as in PyTorch.
    """

    @np.errstate(all="ignore")
    def softmax(self, input: np.ndarray, dim: int) -> np.ndarray:
        """exp(input) / sum of exp(input) over ``dim``"""
        x = _at_least_1d(input)
        exp = np.exp(x - x.max(axis=dim, keepdims=True, initial=-np.inf))
        return (exp / exp.sum(axis=dim, keepdims=True)).reshape(input.shape)

    @np.errstate(all="ignore")
    def log_softmax(self, input: np.ndarray, dim: int) -> np.ndarray:
        """input - log of the sum of exp(input) over ``dim``"""
        x = _at_least_1d(input)
        shifted = x - x.max(axis=dim, keepdims=True, initial=-np.inf)
        return (shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))).reshape(input.shape)

    @np.errstate(all="ignore")
    def softmax_backward(self, grad_output: np.ndarray, output: np.ndarray, dim: int) -> np.ndarray:
        """(grad_output - sum of grad_output * output over ``dim``) * output, where ``output`` is the softmax"""
        g, y = _at_least_1d(grad_output), _at_least_1d(output)
        return ((g - (g * y).sum(axis=dim, keepdims=True)) * y).reshape(output.shape)

    @np.errstate(all="ignore")
    def log_softmax_backward(self, grad_output: np.ndarray, output: np.ndarray, dim: int) -> np.ndarray:
        """grad_output - exp(output) * sum of grad_output over ``dim``, where ``output`` is the log-softmax"""
        g, y = _at_least_1d(grad_output), _at_least_1d(output)
        return (g - np.exp(y) * g.sum(axis=dim, keepdims=True)).reshape(output.shape)


def _at_least_1d(array: np.ndarray) -> np.ndarray:
    """C-contiguous, and one class instead of none for a 0-d array."""
    return np.ascontiguousarray(array)
