"""What is timed on a GPU: a case of ``benchmarks.case`` with its precision, its work, and what it has to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.case import Case

# Largest difference of two right results, of the largest number, by precision.  float32: sums of up to 200,000 products
# in different orders.  TF32: both libraries round every factor, to 2**-11, and in different places.
TOLERANCE = {"float32": 1e-4, "TF32": 5e-3, "float64": 1e-11}


@dataclass(frozen=True)
class GPUCase(Case):
    """``beside`` names the columns besides minidl's.  ``flops`` and ``nbytes`` are the work of one call of ``inner``.

    ``goals``: for a column how many times as fast minidl has to be; ``share`` the part of the measured bandwidth of a
    copy that it has to move its bytes with.
    """

    unit: str = "us"
    precision: str = "float32"
    beside: tuple[str, ...] = ("PyTorch",)
    flops: float = 0
    nbytes: float = 0
    goals: Mapping[str, float] = field(default_factory=dict, compare=False)
    share: float = 0
