"""The parent's side of a ``DataLoader``'s worker processes.

Tasks are dealt to the workers in turn and each worker replies in order, so that the next batch is always the next
message of a known worker: nothing arrives out of order and nothing has to be sorted.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import connection as mp_connection
from typing import Any

from minidl.utils.data import worker
from minidl.utils.data.worker import END_OF_STREAM, NEW_EPOCH, STOP, Failure, Task

PATIENCE = 5.0  # seconds that a worker gets to end by itself

# The parent's ends of all sockets to workers: a forked worker closes its copies, or another worker would not see that
# the parent has closed one.
_ends: weakref.WeakSet[Any] = weakref.WeakSet()


class WorkerPool:
    """Worker processes of a loader, started when this is made and stopped by ``close`` or when it is let go."""

    def __init__(self, loader: Any) -> None:
        self.timeout = loader.timeout or None
        self.persistent = loader.persistent_workers
        self.ahead = loader.prefetch_factor * loader.num_workers
        self.waiting: deque[int] = deque()  # the workers whose replies come next, in this order
        self.epochs = 0
        self.processes: list[Any] = []
        self._connections: list[Any] = []
        self._close = weakref.finalize(self, _close, os.getpid(), self.processes, self._connections)
        context = _context(loader.multiprocessing_context)
        try:
            for number in range(loader.num_workers):
                self._start_worker(context, number, loader)
        except BaseException:
            self.close()
            raise

    def _start_worker(self, context: Any, number: int, loader: Any) -> None:
        ours, theirs = context.Pipe()
        _ends.add(ours)
        self._connections.append(ours)
        arguments = (theirs, number, loader.num_workers, loader._base_seed, loader.dataset,
                     loader.batch_sampler is not None, loader.collate_fn, loader.drop_last, loader.worker_init_fn)
        process = context.Process(target=_run, args=arguments, daemon=True)
        with warnings.catch_warnings():
            # Python warns of forking a process with threads. Ours are OpenMP's, for which the child does not wait: it
            # computes with one (see minidl._ext.threads).
            warnings.filterwarnings("ignore", r".*use of fork\(\) may lead to deadlocks", DeprecationWarning)
            process.start()
        theirs.close()
        self.processes.append(process)

    @property
    def closed(self) -> bool:
        """Whether the workers were stopped."""
        return not self._close.alive

    def close(self) -> None:
        """Stop the workers; what they are computing is lost."""
        self._close()

    def start(self, indices: Iterator[Any]) -> Iterator[Any]:
        """The batches for ``indices``, the first of which are being made from now on; ends an epoch under way."""
        while self.waiting:
            self.receive(self.waiting.popleft())
        for number in range(len(self.processes)):
            self.send(number, NEW_EPOCH)
        self.epochs += 1
        return _Batches(self, indices)

    def send(self, number: int, message: Any) -> None:
        try:
            worker.send(self._connections[number], message)
        except OSError:
            self._died(number)

    def receive(self, number: int) -> Any:
        """The next message of a worker.  After an error or an interrupt the workers are stopped."""
        connection, process = self._connections[number], self.processes[number]
        try:
            ready = mp_connection.wait([connection, process.sentinel], self.timeout)
            if not ready:
                raise RuntimeError(f"DataLoader timed out after {self.timeout} seconds: worker {number} "
                                   f"(pid {process.pid}) is alive and has not finished its batch")
            # A worker that ended may have sent something before.
            if connection not in ready and not connection.poll():
                self._died(number)
            return worker.receive(connection)
        except (EOFError, ConnectionError):
            self._died(number)
        except BaseException:
            self.close()
            raise

    def _died(self, number: int) -> None:
        process = self.processes[number]
        process.join(PATIENCE)
        code, pid = process.exitcode, process.pid
        self.close()
        if code is not None and code < 0:
            how = f"killed by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += ", as the system does when memory runs out"
        else:
            how = f"exit code {code}"
        raise RuntimeError(f"DataLoader worker {number} (pid {pid}) exited unexpectedly: {how}") from None


class _Batches(Iterator[Any]):
    """The batches of one epoch, in order."""

    def __init__(self, pool: WorkerPool, indices: Iterator[Any]) -> None:
        self._pool = pool
        self._epoch = pool.epochs
        self._indices = indices
        self._alive = [True] * len(pool.processes)  # False when a worker's stream has ended
        self._turn = 0
        for _ in range(pool.ahead):
            self._deal()

    def _deal(self) -> None:
        """Give the next task to the next worker that has not come to its end."""
        workers = len(self._alive)
        turn = next((turn for turn in range(self._turn, self._turn + workers) if self._alive[turn % workers]), None)
        if turn is None:
            return
        try:
            indices = next(self._indices)
        except StopIteration:
            return
        self._turn = (turn + 1) % workers
        self._pool.send(turn % workers, Task(indices))
        self._pool.waiting.append(turn % workers)

    def __next__(self) -> Any:
        pool = self._pool
        if self._epoch != pool.epochs:
            raise RuntimeError("DataLoader: this iterator ended when another began with the same persistent workers")
        while pool.waiting:
            if pool.closed:
                raise RuntimeError("DataLoader: the workers were stopped by an error or an interrupt; begin a new "
                                   "iteration")
            number = pool.waiting.popleft()
            reply = pool.receive(number)
            if reply == END_OF_STREAM:
                if self._alive[number]:
                    self._alive[number] = False
                    self._deal()
                continue
            self._deal()
            if isinstance(reply, Failure):
                reply.reraise()
            return reply.data
        if not pool.persistent:
            pool.close()
        raise StopIteration


def _run(connection: Any, *arguments: Any) -> None:
    for end in list(_ends):
        end.close()
    worker.run(connection, *arguments)


def _close(owner: int, processes: list[Any], connections: list[Any]) -> None:
    if os.getpid() != owner:
        return  # in a forked copy of the parent
    for connection in connections:
        with suppress(OSError):
            worker.send(connection, STOP)
        connection.close()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        for end in (lambda: None, process.terminate, process.kill):
            end()
            process.join(max(0.1, deadline - time.monotonic()))
            if process.exitcode is not None:
                break


def _context(wanted: Any) -> Any:
    """The multiprocessing context that is asked for, else the user's choice, else fork on Linux."""
    if wanted is not None and not isinstance(wanted, str):
        return wanted
    method = wanted or multiprocessing.get_start_method(allow_none=True)
    if method is None and sys.platform == "linux":
        method = "fork"
    return multiprocessing.get_context(method)
