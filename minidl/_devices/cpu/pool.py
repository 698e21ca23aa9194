"""2-d pooling on the CPU: allocates the results, makes the arguments contiguous, calls minidl/_ext/pooling.pyx."""

import numpy as np

from minidl._devices.cpu.contiguous import contiguous
from minidl._devices.reference.pool import PoolReference
from minidl._ext import pooling
from minidl._ext.storage import empty
from minidl.geometry import Pool2dGeometry

_int32 = np.dtype(np.int32)


class PoolCPU(PoolReference):
    """The methods of ``PoolReference`` for float32 and float64; ``max_pool2d`` of integers stays the reference's."""

    def max_pool2d(self, input: np.ndarray, geometry: Pool2dGeometry) -> tuple[np.ndarray, np.ndarray]:
        if input.dtype.kind != "f":
            return super().max_pool2d(input, geometry)
        output = empty(geometry.output_shape, input.dtype)
        indices = empty(geometry.output_shape, _int32)
        pooling.max_pool2d_forward(output, indices, contiguous(input), geometry)
        return output, indices

    def max_pool2d_backward(self, grad_output: np.ndarray, indices: np.ndarray,
                            geometry: Pool2dGeometry) -> np.ndarray:
        grad_input = empty(geometry.input_shape, grad_output.dtype)
        pooling.max_pool2d_backward(grad_input, contiguous(grad_output), contiguous(indices), geometry)
        return grad_input

    def max_pool2d_gather(self, input: np.ndarray, indices: np.ndarray, geometry: Pool2dGeometry) -> np.ndarray:
        output = empty(geometry.output_shape, input.dtype)
        pooling.max_pool2d_gather(output, contiguous(input), contiguous(indices), geometry)
        return output

    def avg_pool2d(self, input: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool,
                   divisor_override: int | None) -> np.ndarray:
        output = empty(geometry.output_shape, input.dtype)
        pooling.avg_pool2d_forward(output, contiguous(input), geometry, count_include_pad, divisor_override or 0)
        return output

    def avg_pool2d_backward(self, grad_output: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool,
                            divisor_override: int | None) -> np.ndarray:
        grad_input = empty(geometry.input_shape, grad_output.dtype)
        pooling.avg_pool2d_backward(grad_input, contiguous(grad_output), geometry, count_include_pad,
                                    divisor_override or 0)
        return grad_input

    def adaptive_avg_pool2d(self, input: np.ndarray, output_size: tuple[int, int]) -> np.ndarray:
        output = empty((*input.shape[:2], *output_size), input.dtype)
        pooling.adaptive_avg_pool2d_forward(output, contiguous(input))
        return output

    def adaptive_avg_pool2d_backward(self, grad_output: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
        grad_input = empty(tuple(input_shape), grad_output.dtype)
        pooling.adaptive_avg_pool2d_backward(grad_input, contiguous(grad_output))
        return grad_input
