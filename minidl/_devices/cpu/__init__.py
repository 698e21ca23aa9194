"""The CPU device: the reference with its hot operations overridden by compiled kernels."""

from ..reference import Reference
from .conv import ConvCPU
from .creation import CreationCPU
from .indexing import IndexingCPU
from .loss import LossCPU
from .matmul import MatmulCPU
from .normalization import NormalizationCPU
from .optimizer import OptimizerCPU
from .pointwise import PointwiseCPU
from .pool import PoolCPU
from .reduce import ReduceCPU
from .shape import ShapeCPU
from .softmax import SoftmaxCPU


class CPU(
    PointwiseCPU,
    ReduceCPU,
    MatmulCPU,
    ShapeCPU,
    IndexingCPU,
    CreationCPU,
    ConvCPU,
    PoolCPU,
    SoftmaxCPU,
    LossCPU,
    NormalizationCPU,
    OptimizerCPU,
    Reference,
):
    """The signatures are those of the reference; arrays come from the caching allocator."""
