"""How threads are spread over results that several of them work for: the teams of cuda/common.cuh."""

from __future__ import annotations

import functools
from typing import NamedTuple

from .arrays import THREADS

BLOCKS = 1024  # what a large reduction is split into, whatever the GPU, so that all give the same bits
WORK = 16  # numbers for each thread, below which nothing is split


class Plan(NamedTuple):
    """The shape of a launch: ``lanes`` threads for each result, ``splits`` rows of ``blocks`` of ``threads``."""

    lanes: int
    columns: bool
    threads: int
    blocks: int
    splits: int


@functools.lru_cache(4096)
def plan(results: int, numbers: int, columns: bool, whole: bool = False) -> Plan:
    """A plan for so many results of so many numbers each.

    ``columns`` tells that results lie closer together than the numbers of one; ``whole`` forbids splits.
    """
    if columns:
        lanes = min(power_of_two(numbers), THREADS // min(32, power_of_two(results)))
        if results >= 32 * BLOCKS:
            lanes = min(lanes, power_of_two(-(-numbers // WORK)))
    else:
        lanes = min(THREADS, power_of_two(-(-numbers // 4)))
    teams = max(min(THREADS // lanes, power_of_two(results)), 32 // lanes, 1)
    blocks = -(-results // teams)
    splits = 1 if whole else max(1, min(BLOCKS // max(blocks, 1), numbers // (lanes * WORK)))
    return Plan(lanes, columns, teams * lanes, blocks, splits)


def power_of_two(number: int) -> int:
    """The smallest power of two that is not less; 1 for 0."""
    return 1 << max(number - 1, 0).bit_length()
