"""Convolution as its definition reads: seven plain loops in float64.  Slow for ever, and the judge of all others."""

from collections.abc import Iterator

import numpy as np

from minidl.geometry import Conv2dGeometry


def conv2d_direct(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry) -> np.ndarray:
    """output (N, OC, OH, OW) of input (N, C, H, W), weight (OC, C/groups, KH, KW) and bias (OC,) or None."""
    input, weight = input.astype(np.float64), weight.astype(np.float64)
    output = np.zeros(g.output_shape)
    for at_output, at_input, at_weight in products(g):
        output[at_output] += input[at_input] * weight[at_weight]
    return output if bias is None else output + bias.astype(np.float64)[:, None, None]


def conv2d_direct_backward(grad_output: np.ndarray, input: np.ndarray, weight: np.ndarray,
                           g: Conv2dGeometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(grad_input, grad_weight, grad_bias): each product of the forward pass, differentiated."""
    grad_output, input, weight = (array.astype(np.float64) for array in (grad_output, input, weight))
    grad_input, grad_weight = np.zeros(g.input_shape), np.zeros(g.weight_shape)
    for at_output, at_input, at_weight in products(g):
        grad_input[at_input] += grad_output[at_output] * weight[at_weight]
        grad_weight[at_weight] += grad_output[at_output] * input[at_input]
    return grad_input, grad_weight, grad_output.sum(axis=(0, 2, 3))


def products(g: Conv2dGeometry) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """The places in output, input and weight of every product that a convolution adds up."""
    for n in range(g.N):
        for oc in range(g.OC):
            group = oc // (g.OC // g.groups)
            for oh in range(g.OH):
                for ow in range(g.OW):
                    for c in range(g.C // g.groups):
                        for kh in range(g.KH):
                            ih = oh * g.stride_h + kh * g.dilation_h - g.pad_top
                            for kw in range(g.KW):
                                iw = ow * g.stride_w + kw * g.dilation_w - g.pad_left
                                if 0 <= ih < g.H and 0 <= iw < g.W:
                                    yield (n, oc, oh, ow), (n, group * (g.C // g.groups) + c, ih, iw), (oc, c, kh, kw)
