"""Pooling over windows on the GPU: cuda/pooling.cu and cuda/adaptive_pooling.cu."""

from __future__ import annotations

import math

import numpy as np

from minidl._ext.device_array import DeviceArray
from minidl.geometry import Pool2dGeometry

from .arrays import SUFFIX, THREADS, ArraysCUDA
from .teams import power_of_two

_INT32 = np.dtype(np.int32)


class PoolCUDA(ArraysCUDA):
    """Pooling over windows.  Indices beyond the plane, which only somebody's own can be, count as -1: none."""

    def max_pool2d(self, input: DeviceArray, geometry: Pool2dGeometry) -> tuple[DeviceArray, DeviceArray]:
        input = self.dense(input)
        output = self.empty(geometry.output_shape, input.dtype)
        indices = self.empty(geometry.output_shape, _INT32)
        self._max("forward", SUFFIX[input.dtype], geometry, output, indices, input)
        return output, indices

    def max_pool2d_backward(self, grad_output: DeviceArray, indices: DeviceArray,
                            geometry: Pool2dGeometry) -> DeviceArray:
        grad_output, indices = self.dense(grad_output), self.dense(indices)
        grad_input = self.empty(geometry.input_shape, grad_output.dtype)
        self._max("backward", SUFFIX[grad_output.dtype], geometry, grad_input, grad_output, indices)
        return grad_input

    def _max(self, direction: str, suffix: str, g: Pool2dGeometry, result: DeviceArray, *arrays: DeviceArray) -> None:
        kernel = f"max_pool2d_{direction}_2x2_{suffix}" if g.halves else f"max_pool2d_{direction}_{suffix}"
        windows = (g.H, g.W, g.OH, g.OW) if g.halves else (g.packed,)
        self.launch_each("pooling", kernel, result.size, result, *arrays, *windows, result.size)

    def max_pool2d_gather(self, input: DeviceArray, indices: DeviceArray, geometry: Pool2dGeometry) -> DeviceArray:
        g = geometry
        input, indices = self.dense(input), self.dense(indices)
        output = self.empty(g.output_shape, input.dtype)
        self.launch_each("pooling", f"max_pool2d_gather_{SUFFIX[input.dtype]}", output.size, output, input, indices,
                         g.H * g.W, g.OH * g.OW, output.size)
        return output

    def max_pool2d_expand(self, grad_output: DeviceArray, codes: DeviceArray, input_shape: tuple[int, ...],
                          rectified: bool) -> DeviceArray:
        grad_output, codes = self.dense(grad_output), self.dense(codes)
        grad_input = self.empty(input_shape, grad_output.dtype)
        self.launch_each("pooling", f"max_pool2d_expand_{SUFFIX[grad_output.dtype]}", grad_input.size, grad_input,
                         grad_output, codes, rectified, *input_shape[2:], grad_input.size)
        return grad_input

    def max_pool2d_indices(self, codes: DeviceArray, input_shape: tuple[int, ...]) -> DeviceArray:
        codes = self.dense(codes)
        indices = self.empty(codes.shape, _INT32)
        self.launch_each("pooling", "max_pool2d_indices", indices.size, indices, codes, *input_shape[2:], indices.size)
        return indices

    def avg_pool2d(self, input: DeviceArray, geometry: Pool2dGeometry, count_include_pad: bool,
                   divisor_override: int | None) -> DeviceArray:
        input = self.dense(input)
        output = self.empty(geometry.output_shape, input.dtype)
        self.launch_each("pooling", f"avg_pool2d_forward_{SUFFIX[input.dtype]}", output.size, output, input,
                         geometry.packed, count_include_pad, divisor_override or 0, output.size)
        return output

    def avg_pool2d_backward(self, grad_output: DeviceArray, geometry: Pool2dGeometry, count_include_pad: bool,
                            divisor_override: int | None) -> DeviceArray:
        grad_output = self.dense(grad_output)
        grad_input = self.empty(geometry.input_shape, grad_output.dtype)
        self.launch_each("pooling", f"avg_pool2d_backward_{SUFFIX[grad_output.dtype]}", grad_input.size, grad_input,
                         grad_output, geometry.packed, count_include_pad, divisor_override or 0, grad_input.size)
        return grad_input

    def adaptive_avg_pool2d(self, input: DeviceArray, output_size: tuple[int, int]) -> DeviceArray:
        input = self.dense(input)
        H, W = input.shape[2:]
        OH, OW = output_size
        output = self.empty((*input.shape[:2], OH, OW), input.dtype)
        if output.size:
            window = math.ceil(H / OH) * math.ceil(W / OW)
            lanes = min(THREADS, power_of_two(window // 8)) if window >= 32 else 1
            self.launch("adaptive_pooling", f"adaptive_avg_pool2d_forward_{SUFFIX[input.dtype]}",
                        (-(-output.size * lanes // THREADS), 1), (THREADS, 1, 1), output, input, lanes, H, W, OH, OW,
                        output.size)
        return output

    def adaptive_avg_pool2d_backward(self, grad_output: DeviceArray, input_shape: tuple[int, ...]) -> DeviceArray:
        grad_output = self.dense(grad_output)
        grad_input = self.empty(input_shape, grad_output.dtype)
        self.launch_each("adaptive_pooling", f"adaptive_avg_pool2d_backward_{SUFFIX[grad_output.dtype]}",
                         grad_input.size, grad_input, grad_output, *input_shape[2:], *grad_output.shape[2:],
                         grad_input.size)
        return grad_input
