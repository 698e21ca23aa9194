"""Reductions on the CPU: sums and means in compiled code, the others from the reference."""

from ..._ext import reductions
from ..reference.reduce import ReduceReference

_reference = ReduceReference()


class ReduceCPU(ReduceReference):
    """float32 and float64; other dtypes stay with the reference."""

    sum = staticmethod(reductions.sum(_reference.sum))
    mean = staticmethod(reductions.mean(_reference.mean))
    sum_to = staticmethod(reductions.sum_to(_reference.sum_to))
