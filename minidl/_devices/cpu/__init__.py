"""The CPU device: the reference with its hot operations overridden by compiled kernels."""

from ..reference import Reference
from .matmul import MatmulCPU
from .pointwise import PointwiseCPU


class CPU(
    PointwiseCPU,
    MatmulCPU,
    Reference,
):
    """The signatures are those of the reference; arrays come from the caching allocator."""
