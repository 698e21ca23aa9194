"""The process of one library: ``python -m benchmarks.child PROCESSORS``; pickled questions on stdin, answers on stdout.

PROCESSORS binds the process to so many of the processors that it may use; 0 leaves it as it is.  It must happen before
the library is imported: JAX makes as many threads as it sees processors.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import Any


def answers(questions: Any, write: Any) -> None:
    """Answer until there are no more questions."""
    from benchmarks.peers import Local

    locals_: dict[Any, Local] = {}
    while True:
        try:
            what, library, *arguments = pickle.load(questions)
        except EOFError:
            return
        peer = locals_.setdefault(library, Local(library))
        try:
            reply = True, getattr(peer, what)(*arguments)
        except Exception:
            reply = False, traceback.format_exc()
        pickle.dump(reply, write)
        write.flush()


def main() -> None:
    """Bind, and answer; what a library prints goes to stderr."""
    processors = int(sys.argv[1])
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
    with os.fdopen(os.dup(1), "wb") as write:
        os.dup2(2, 1)
        answers(sys.stdin.buffer, write)


if __name__ == "__main__":
    main()
