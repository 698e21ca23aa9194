"""2-d convolution on the CPU: allocates the results, makes the arguments contiguous, calls minidl/_ext/conv2d.pyx.

Which kernel computes is decided there, in ``choose_kernel``.
"""

import numpy as np

from minidl._devices.cpu.contiguous import contiguous
from minidl._devices.reference.conv import ConvReference
from minidl._ext.conv2d import (
    conv2d_backward_bias,
    conv2d_backward_input,
    conv2d_backward_weight,
    conv2d_forward,
)
from minidl._ext.storage import empty
from minidl.geometry import Conv2dGeometry


class ConvCPU(ConvReference):
    """The methods of ``ConvReference`` for float32 and float64, over BLAS and OpenMP threads."""

    def conv2d(self, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None,
               geometry: Conv2dGeometry) -> np.ndarray:
        output = empty(geometry.output_shape, input.dtype)
        conv2d_forward(output, contiguous(input), contiguous(weight), bias if bias is None else contiguous(bias),
                       geometry)
        return output

    def conv2d_backward_input(self, grad_output: np.ndarray, weight: np.ndarray,
                              geometry: Conv2dGeometry) -> np.ndarray:
        grad_input = empty(geometry.input_shape, grad_output.dtype)
        conv2d_backward_input(grad_input, contiguous(grad_output), contiguous(weight), geometry)
        return grad_input

    def conv2d_backward_weight(self, grad_output: np.ndarray, input: np.ndarray,
                               geometry: Conv2dGeometry) -> np.ndarray:
        grad_weight = empty(geometry.weight_shape, input.dtype)
        conv2d_backward_weight(grad_weight, contiguous(grad_output), contiguous(input), geometry)
        return grad_weight

    def conv2d_backward_bias(self, grad_output: np.ndarray) -> np.ndarray:
        grad_bias = empty((grad_output.shape[1],), grad_output.dtype)
        conv2d_backward_bias(grad_bias, contiguous(grad_output))
        return grad_bias
