"""One thread policy for every kernel.

A kernel asks ``team(microseconds)`` how many OpenMP threads its work deserves: an OpenMP region costs 2 to
40 us to enter, so anything below about 40 us of work stays on the calling thread.  ``OMP_NUM_THREADS`` and
``set_num_threads`` set the upper limit.  In a forked child the limit is one for good: GNU OpenMP waits there
for threads that exist only in the parent.
"""

import os

cdef extern from "omp.h" nogil:
    int omp_get_max_threads()

cdef int _limit = omp_get_max_threads()
cdef bint _forked = False

SERIAL_BELOW_US = 40.0
cdef double _serial_below_us = SERIAL_BELOW_US


cdef int team(double microseconds) noexcept nogil:
    """Threads for a piece of work that takes one thread this long."""
    if microseconds < _serial_below_us:
        return 1
    return _limit


cdef int thread_limit() noexcept nogil:
    return _limit


def get_num_threads():
    """Number of threads that CPU kernels may use."""
    return _limit


def set_num_threads(int threads):
    """Set the number of threads that CPU kernels may use.

    Raises ``RuntimeError`` for a number below one, as PyTorch does.
    """
    global _limit
    if threads < 1:
        raise RuntimeError(f"set_num_threads expects a positive integer, got {threads}")
    if not _forked:
        _limit = threads


def _after_fork_in_child():
    global _limit, _forked
    _forked = True
    _limit = 1


os.register_at_fork(after_in_child=_after_fork_in_child)
