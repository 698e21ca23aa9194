"""The libraries that are timed, each in a process of its own, as its users have it.

A process does nothing while it is not its turn.  They talk through pipes: ``prepare`` a case, then ``turn`` after
turn.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks import FAMILIES
from benchmarks.case import Case, Job, Library, Options, Result

# Memory that has been freed is kept and not given back to the system: without this, fresh pages cost PyTorch more than
# the arithmetic where tensors are large.
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592",
                "MALLOC_TOP_PAD_": "268435456"}

# Seconds between turns.  PyTorch's threads go on spinning for some milliseconds after their work; without a rest they
# took 4 ms from whoever came next.
REST = 0.03


@dataclass(frozen=True)
class Kind:
    """A column: its title, the library, and what its process needs."""

    title: str
    library: Library
    process: str                                    # kinds of one process share it
    environment: tuple[tuple[str, str], ...] = ()


KINDS = {
    "minidl": Kind("minidl", Library("minidl"), "minidl"),
    "torch": Kind("PyTorch", Library("torch"), "torch"),
    "torch-malloc": Kind("tuned malloc", Library("torch"), "torch-malloc", tuple(TUNED_MALLOC.items())),
    "torch-channels-last": Kind("channels_last", Library("torch", channels_last=True), "torch"),
    "jax": Kind("JAX jit", Library("jax"), "jax"),
}


def installed(kind: str) -> bool:
    """Whether the library of a column can be imported here."""
    return importlib.util.find_spec(KINDS[kind].library.name) is not None


def find_case(family: str, name: str, options: Options) -> Case:
    """The case of that name."""
    cases: list[Case] = importlib.import_module(f"benchmarks.{FAMILIES[family]}").cases(family, options)
    return next(case for case in cases if case.name == name)


class Peer(Protocol):
    """Someone who can be asked to time a case."""

    def prepare(self, family: str, case: str, threads: int, options: Options) -> list[Result] | None:
        """Make the case; its results, or None where it has none."""

    def turn(self, calls: int) -> list[float]:
        """Seconds of so many calls, after one that is not counted."""


class Local:
    """A library in this process."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.job: Job | None = None

    def prepare(self, family: str, case: str, threads: int, options: Options) -> list[Result] | None:
        self.job = None  # the memory of the one before goes first
        self.library.set_threads(threads)
        self.job = find_case(family, case, options).make(self.library)
        return None if self.job is None else self.job.results

    def turn(self, calls: int) -> list[float]:
        assert self.job is not None
        call, seconds = self.job.call, []
        if calls > 1:
            call()
        for _ in range(calls):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds


class Process:
    """A process with one library, and the columns that it serves."""

    def __init__(self, kind: Kind, threads: int, bind: bool = False) -> None:
        environment = os.environ | dict(kind.environment)
        if bind and not kind.library.is_jax:  # JAX's threads would inherit the one processor of its main thread
            environment["OMP_PROC_BIND"] = "true"
        if kind.library.is_jax:
            environment["JAX_PLATFORMS"] = "cpu"
            if threads == 1:
                environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false " + environment.get("XLA_FLAGS", "")
        bound = str(threads) if kind.library.is_jax else "0"
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.child", bound], env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *question: Any) -> Any:
        """Send a question and wait for the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            pickle.dump(question, self.process.stdin)
            self.process.stdin.flush()
            fine, answer = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError):
            raise SystemExit(f"benchmarks: the process of a library ended with {self.process.wait()} at {question}; "
                             "see above") from None
        if not fine:
            raise SystemExit(f"benchmarks: {question}:\n{answer}")
        return answer

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Remote:
    """A column served by a process."""

    def __init__(self, process: Process, library: Library) -> None:
        self.process, self.library = process, library

    def prepare(self, family: str, case: str, threads: int, options: Options) -> list[Result] | None:
        found: list[Result] | None = self.process.ask("prepare", self.library, family, case, threads, options)
        return found

    def turn(self, calls: int) -> list[float]:
        seconds: list[float] = self.process.ask("turn", self.library, calls)
        time.sleep(REST)
        return seconds


class Processes:
    """The processes of all columns for one number of threads; a context manager.

    With ``bind`` the threads of OpenMP, minidl's and PyTorch's alike, stay on a processor each.
    """

    def __init__(self, kinds: list[str], threads: int, bind: bool = False) -> None:
        self.processes: dict[str, Process] = {}
        self.peers: dict[str, Peer] = {}
        for name in kinds:
            kind = KINDS[name]
            if kind.process not in self.processes:
                self.processes[kind.process] = Process(kind, threads, bind)
            self.peers[name] = Remote(self.processes[kind.process], kind.library)

    def __enter__(self) -> dict[str, Peer]:
        return self.peers

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.close()
