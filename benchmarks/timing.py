"""Timing libraries against each other on a machine that others use too.

They take turns, a short block of calls each, so that a slow spell of the machine meets all of them.  A block, not one
call: a training loop runs the same step again and again and finds its code and its data in the caches, where another
program in between would have put its own; so the first call of a block is not counted.  What is told is the smallest
time and the median, and the ratio of each.  A median far above the minimum means that the machine was busy.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.case import Case, Options, disagreement
from benchmarks.peers import KINDS, Peer

TURN = 0.06             # seconds that a block of calls should take
MOST_CALLS = 400        # in a block
PATIENCE = 20.0         # seconds for one case, where its calls are slow
UNITS = {"ms": 1e3, "us": 1e6, "s": 1.0, "MB": 1.0, "%": 1.0}


class DisagreementError(Exception):
    """Two libraries computed different things: there is nothing to time."""


@dataclass(frozen=True)
class Row:
    """What one case took: per column, figures in ``unit`` (seconds per call, in that unit, where it is a time)."""

    family: str
    case: str
    threads: int
    unit: str
    figures: dict[str, list[float]]
    group: str = ""
    larger_is_better: bool = False

    def least(self, kind: str) -> float:
        """The best figure."""
        return max(self.figures[kind]) if self.larger_is_better else min(self.figures[kind])

    def median(self, kind: str) -> float:
        """The middle one."""
        return statistics.median(self.figures[kind])

    def ratios(self, kind: str) -> tuple[float, float]:
        """How many times as good as a peer minidl is: best against best, median against median."""
        pairs = [(self.least(kind), self.least("minidl")), (self.median(kind), self.median("minidl"))]
        best, middle = (ours / peer if self.larger_is_better else peer / ours for peer, ours in pairs)
        return best, middle

    @property
    def peers(self) -> list[str]:
        """The columns that have figures, without minidl's."""
        return [kind for kind in self.figures if kind != "minidl"]

    @property
    def spread(self) -> float:
        """The largest median over minimum of any column: 1 on a quiet machine."""
        parts = [self.median(kind) / self.least(kind) for kind in self.figures]
        return max(1 / part if self.larger_is_better else part for part in parts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "family": self.family, "case": self.case, "threads": self.threads, "unit": self.unit, "group": self.group,
            "spread": self.spread,
            "figures": {kind: {"min": self.least(kind), "median": self.median(kind), "calls": len(values)}
                        for kind, values in self.figures.items()},
            "ratios": {kind: dict(zip(("min", "median"), self.ratios(kind), strict=True)) for kind in self.peers},
        }


def measure(family: str, case: Case, peers: Mapping[str, Peer], threads: int, options: Options) -> Row | None:
    """Prepare the case everywhere, compare the results, and time it; None where minidl has nothing to time.

    Raises ``DisagreementError`` where the results differ.
    """
    ready: dict[str, Peer] = {}
    reference = None
    for kind, peer in peers.items():  # minidl is the first
        results = peer.prepare(family, case.name, threads, options)
        if results is None:
            if kind == "minidl":
                return None
            continue
        reference = results if reference is None else reference
        wrong = disagreement(reference, results)
        if wrong:
            raise DisagreementError(f"{case.name}: minidl and {KINDS[kind].title} compute different things, so nothing "
                                    f"is timed.  {wrong}")
        ready[kind] = peer
    seconds = taken_in_turns(ready, options)
    scale = UNITS[case.unit] / case.inner
    figures = {kind: [scale * second for second in values] for kind, values in seconds.items()}
    return Row(family, case.name, threads, case.unit, figures, case.group)


def taken_in_turns(peers: Mapping[str, Peer], options: Options) -> dict[str, list[float]]:
    """Seconds of every counted call."""
    longest = TURN / 10 if options.quick else TURN
    calls = {}
    for kind, peer in peers.items():
        once = peer.turn(1)[0]
        if once < 0.5:  # the first call finds everything cold; where it takes that long it hardly matters
            once = min(once, peer.turn(1)[0])
        calls[kind] = min(max(int(longest / max(once, 1e-9)), 1 if once > 0.5 else 2), MOST_CALLS)
        if once * (calls[kind] + 1) < 2 * longest:  # short calls get warm by the dozen
            peer.turn(calls[kind])
    seconds: dict[str, list[float]] = {kind: [] for kind in peers}
    rounds = 2 if options.quick else 15
    for done in range(rounds):
        if done >= 3 and sum(map(sum, seconds.values())) > PATIENCE:
            break
        for kind, peer in peers.items():
            seconds[kind] += peer.turn(calls[kind])
    return seconds


def geometric_mean(values: Sequence[float]) -> float:
    """The mean for ratios."""
    return math.exp(statistics.fmean(map(math.log, values)))
