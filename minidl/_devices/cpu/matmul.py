"""Matrix products on the CPU, through BLAS."""

from ..._ext import gemm, reductions
from ..reference.matmul import MatmulReference

_reference = MatmulReference()


class MatmulCPU(MatmulReference):
    """float32 and float64 in compiled code; other dtypes stay with the reference."""

    matmul = staticmethod(gemm.matmul(_reference.matmul))
    linear = staticmethod(gemm.linear(_reference.linear))
    linear_backward_input = staticmethod(gemm.linear_backward_input(_reference.linear_backward_input))
    linear_backward_weight = staticmethod(gemm.linear_backward_weight(_reference.linear_backward_weight))
    linear_backward_bias = staticmethod(reductions.linear_backward_bias(_reference.linear_backward_bias))
