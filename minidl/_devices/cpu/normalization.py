"""Batch normalization and dropout on the CPU: the compiled kernels, the reference for what they do not take."""

import numpy as np

from minidl._devices.reference.normalization import NormalizationReference
from minidl._ext import normalization as kernels


class NormalizationCPU(NormalizationReference):
    """A kernel returns None for what it does not take."""

    def batch_norm(self, input: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None,
                   running_mean: np.ndarray | None, running_var: np.ndarray | None, training: bool, momentum: float,
                   eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        result = kernels.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)
        if result is None:
            return super().batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)
        return result

    def batch_norm_backward(self, grad_output: np.ndarray, input: np.ndarray, weight: np.ndarray | None,
                            mean: np.ndarray, rstd: np.ndarray,
                            training: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        grads = kernels.batch_norm_backward(grad_output, input, weight, mean, rstd, training)
        if grads is None:
            return super().batch_norm_backward(grad_output, input, weight, mean, rstd, training)
        return grads

    def dropout_apply(self, input: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
        output = kernels.dropout_apply(input, mask, scale)
        return super().dropout_apply(input, mask, scale) if output is None else output
