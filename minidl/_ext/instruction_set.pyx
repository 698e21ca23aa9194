"""Which of the compiled variants of a kernel this process uses: that of the widest vectors the processor has.

The environment variable ``MINIDL_ISA`` (``base``, ``avx2`` or ``avx512``) chooses a lesser one, and ``use`` another one
later on: tests run them all.  On processors other than x86-64 there is only ``base``.
"""

import os

cdef extern from *:
    """
    static int minidl_best_level(void)
    {
    #if defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
            if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
                && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
                return 2;
            return 1;
        }
    #endif
        return 0;
    }
    """
    int minidl_best_level()

NAMES = ("base", "avx2", "avx512")
cdef int _best = minidl_best_level()
cdef int _level = _best


cdef int isa_level() noexcept nogil:
    """0, 1 or 2: the place of the instruction set in ``NAMES``."""
    return _level


def supported():
    """The names of the instruction sets that this processor can run."""
    return NAMES[:_best + 1]


def used():
    """The name of the instruction set that kernels use."""
    return NAMES[_level]


def use(str name not None):
    """Let kernels use this instruction set from now on; returns the name of the one before.

    Raises ``ValueError`` for one that is unknown or that the processor does not have.
    """
    global _level
    if name not in supported():
        raise ValueError(f"instruction set {name!r}: this processor runs {', '.join(supported())}")
    before = NAMES[_level]
    _level = NAMES.index(name)
    return before


_asked = os.environ.get("MINIDL_ISA")
if _asked:
    try:
        use(_asked)
    except ValueError as error:
        raise ImportError(f"MINIDL_ISA={_asked}: {error}; unset it or choose one of these") from None
