"""Convolution: its derivatives are convolutions of its own three kinds, so any order of derivative closes."""

from __future__ import annotations

import numpy as np

from minidl._ext.core import Op, Tensor, formulas
from minidl.geometry import Conv2dGeometry


@formulas
def _conv2d_backward(F, node, grad, input, weight):
    geometry = node.args[3]
    return (
        F.conv2d_backward_input(grad, weight, geometry),
        F.conv2d_backward_weight(grad, input, geometry),
        F.conv2d_backward_bias(grad),
    )


def _conv2d_pooled_backward(F, node, grad, input, weight):
    if node.needs(1) and node.needs(2):
        return F.conv2d_relu_max_pool2d_backward(grad.grad_output, grad.codes.codes, input, weight, node.args[3],
                                                 node.needs(0))
    return _conv2d_backward(F, node, grad.dense(), input, weight)


@formulas
def _conv2d_backward_input_backward(F, node, grad, grad_output, weight):
    """grad has the input's shape: grad_input is linear in grad_output and in weight."""
    geometry = node.args[2]
    return F.conv2d(grad, weight, None, geometry), F.conv2d_backward_weight(grad_output, grad, geometry)


@formulas
def _conv2d_backward_weight_backward(F, node, grad, grad_output, input):
    """grad has the weight's shape: grad_weight is linear in grad_output and in input."""
    geometry = node.args[2]
    return F.conv2d(input, grad, None, geometry), F.conv2d_backward_input(grad_output, grad, geometry)


def _conv2d_backward_bias_backward(F, node, grad):
    shape = node.args[0]
    return F.expand(F.reshape(grad, (1, shape[1], 1, 1)), shape)


_EACH_FOR_THE_OTHER = {0: (1,), 1: (0,)}
_FLOAT32 = np.dtype(np.float32)     # the one object that every native array of it has


def _may_wait(backend, raws, needs_input):
    """A convolution waits for a ReLU where the device has one pass for both; what is wrong is said at once."""
    input, _, bias, geometry = raws
    if bias is None or bias.size != geometry.OC or input.dtype is not _FLOAT32:
        return None
    return geometry.output_shape if backend.can_fuse_conv2d(geometry, needs_input) else None


# input (N, C, H, W), weight (OC, C/groups, KH, KW), bias (OC,) or None, geometry -> (N, OC, OH, OW)
conv2d = Op("conv2d", "ConvolutionBackward0", backward=_conv2d_backward, saves=_EACH_FOR_THE_OTHER,
            defers=_may_wait, pooled=_conv2d_pooled_backward)
Op("conv2d_backward_input", "ConvolutionBackwardBackward0", backward=_conv2d_backward_input_backward,
   saves=_EACH_FOR_THE_OTHER)
Op("conv2d_backward_weight", "ConvolutionBackwardBackward0", backward=_conv2d_backward_weight_backward,
   saves=_EACH_FOR_THE_OTHER)
Op("conv2d_backward_bias", "SumBackward1", backward=_conv2d_backward_bias_backward)


def _conv_transpose2d_forward(F, input, weight, geometry, bias):
    """The transpose of a convolution takes what the convolution's output would have to what made it."""
    output = F.conv2d_backward_input(input, weight, geometry)
    if bias is not None:
        F.add_(output, F.reshape(bias, (1, geometry.C, 1, 1)))
    return output


def _conv_transpose2d_backward(F, node, grad, input, weight):
    grad_input, grad_weight = _conv2d_backward_input_backward(F, node, grad, input, weight)
    return grad_input, grad_weight, None, F.conv2d_backward_bias(grad) if node.needs(3) else None


def _as_image(F, x):
    """(A, B, L) -> (A, B, 1, L)"""
    return None if x is None else F.reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2]))


def _as_line(F, x):
    """(A, B, 1, L) -> (A, B, L)"""
    return None if x is None else F.reshape(x, (x.shape[0], x.shape[1], x.shape[3]))


def _in_one_row(forward):
    """``forward`` over images, for lines: input and weight, the first two arguments, become images of one row."""
    def in_one_row(F, input, weight, *rest):
        return _as_line(F, forward(F, _as_image(F, input), _as_image(F, weight), *rest))

    return in_one_row


def _derived_in_one_row(rule):
    """The derivative ``rule`` of an op over images, for the same op over lines."""
    def backward(F, node, *lines):
        input, weight, *rest = rule(F, node, *(_as_image(F, line) for line in lines))
        return _as_line(F, input), _as_line(F, weight), *rest

    return backward


_conv_transpose2d = Op("conv_transpose2d", "ConvolutionBackward0", backward=_conv_transpose2d_backward,
                       forward=_conv_transpose2d_forward, saves=_EACH_FOR_THE_OTHER)
# input (N, C, L), weight (OC, C/groups, K), bias (OC,) or None, geometry -> (N, OC, OL)
conv1d = Op("conv1d", "ConvolutionBackward0", backward=_derived_in_one_row(_conv2d_backward),
            forward=_in_one_row(lambda F, *arguments: F.conv2d(*arguments)), saves=_EACH_FOR_THE_OTHER)
_conv_transpose1d = Op("conv_transpose1d", "ConvolutionBackward0",
                       backward=_derived_in_one_row(_conv_transpose2d_backward),
                       forward=_in_one_row(_conv_transpose2d_forward), saves=_EACH_FOR_THE_OTHER)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Conv2dGeometry) -> Tensor:
    """input (N, C, H, W), weight (C, OC/groups, KH, KW), bias (OC,) or None -> (N, OC, OH, OW).

    ``geometry`` is that of the convolution whose transpose this is: (N, OC, OH, OW) to (N, C, H, W).
    """
    return _conv_transpose2d(input, weight, geometry, bias)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Conv2dGeometry) -> Tensor:
    """input (N, C, L), weight (C, OC/groups, K), bias (OC,) or None -> (N, OC, OL); otherwise as on images."""
    return _conv_transpose1d(input, weight, geometry, bias)
