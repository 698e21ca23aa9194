"""The CPU device: the reference with its hot operations overridden by compiled kernels."""

from ..reference import Reference
from .matmul import MatmulCPU
from .pointwise import PointwiseCPU
from .reduce import ReduceCPU


class CPU(
    PointwiseCPU,
    ReduceCPU,
    MatmulCPU,
    Reference,
):
    """The signatures are those of the reference; arrays come from the caching allocator."""
