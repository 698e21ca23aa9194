"""Timing two programs against each other on a machine that others use too.

Both are run in turn, a short block of calls each, so that a slow spell of the machine meets both.  A block, not one
call: a training loop runs the same step again and again and finds its code and its data in the caches, where a single
call of the other framework in between would have put its own.  What is told is the smallest time and the median of the
calls, and the ratio of each.  A median far above the minimum means that the machine was busy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Pair:
    """Seconds per call of ours and of the peer."""

    case: str
    ours_min: float
    ours_median: float
    peer_min: float
    peer_median: float

    @property
    def ratio_min(self) -> float:
        """How many times as fast we are, best call against best call."""
        return self.peer_min / self.ours_min

    @property
    def ratio_median(self) -> float:
        """The same of the medians."""
        return self.peer_median / self.ours_median

    @property
    def spread(self) -> float:
        """Our median over our minimum: 1 on a quiet machine."""
        return self.ours_median / self.ours_min

    def row(self) -> str:
        """One line of the table."""
        return (
            f"{self.case:<28} {1e3 * self.ours_min:9.3f} {1e3 * self.ours_median:9.3f} {1e3 * self.peer_min:9.3f} "
            f"{1e3 * self.peer_median:9.3f} {self.ratio_min:7.1f} {self.ratio_median:7.1f} {self.spread:7.2f}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ratio_min": self.ratio_min, "ratio_median": self.ratio_median, "spread": self.spread}


HEADER = (
    f"{'ms per call':<28} {'minidl':>9} {'median':>9} {'PyTorch':>9} {'median':>9} "
    f"{'ratio':>7} {'median':>7} {'spread':>7}"
)


def interleaved(
    case: str, ours: Callable[[], Any], peer: Callable[[], Any], calls: int, block: int = 10, warm_up: int = 5
) -> Pair:
    """Time ``ours`` and ``peer`` in turn, ``block`` calls each, until each had at least ``calls``, after a warm-up."""
    for _ in range(warm_up):
        ours()
        peer()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(-(-calls // block)):
        for function, taken in zip((ours, peer), seconds, strict=True):
            for _ in range(block):
                start = time.perf_counter()
                function()
                taken.append(time.perf_counter() - start)
    mine, theirs = seconds
    return Pair(case, min(mine), statistics.median(mine), min(theirs), statistics.median(theirs))
