"""The CPU device: the reference with its hot operations overridden by compiled kernels."""

from ..reference import Reference
from .conv import ConvCPU
from .pool import PoolCPU


class CPU(
    ConvCPU,
    PoolCPU,
    Reference,
):
    """The signatures are those of the reference; arrays come from the caching allocator."""
