"""A GPU for tests on machines without one: CUDA's driver, emulated on the CPU.

    import cuda_emulation
    gpu = cuda_emulation.load()        # before anything imports pycuda.driver

builds a stand-in for libcuda.so.1 with g++ (once; see ``build``), loads it, and names in ``MINIDL_NVCC`` a command that
stands in for nvcc.  After that PyCUDA and the code above it run unchanged: kernels are compiled by g++ and run one
thread after the other.  Where PyCUDA is not built, a stand-in for it takes its name.  README.md says what is emulated
and what is not.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec

from cuda_emulation import build
from cuda_emulation.build import CannotEmulateError, nvcc, real_nvcc
from cuda_emulation.control import Counters, Emulation

__all__ = ["CannotEmulateError", "Counters", "Emulation", "load", "nvcc", "real_nvcc"]

_loaded: Emulation | None = None


def load(*, checks: bool = True, ptx: bool = False, stand_in: bool = False, **settings: int) -> Emulation:
    """Make this process's GPU the emulated one, and return what steers it.  Later calls only change settings.

    ``checks`` and ``ptx`` choose what ``MINIDL_NVCC`` does (see ``build.nvcc``); ``stand_in`` takes the stand-in for
    PyCUDA although PyCUDA is there; ``settings`` are those of ``Emulation.configure``.  Raises ``CannotEmulateError``
    where g++ is missing, and ``RuntimeError`` where ``pycuda.driver`` already uses another driver.
    """
    global _loaded
    os.environ["MINIDL_NVCC"] = str(nvcc(checks=checks, ptx=ptx))
    if _loaded is None:
        if "pycuda.driver" in sys.modules:
            raise RuntimeError("cuda_emulation.load() comes too late: pycuda.driver has been imported")
        if stand_in or find_spec("pycuda") is None:
            sys.path.insert(0, str(build.HERE / "without_pycuda"))
        # Its soname is libcuda.so.1: whoever asks the loader for that name later is given this library.
        _loaded = Emulation(ctypes.CDLL(str(build.library()), mode=ctypes.RTLD_GLOBAL))
    _loaded.configure(**settings)
    return _loaded
