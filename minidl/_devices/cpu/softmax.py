"""Softmax on the CPU: the compiled kernels for float32 and float64, the reference for everything else."""

import numpy as np

from minidl._devices.reference.softmax import SoftmaxReference
from minidl._ext import softmax as kernels


class SoftmaxCPU(SoftmaxReference):
    """A kernel returns None for what it does not take."""

    def softmax(self, input: np.ndarray, dim: int) -> np.ndarray:
        output = kernels.softmax(input, dim)
        return super().softmax(input, dim) if output is None else output

    def log_softmax(self, input: np.ndarray, dim: int) -> np.ndarray:
        output = kernels.log_softmax(input, dim)
        return super().log_softmax(input, dim) if output is None else output

    def softmax_backward(self, grad_output: np.ndarray, output: np.ndarray, dim: int) -> np.ndarray:
        grad_input = kernels.softmax_backward(grad_output, output, dim)
        return super().softmax_backward(grad_output, output, dim) if grad_input is None else grad_input

    def log_softmax_backward(self, grad_output: np.ndarray, output: np.ndarray, dim: int) -> np.ndarray:
        grad_input = kernels.log_softmax_backward(grad_output, output, dim)
        return super().log_softmax_backward(grad_output, output, dim) if grad_input is None else grad_input
