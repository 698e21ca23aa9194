"""Softmax and its logarithm on the GPU: cuda/softmax.cu."""

from __future__ import annotations

import math

from minidl._ext.device_array import DeviceArray

from .arrays import SUFFIX, ArraysCUDA
from .teams import plan


class SoftmaxCUDA(ArraysCUDA):
    """Softmax and its logarithm, for float32 and float64."""

    def softmax(self, input: DeviceArray, dim: int) -> DeviceArray:
        return self._along(dim, "softmax_forward", input, 0)

    def log_softmax(self, input: DeviceArray, dim: int) -> DeviceArray:
        return self._along(dim, "softmax_forward", input, 1)

    def softmax_backward(self, grad_output: DeviceArray, output: DeviceArray, dim: int) -> DeviceArray:
        return self._along(dim, "softmax_backward", grad_output, self.dense(output), 0)

    def log_softmax_backward(self, grad_output: DeviceArray, output: DeviceArray, dim: int) -> DeviceArray:
        return self._along(dim, "softmax_backward", grad_output, self.dense(output), 1)

    def _along(self, dim: int, kernel: str, x: DeviceArray, *arguments: object) -> DeviceArray:
        x = self.dense(x)
        result = self.empty(x.shape, x.dtype)
        if x.size:
            C, inner = (x.shape[dim], math.prod(x.shape[dim + 1:])) if x.ndim else (1, 1)
            rows = x.size // C
            how = plan(rows, C, inner > 1, True)
            self.launch("softmax", f"{kernel}_{SUFFIX[x.dtype]}", (how.blocks, 1), (how.threads, 1, 1), result, x,
                        *arguments, how.lanes, how.columns, C, inner, rows)
        return result
