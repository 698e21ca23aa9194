"""Convolution: its derivatives are convolutions of its own three kinds, so any order of derivative closes."""

from __future__ import annotations

from minidl._ext.core import Op, Tensor
from minidl.geometry import Conv2dGeometry


def _conv2d_backward(F, node, grad, input, weight):
    geometry = node.args[3]
    return (
        F.conv2d_backward_input(grad, weight, geometry) if node.needs(0) else None,
        F.conv2d_backward_weight(grad, input, geometry) if node.needs(1) else None,
        F.conv2d_backward_bias(grad) if node.needs(2) else None,
    )


def _conv2d_backward_input_backward(F, node, grad, grad_output, weight):
    """grad has the input's shape: grad_input is linear in grad_output and in weight."""
    geometry = node.args[2]
    return (
        F.conv2d(grad, weight, None, geometry) if node.needs(0) else None,
        F.conv2d_backward_weight(grad_output, grad, geometry) if node.needs(1) else None,
    )


def _conv2d_backward_weight_backward(F, node, grad, grad_output, input):
    """grad has the weight's shape: grad_weight is linear in grad_output and in input."""
    geometry = node.args[2]
    return (
        F.conv2d(input, grad, None, geometry) if node.needs(0) else None,
        F.conv2d_backward_input(grad_output, grad, geometry) if node.needs(1) else None,
    )


def _conv2d_backward_bias_backward(F, node, grad):
    shape = node.args[0]
    return F.expand(F.reshape(grad, (1, shape[1], 1, 1)), shape)


_EACH_FOR_THE_OTHER = {0: (1,), 1: (0,)}

_conv2d = Op("conv2d", "ConvolutionBackward0", backward=_conv2d_backward, saves=_EACH_FOR_THE_OTHER)
Op("conv2d_backward_input", "ConvolutionBackwardBackward0", backward=_conv2d_backward_input_backward,
   saves=_EACH_FOR_THE_OTHER)
Op("conv2d_backward_weight", "ConvolutionBackwardBackward0", backward=_conv2d_backward_weight_backward,
   saves=_EACH_FOR_THE_OTHER)
Op("conv2d_backward_bias", "SumBackward1", backward=_conv2d_backward_bias_backward)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Conv2dGeometry) -> Tensor:
    """input (N, C, H, W), weight (OC, C/groups, KH, KW), bias (OC,) or None -> (N, OC, OH, OW)."""
    return _conv2d(input, weight, bias, geometry)
