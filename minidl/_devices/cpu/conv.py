"""2-d convolution on the CPU: the kernels of minidl/_ext/conv2d.pyx.

Which kernel computes is decided in minidl/_ext/conv2d_table.pyx.
"""

from minidl._devices.reference.conv import ConvReference
from minidl._ext import conv2d as kernels
from minidl._ext import conv2d_fused, conv2d_kept


class ConvCPU(ConvReference):
    """The methods of ``ConvReference`` for float32 and float64, over BLAS and OpenMP threads."""

    conv2d = staticmethod(kernels.conv2d_forward)
    conv2d_backward_input = staticmethod(kernels.conv2d_backward_input)
    conv2d_backward_weight = staticmethod(kernels.conv2d_backward_weight)
    conv2d_backward_bias = staticmethod(kernels.conv2d_backward_bias)
    can_fuse_conv2d = staticmethod(conv2d_fused.can_fuse)
    conv2d_relu = staticmethod(conv2d_fused.conv2d_relu_forward)
    conv2d_relu_max_pool2d = staticmethod(conv2d_fused.conv2d_relu_pool_forward)
    can_keep_conv2d_lanes = staticmethod(conv2d_fused.keeps_lanes)
    conv2d_relu_max_pool2d_lanes = staticmethod(conv2d_fused.conv2d_relu_pool_lanes)
    kept_conv2d_weights = staticmethod(conv2d_kept.kept_weights)
    conv2d_kept = staticmethod(conv2d_kept.conv2d_kept_forward)
    conv2d_relu_max_pool2d_backward = staticmethod(conv2d_fused.conv2d_relu_pool_backward)
