"""2-d pooling in readable NumPy: the specification that faster devices are compared with.

``max_pool2d`` and ``avg_pool2d`` walk over the taps of the window, as the convolution does; a tap that lies in the
padding, or beyond it in the last window of ``ceil_mode``, takes no part.
"""

import numpy as np

from minidl.geometry import Pool2dGeometry, adaptive_window


class PoolReference:
    """Maximum, average and adaptive average pooling of (N, C, H, W) to (N, C, OH, OW), with their gradients."""

    def max_pool2d(self, input: np.ndarray, geometry: Pool2dGeometry) -> tuple[np.ndarray, np.ndarray]:
        """``(output, indices)``: the largest value of each window and where it lies, as h * W + w (int32).

        The first of several equal values counts; NaN is larger than everything (the last NaN counts), as in PyTorch.
        A window without a pixel (dilation can jump over a tiny input) gives the smallest value there is and index -1.
        """
        g = geometry
        floating = np.issubdtype(input.dtype, np.floating)
        smallest = -np.inf if floating else np.iinfo(input.dtype).min
        output = np.full(g.output_shape, smallest, input.dtype)
        indices = np.full(g.output_shape, -1, np.int32)
        for oh, ow, ih, iw in _taps(g):
            value = input[:, :, ih, iw]
            best = output[:, :, oh, ow]
            first = indices[:, :, oh, ow] < 0
            wins = first | (value > best) | (value != value)
            output[:, :, oh, ow] = np.where(wins, value, best)
            indices[:, :, oh, ow] = np.where(wins, ih * g.W + iw, indices[:, :, oh, ow])
        return output, indices

    def max_pool2d_backward(self, grad_output: np.ndarray, indices: np.ndarray,
                            geometry: Pool2dGeometry) -> np.ndarray:
        """Each window's gradient goes to the pixel that was its maximum."""
        g = geometry
        grad_input = np.zeros((g.N * g.C, g.H * g.W), grad_output.dtype)
        indices = indices.reshape(g.N * g.C, g.OH * g.OW)
        plane, window = np.nonzero(indices >= 0)
        np.add.at(grad_input, (plane, indices[plane, window]),
                  grad_output.reshape(g.N * g.C, g.OH * g.OW)[plane, window])
        return grad_input.reshape(g.input_shape)

    def max_pool2d_gather(self, input: np.ndarray, indices: np.ndarray, geometry: Pool2dGeometry) -> np.ndarray:
        """``input`` at ``indices``: the adjoint of ``max_pool2d_backward``; zero where an index is -1."""
        g = geometry
        places = indices.reshape(g.N, g.C, g.OH * g.OW)
        output = np.take_along_axis(input.reshape(g.N, g.C, g.H * g.W), np.maximum(places, 0), axis=2)
        output[places < 0] = 0
        return output.reshape(g.output_shape)

    def max_pool2d_expand(self, grad_output: np.ndarray, codes: np.ndarray, input_shape: tuple[int, ...],
                          rectified: bool) -> np.ndarray:
        """(N, C, H, W): the gradient of each 2x2 window at the pixel that its code names, as ``conv2d_relu_max_pool2d``
        gives codes.  4 names none if the gradient is ``rectified``, that of the ReLU's input, else the first."""
        grad_input = np.zeros(input_shape, grad_output.dtype)
        H, W = input_shape[2:]
        if not rectified:
            codes = np.where(codes == 4, 0, codes)
        for code in range(4):
            seen = grad_input[:, :, code // 2 : H // 2 * 2 : 2, code % 2 : W // 2 * 2 : 2]
            np.copyto(seen, grad_output, where=codes == code)
        return grad_input

    def max_pool2d_indices(self, codes: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
        """The places h * W + w that the codes name; for 4 the window's first pixel."""
        H, W = input_shape[2:]
        code = np.where(codes == 4, 0, codes).astype(np.int32)
        rows = 2 * np.arange(H // 2, dtype=np.int32)[:, None] + code // 2
        return rows * W + 2 * np.arange(W // 2, dtype=np.int32) + code % 2

    def avg_pool2d(self, input: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool,
                   divisor_override: int | None) -> np.ndarray:
        """The sum of each window over its divisor (see ``_divisors``)."""
        g = geometry
        output = np.zeros(g.output_shape, input.dtype)
        for oh, ow, ih, iw in _taps(g):
            output[:, :, oh, ow] += input[:, :, ih, iw]
        output /= _divisors(g, count_include_pad, divisor_override).astype(input.dtype)
        return output

    def avg_pool2d_backward(self, grad_output: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool,
                            divisor_override: int | None) -> np.ndarray:
        """Each window's gradient over its divisor goes to all of its pixels."""
        g = geometry
        share = grad_output / _divisors(g, count_include_pad, divisor_override).astype(grad_output.dtype)
        grad_input = np.zeros(g.input_shape, grad_output.dtype)
        for oh, ow, ih, iw in _taps(g):
            grad_input[:, :, ih, iw] += share[:, :, oh, ow]
        return grad_input

    def adaptive_avg_pool2d(self, input: np.ndarray, output_size: tuple[int, int]) -> np.ndarray:
        """The mean of each of (OH, OW) windows that cover the input; they overlap where OH does not divide H."""
        N, C, H, W = input.shape
        OH, OW = output_size
        output = np.empty((N, C, OH, OW), input.dtype)
        for oh in range(OH):
            for ow in range(OW):
                output[:, :, oh, ow] = input[:, :, adaptive_window(H, OH, oh),
                                             adaptive_window(W, OW, ow)].mean(axis=(2, 3))
        return output

    def adaptive_avg_pool2d_backward(self, grad_output: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
        """Each window's gradient is shared equally by its pixels."""
        _, _, H, W = input_shape
        _, _, OH, OW = grad_output.shape
        grad_input = np.zeros(input_shape, grad_output.dtype)
        for oh in range(OH):
            for ow in range(OW):
                window = grad_input[:, :, adaptive_window(H, OH, oh), adaptive_window(W, OW, ow)]
                window += grad_output[:, :, oh:oh + 1, ow:ow + 1] / (window.shape[2] * window.shape[3])
        return grad_input


def _taps(g: Pool2dGeometry):
    """For each tap (kh, kw) of the window, as index arrays: the windows (oh, ow) that have it inside the input, and
    the pixels (ih, iw) where they have it."""
    for kh in range(g.KH):
        oh, ih = _side(g.OH, g.H, kh * g.dilation_h - g.pad_h, g.stride_h)
        for kw in range(g.KW):
            ow, iw = _side(g.OW, g.W, kw * g.dilation_w - g.pad_w, g.stride_w)
            yield oh[:, None], ow, ih[:, None], iw


def _side(windows: int, size: int, offset: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one side: the windows whose pixel ``window * stride + offset`` is inside ``size``, and that pixel."""
    window = np.arange(windows)
    pixel = window * stride + offset
    inside = (pixel >= 0) & (pixel < size)
    return window[inside], pixel[inside]


def _divisors(g: Pool2dGeometry, count_include_pad: bool, divisor_override: int | None) -> np.ndarray:
    """What each window's sum is divided by, (OH, OW): ``divisor_override``, or the number of its pixels, counting
    the padding (but nothing beyond it) or not."""
    if divisor_override is not None:
        return np.full((g.OH, g.OW), divisor_override)
    pad_h, pad_w = (g.pad_h, g.pad_w) if count_include_pad else (0, 0)
    rows, columns = (
        np.minimum(np.arange(windows) * stride - pad + kernel, size + counted)
        - np.maximum(np.arange(windows) * stride - pad, -counted)
        for windows, stride, pad, kernel, size, counted in (
            (g.OH, g.stride_h, g.pad_h, g.KH, g.H, pad_h), (g.OW, g.stride_w, g.pad_w, g.KW, g.W, pad_w)))
    return rows[:, None] * columns
