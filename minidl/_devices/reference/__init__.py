"""The reference device: every operation in readable NumPy.  It is the specification, the fallback and the oracle."""

from .conv import ConvReference
from .creation import CreationReference
from .indexing import IndexingReference
from .matmul import MatmulReference
from .memory import MemoryReference
from .pointwise import PointwiseReference
from .pool import PoolReference
from .reduce import ReduceReference
from .shape import ShapeReference


class Reference(
    PointwiseReference,
    ReduceReference,
    MatmulReference,
    ShapeReference,
    IndexingReference,
    CreationReference,
    ConvReference,
    PoolReference,
    MemoryReference,
):
    """Takes and returns NumPy arrays of any strides; results are fresh and C-contiguous unless named views."""
