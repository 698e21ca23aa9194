"""2-d convolution in readable NumPy: the specification that faster devices are compared with.

A convolution is a sum over the taps (kh, kw) of its kernel: each tap looks at the padded input shifted by
``(kh * dilation_h, kw * dilation_w)``, one pixel every ``(stride_h, stride_w)``, and mixes the channels of a group
with a small matrix.  The two gradients walk over the same taps and the same shifted views.
"""

import numpy as np

from minidl.geometry import Conv2dGeometry


class ConvReference:
    """``conv2d`` (cross-correlation, as everywhere in deep learning) and its three gradients.

    ``input`` is (N, C, H, W), ``weight`` (OC, C/groups, KH, KW), ``bias`` (OC,) or None, ``output`` (N, OC, OH, OW);
    a gradient has the shape of what it is the gradient of.  All four may have any strides.
    """

    def conv2d(self, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None,
               geometry: Conv2dGeometry) -> np.ndarray:
        """output[n, oc, oh, ow] = bias[oc] + sum over c, kh, kw of weight[oc, c, kh, kw] * padded[n, c, ih, iw]"""
        g = geometry
        padded = _pad(input, g)
        weight = _split_groups(weight, 0, g)
        output = np.zeros((g.N, g.groups, g.OC // g.groups, g.OH, g.OW), input.dtype)
        for kh, kw, rows, columns in _taps(g):
            seen = _split_groups(padded[:, :, rows, columns], 1, g)
            output += np.einsum("goc,ngchw->ngohw", weight[..., kh, kw], seen)
        output = output.reshape(g.output_shape)
        if bias is not None:
            output += bias.reshape(1, g.OC, 1, 1)
        return output

    def conv2d_backward_input(self, grad_output: np.ndarray, weight: np.ndarray,
                              geometry: Conv2dGeometry) -> np.ndarray:
        """Each output pixel hands its gradient back to the input pixels it was made from."""
        g = geometry
        grad_padded = np.zeros((g.N, g.C, g.H + g.pad_top + g.pad_bottom, g.W + g.pad_left + g.pad_right),
                               grad_output.dtype)
        weight = _split_groups(weight, 0, g)
        grad_output = _split_groups(grad_output, 1, g)
        for kh, kw, rows, columns in _taps(g):
            grad_seen = np.einsum("goc,ngohw->ngchw", weight[..., kh, kw], grad_output)
            grad_padded[:, :, rows, columns] += grad_seen.reshape(g.N, g.C, g.OH, g.OW)
        return grad_padded[:, :, g.pad_top:g.pad_top + g.H, g.pad_left:g.pad_left + g.W].copy()

    def conv2d_backward_weight(self, grad_output: np.ndarray, input: np.ndarray,
                               geometry: Conv2dGeometry) -> np.ndarray:
        """Each tap correlates what it saw with the gradient of what it made, over images and output pixels."""
        g = geometry
        padded = _pad(input, g)
        grad_output = _split_groups(grad_output, 1, g)
        grad_weight = np.zeros((g.groups, g.OC // g.groups, g.C // g.groups, g.KH, g.KW), input.dtype)
        for kh, kw, rows, columns in _taps(g):
            seen = _split_groups(padded[:, :, rows, columns], 1, g)
            grad_weight[..., kh, kw] = np.einsum("ngohw,ngchw->goc", grad_output, seen)
        return grad_weight.reshape(g.weight_shape)

    def conv2d_backward_bias(self, grad_output: np.ndarray) -> np.ndarray:
        """The sum of ``grad_output`` (N, OC, OH, OW) over everything but the output channel."""
        return np.asarray(grad_output.sum(axis=(0, 2, 3)))

    # -- several ops in one pass, for a compiled step; float32 with a bias

    def can_fuse_conv2d(self, geometry: Conv2dGeometry, needs_input: bool) -> bool:
        """Whether the device gains from the three functions below; ``needs_input``: also grad_input is wanted."""
        return False

    def conv2d_relu(self, input: np.ndarray, weight: np.ndarray, bias: np.ndarray,
                    geometry: Conv2dGeometry) -> np.ndarray:
        """relu(conv2d(input, weight) + bias)"""
        output = self.conv2d(input, weight, bias, geometry)
        return np.where(output <= 0, 0, output)

    def conv2d_relu_max_pool2d(self, input: np.ndarray, weight: np.ndarray, bias: np.ndarray,
                               geometry: Conv2dGeometry) -> tuple[np.ndarray, np.ndarray]:
        """max_pool2d(relu(conv2d(input, weight) + bias), 2) and a code (uint8) per window: which of its four pixels has
        the maximum, 0 to 3 in reading order, or 4 where none is positive and no gradient passes."""
        windows = _windows(self.conv2d_relu(input, weight, bias, geometry))
        output = windows.max(-1)
        codes = np.where(output > 0, windows.argmax(-1), 4).astype(np.uint8)
        return output, codes

    def conv2d_relu_max_pool2d_backward(
            self, grad_output: np.ndarray, codes: np.ndarray, input: np.ndarray, weight: np.ndarray,
            geometry: Conv2dGeometry, needs_input: bool) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """(grad_input or None, grad_weight, grad_bias) from the gradient of the pooled output and the codes."""
        g = geometry
        grad = self.max_pool2d_expand(grad_output, codes, g.output_shape, True)
        grad_input = self.conv2d_backward_input(grad, weight, g) if needs_input else None
        return grad_input, self.conv2d_backward_weight(grad, input, g), self.conv2d_backward_bias(grad)


def _windows(image: np.ndarray) -> np.ndarray:
    """The 2x2 windows of (N, C, H, W) as (N, C, H // 2, W // 2, 4)."""
    N, C, H, W = image.shape
    halves = image[:, :, : H // 2 * 2, : W // 2 * 2].reshape(N, C, H // 2, 2, W // 2, 2)
    return halves.transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)


def _pad(input: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    """``input`` inside a frame of zeros."""
    return np.pad(input, ((0, 0), (0, 0), (g.pad_top, g.pad_bottom), (g.pad_left, g.pad_right)))


def _split_groups(array: np.ndarray, axis: int, g: Conv2dGeometry) -> np.ndarray:
    """``array`` with its channel axis cut into (groups, channels of a group)."""
    shape = array.shape
    return array.reshape(*shape[:axis], g.groups, shape[axis] // g.groups, *shape[axis + 1:])


def _taps(g: Conv2dGeometry):
    """For each tap (kh, kw) the rows and columns of the padded input that it sees, one per output pixel."""
    for kh in range(g.KH):
        top = kh * g.dilation_h
        for kw in range(g.KW):
            left = kw * g.dilation_w
            yield (kh, kw, slice(top, top + (g.OH - 1) * g.stride_h + 1, g.stride_h),
                   slice(left, left + (g.OW - 1) * g.stride_w + 1, g.stride_w))
