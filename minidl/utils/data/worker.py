"""What a worker process of a ``DataLoader`` does, and how messages travel to and from it.

A worker gets tasks (the indices of a batch each) and sends one reply for each, in order, over a socket of its own.  A
thread of the worker takes the tasks in, so that neither side can wait for the other to read: a parent that sends a
task never has to wait for a worker that is sending a batch.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl import _random
from minidl._ext.storage import empty
from minidl._ext.threads import set_num_threads
from minidl.utils.data.fetch import make_fetch

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

NEW_EPOCH = "new epoch"
END_OF_STREAM = "end of stream"
STOP = None
LOOK_FOR_PARENT = 5.0  # seconds between two looks whether the parent lives

_info: WorkerInfo | None = None


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker knows of itself: its number ``id`` of ``num_workers``, its ``seed`` and its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


def get_worker_info() -> WorkerInfo | None:
    """In a worker process of a ``DataLoader`` what it knows of itself, in the main process None."""
    return _info


@dataclass(frozen=True)
class Task:
    """The argument of one fetch."""

    indices: Any


@dataclass(frozen=True)
class Batch:
    """The result of one fetch."""

    data: Any


@dataclass(frozen=True)
class Failure:
    """An exception in a worker: its type, and its traceback as text."""

    kind: type[BaseException]
    text: str

    def reraise(self) -> None:
        """Raise an exception of this type with this text, or a ``RuntimeError`` where its type wants more."""
        try:
            exception = self.kind(_Text(self.text))
        except Exception:
            exception = RuntimeError(self.text)
        raise exception


class _Text(str):
    """A text that shows its line breaks also where only its ``repr`` is printed, as ``KeyError`` does."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def send(connection: Connection, message: Any) -> None:
    """Send ``message``, its arrays beside the rest as they lie in memory."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    connection.send_bytes(pickle.dumps((head, [view.nbytes for view in views])))
    for view in views:
        if view.nbytes:
            connection.send_bytes(view)


def receive(connection: Connection) -> Any:
    """What ``send`` sent; arrays lie in memory of the caching allocator.  Raises ``EOFError`` at the end."""
    head, sizes = pickle.loads(connection.recv_bytes())
    buffers = []
    for size in sizes:
        buffer = empty((size,), np.dtype(np.uint8))
        if size:
            connection.recv_bytes_into(buffer)
        buffers.append(buffer)
    return pickle.loads(head, buffers=buffers)


def failure(where: str) -> Failure:
    """The exception that is being handled."""
    text = traceback.format_exc()
    kind = sys.exc_info()[0] or RuntimeError
    return Failure(kind, f"Caught {kind.__name__} {where}.\nOriginal {text}")


def run(connection: Connection, number: int, num_workers: int, base_seed: int, dataset: Any, batched: bool,
        collate_fn: Callable[[Any], Any], drop_last: bool, worker_init_fn: Callable[[int], Any] | None) -> None:
    """The life of worker ``number``: replies to the tasks from ``connection`` until told to stop."""
    global _info
    # Ctrl-C reaches all processes of a terminal; it is the parent's to decide what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_num_threads(1)
    seed = base_seed + number
    random.seed(seed)
    _random.manual_seed(seed)
    entropy = [number, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    np.random.seed(np.random.SeedSequence(entropy).generate_state(4))
    _info = WorkerInfo(number, num_workers, seed, dataset)
    tasks: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_take_in, args=(connection, tasks), daemon=True).start()
    where = f"in DataLoader worker process {number}"

    fetch: Callable[[Any], Any] | None = None
    broken: Failure | None = None
    reply: Any
    try:
        if worker_init_fn is not None:
            worker_init_fn(number)
    except Exception:
        broken = failure(where)
    while (task := tasks.get()) is not STOP:
        if task == NEW_EPOCH:
            fetch = None
            continue
        try:
            if broken is None and fetch is None:
                fetch = make_fetch(dataset, batched, collate_fn, drop_last)
            reply = broken if fetch is None else Batch(fetch(task.indices))
        except StopIteration:
            reply = END_OF_STREAM
        except Exception:
            reply = failure(where)
        try:
            send_reply(connection, reply, where)
        except OSError:
            return  # nobody listens any more


def send_reply(connection: Connection, reply: Any, where: str) -> None:
    """Send a reply, or the reason why it cannot be sent."""
    try:
        send(connection, reply)
    except OSError:
        raise
    except Exception:
        reason = failure(where)
        send(connection, Failure(RuntimeError, reason.text))


def _take_in(connection: Connection, tasks: SimpleQueue[Any]) -> None:
    """Move tasks from the socket to the queue until there are no more; do not outlive the parent."""
    parent = os.getppid()
    try:
        while True:
            while not connection.poll(LOOK_FOR_PARENT):
                if os.getppid() != parent:
                    os._exit(1)
            tasks.put(receive(connection))
    except (EOFError, OSError):
        tasks.put(STOP)
