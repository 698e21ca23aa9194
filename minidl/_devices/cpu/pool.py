"""2-d pooling on the CPU: the kernels of minidl/_ext/pooling.pyx and adaptive_pooling.pyx."""

import numpy as np

from minidl._devices.reference.pool import PoolReference
from minidl._ext import adaptive_pooling, pooling
from minidl.geometry import Pool2dGeometry


class PoolCPU(PoolReference):
    """The methods of ``PoolReference`` for float32 and float64; ``max_pool2d`` of integers stays the reference's."""

    def max_pool2d(self, input: np.ndarray, geometry: Pool2dGeometry) -> tuple[np.ndarray, np.ndarray]:
        if input.dtype.kind != "f":
            return super().max_pool2d(input, geometry)
        return pooling.max_pool2d_forward(input, geometry)

    max_pool2d_backward = staticmethod(pooling.max_pool2d_backward)
    max_pool2d_gather = staticmethod(pooling.max_pool2d_gather)

    # Rare: only where somebody looks at a gradient that travels as bytes.
    max_pool2d_expand = PoolReference.max_pool2d_expand
    max_pool2d_indices = PoolReference.max_pool2d_indices

    def avg_pool2d(self, input: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool,
                   divisor_override: int | None) -> np.ndarray:
        return pooling.avg_pool2d_forward(input, geometry, count_include_pad, divisor_override or 0)

    def avg_pool2d_backward(self, grad_output: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool,
                            divisor_override: int | None) -> np.ndarray:
        return pooling.avg_pool2d_backward(grad_output, geometry, count_include_pad, divisor_override or 0)

    def adaptive_avg_pool2d(self, input: np.ndarray, output_size: tuple[int, int]) -> np.ndarray:
        return adaptive_pooling.adaptive_avg_pool2d_forward(input, *output_size)

    def adaptive_avg_pool2d_backward(self, grad_output: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
        return adaptive_pooling.adaptive_avg_pool2d_backward(grad_output, *input_shape[2:])
