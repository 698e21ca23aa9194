"""2-d convolution on the CPU: the kernels of minidl/_ext/conv2d.pyx.

Which kernel computes is decided in minidl/_ext/conv2d_table.pyx.
"""

import numpy as np

from minidl._devices.reference.conv import ConvReference
from minidl._ext import conv2d as kernels
from minidl._ext import conv2d_fused
from minidl.geometry import Conv2dGeometry


class ConvCPU(ConvReference):
    """The methods of ``ConvReference`` for float32 and float64, over BLAS and OpenMP threads."""

    def conv2d(self, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None,
               geometry: Conv2dGeometry) -> np.ndarray:
        return kernels.conv2d_forward(input, weight, bias, geometry)

    def conv2d_backward_input(self, grad_output: np.ndarray, weight: np.ndarray,
                              geometry: Conv2dGeometry) -> np.ndarray:
        return kernels.conv2d_backward_input(grad_output, weight, geometry)

    def conv2d_backward_weight(self, grad_output: np.ndarray, input: np.ndarray,
                               geometry: Conv2dGeometry) -> np.ndarray:
        return kernels.conv2d_backward_weight(grad_output, input, geometry)

    def conv2d_backward_bias(self, grad_output: np.ndarray) -> np.ndarray:
        return kernels.conv2d_backward_bias(grad_output)

    def can_fuse_conv2d(self, geometry: Conv2dGeometry, needs_input: bool) -> bool:
        return conv2d_fused.can_fuse(geometry, needs_input)

    conv2d_relu = staticmethod(conv2d_fused.conv2d_relu_forward)
    conv2d_relu_max_pool2d = staticmethod(conv2d_fused.conv2d_relu_pool_forward)
    conv2d_relu_max_pool2d_backward = staticmethod(conv2d_fused.conv2d_relu_pool_backward)
