"""An NVIDIA GPU: the operations of ``_devices/reference`` over kernels in ``cuda/*.cu``, launched by PyCUDA.

    runtime.py    the driver: contexts, streams, memory, launches; the only module that imports pycuda
    kernels.py    from source to machine code, and the cache of it
    scripts.py    what a thread takes and launches, written down
    graphs.py     a step as a CUDA graph; repeating.py is what minidl.compile asks
    arrays.py     what all operations stand on
    others        one file per family of operations, as in _devices/reference and _devices/cpu
"""

from __future__ import annotations

from typing import Any

from minidl._devices.reference import Reference

from .conv import ConvCUDA
from .creation import CreationCUDA
from .indexing import IndexingCUDA
from .loss import LossCUDA
from .matmul import MatmulCUDA
from .memory import MemoryCUDA
from .normalization import NormalizationCUDA
from .optimizer import OptimizerCUDA
from .perceptron import PerceptronCUDA
from .pointwise import PointwiseCUDA
from .pool import PoolCUDA
from .random import RandomCUDA
from .reduce import ReduceCUDA
from .repeating import RepeatingCUDA
from .shape import ShapeCUDA
from .softmax import SoftmaxCUDA


class CUDA(
    PointwiseCUDA,
    ReduceCUDA,
    MatmulCUDA,
    ShapeCUDA,
    IndexingCUDA,
    CreationCUDA,
    ConvCUDA,
    PoolCUDA,
    SoftmaxCUDA,
    LossCUDA,
    NormalizationCUDA,
    OptimizerCUDA,
    PerceptronCUDA,
    RandomCUDA,
    MemoryCUDA,
):
    """The signatures are those of the reference.  What has no kernel raises ``NotImplementedError``."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.repeating = RepeatingCUDA(self)

    def __getattr__(self, name: str) -> Any:
        if hasattr(Reference, name):
            raise NotImplementedError(f"{name} has no CUDA kernel; compute it on the CPU, with .cpu() of its arguments")
        raise AttributeError(f"a CUDA device has no operation {name!r}")
