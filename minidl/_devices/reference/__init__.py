"""The reference device: every operation in readable NumPy.  It is the specification, the fallback and the oracle."""

from .conv import ConvReference
from .creation import CreationReference
from .indexing import IndexingReference
from .loss import LossReference
from .matmul import MatmulReference
from .memory import MemoryReference
from .normalization import NormalizationReference
from .optimizer import OptimizerReference
from .pointwise import PointwiseReference
from .pool import PoolReference
from .random import RandomReference
from .reduce import ReduceReference
from .shape import ShapeReference
from .softmax import SoftmaxReference


class Reference(
    PointwiseReference,
    ReduceReference,
    MatmulReference,
    ShapeReference,
    IndexingReference,
    CreationReference,
    ConvReference,
    PoolReference,
    SoftmaxReference,
    LossReference,
    NormalizationReference,
    OptimizerReference,
    RandomReference,
    MemoryReference,
):
    """Takes and returns NumPy arrays of any strides; results are fresh and C-contiguous unless named views."""
