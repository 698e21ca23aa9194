"""The CPU device: the reference with its hot operations overridden by compiled kernels."""

from ..reference import Reference
from .creation import CreationCPU
from .indexing import IndexingCPU
from .matmul import MatmulCPU
from .pointwise import PointwiseCPU
from .reduce import ReduceCPU
from .shape import ShapeCPU


class CPU(
    PointwiseCPU,
    ReduceCPU,
    MatmulCPU,
    ShapeCPU,
    IndexingCPU,
    CreationCPU,
    Reference,
):
    """The signatures are those of the reference; arrays come from the caching allocator."""
