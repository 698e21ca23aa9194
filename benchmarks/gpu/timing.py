"""Libraries in turns on one GPU: blocks of calls between two CUDA events, and on the clock of the wall.

A block's first call is not counted.  Then events are recorded before and after ``calls`` calls, and the host waits for
the last: the events tell how long the GPU took from the first kernel on, with the gaps in which it waited for Python;
the wall adds the launch of the first and the wait for the last.  Both are told per call.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.case import Job, Library, Options, disagreement
from benchmarks.gpu.case import GPUCase
from benchmarks.gpu.libraries import KINDS, ON_CPU, OnGPU, precision
from benchmarks.timing import UNITS, DisagreementError, Row

TURN = 0.02             # seconds that a block should take
MOST_CALLS = 500        # in a block
WARM = 20               # calls before anything is counted, if they take less than WARMING seconds
WARMING = 0.2
ROUNDS = 15
LEAST = 1e-9            # seconds: an event counts in half microseconds, and a ratio needs something to divide by


@dataclass(frozen=True)
class Timed:
    """What a case took by both clocks; nothing, with the reason in ``note``, where minidl cannot do it yet."""

    case: GPUCase
    events: Row
    wall: Row
    judge: str = ""         # what minidl's numbers were compared with
    apart: float = 0.0      # the largest difference found, of the largest number
    note: str = ""


def measure(family: str, case: GPUCase, kinds: list[str], options: Options) -> Timed:
    """Make the case over each library, compare the results, and time it.

    ``kinds`` are the columns that can be filled here.  Raises ``DisagreementError`` where results differ.
    """
    kinds = [kind for kind in kinds if kind == "minidl" or kind in case.beside]
    rows = [Row(family, case.name, 0, case.unit, {}) for _ in range(2)]
    with precision(case.precision, kinds):
        try:
            jobs = {"minidl": _made(case, KINDS["minidl"])}
        except RuntimeWarning as warning:   # minidl.compile says why it does not repeat a step
            return Timed(case, *rows, note=str(warning))
        judges: dict[str, Any] = {kind: KINDS[kind] for kind in kinds[1:]} or {"minidl on the CPU": ON_CPU}
        apart = 0.0
        for kind, library in judges.items():
            job = _made(case, library)
            wrong = disagreement(jobs["minidl"].results, job.results)
            if wrong:
                raise DisagreementError(f"minidl and {kind} compute different things, so nothing is timed.  {wrong}")
            apart = max(apart, _apart(jobs["minidl"], job))
            if kind in KINDS:
                jobs[kind] = Job(job.call, [])
        for row, seconds in zip(rows, _in_turns(jobs, options), strict=True):
            scale = UNITS[case.unit] / case.inner
            for kind, values in seconds.items():
                row.figures[kind] = [scale * max(each, LEAST) for each in values]
    return Timed(case, *rows, judge=", ".join(judges), apart=apart)


def _made(case: GPUCase, library: Library) -> Job:
    if isinstance(library, OnGPU):
        with library.switched():
            job = case.make(library)
    else:
        job = case.make(library)
    assert job is not None, "a case says in beside who can do it"
    return job


def _apart(ours: Job, theirs: Job) -> float:
    """The largest difference of two jobs' results, each of the largest number in it."""
    pairs = [(mine.numbers, peer.numbers) for mine, peer in zip(ours.results, theirs.results, strict=True)]
    return max(float(np.abs(mine - peer).max(initial=0) / max(np.abs(peer).max(initial=0), 1e-30))
               for mine, peer in pairs)


def _in_turns(jobs: Mapping[str, Job], options: Options) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds per call of every block, by events and on the wall."""
    longest, rounds = (TURN / 10, 3) if options.quick else (TURN, ROUNDS)
    calls = {}
    for kind, job in jobs.items():
        begin = time.perf_counter()
        for _ in range(1 if options.tiny else WARM):
            job.call()
            if time.perf_counter() - begin > WARMING:
                break
        _, once = block(KINDS[kind], job, 1 if options.tiny else 3)
        calls[kind] = min(max(int(longest / once), 1), MOST_CALLS)
    events: dict[str, list[float]] = {kind: [] for kind in jobs}
    wall: dict[str, list[float]] = {kind: [] for kind in jobs}
    for _ in range(rounds):
        for kind, job in jobs.items():
            device, host = block(KINDS[kind], job, calls[kind])
            events[kind].append(device)
            wall[kind].append(host)
    return events, wall


def block(library: OnGPU, job: Job, calls: int) -> tuple[float, float]:
    """Seconds per call of so many calls, by events and on the wall, after one that is not counted."""
    cuda = library.lib.cuda
    start, end = (cuda.Event(enable_timing=True) for _ in range(2))
    with library.switched():
        job.call()
        cuda.synchronize()
        begin = time.perf_counter()
        start.record()
        for _ in range(calls):
            job.call()
        end.record()
        end.synchronize()
        host = time.perf_counter() - begin
    return float(start.elapsed_time(end)) / 1e3 / calls, host / calls


def copy_bandwidth(options: Options) -> float:
    """Bytes per second, read and written, with which the driver copies a block that no cache holds."""
    import minidl

    nbytes = 1 << (12 if options.tiny else 29)
    x, y = (minidl.zeros(nbytes // 4, device="cuda") for _ in range(2))
    from minidl._devices.cuda.process import driver

    job = Job(lambda: driver().memcpy_dtod_async(y.data_ptr(), x.data_ptr(), nbytes), [])
    fastest = min(block(KINDS["minidl"], job, 1 if options.tiny else 10)[0] for _ in range(2 if options.tiny else 10))
    return 2 * nbytes / max(fastest, LEAST)
