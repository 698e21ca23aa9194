"""PyTorch's switches of convolutions on GPUs, as far as they mean something here: minidl has no cuDNN, but own kernels.

    allow_tf32      True by default, as in PyTorch: large convolutions of float32 may use tensor cores in TF32, with
                    factors rounded to ten bits behind the point, errors of about 1e-3 of a product
    deterministic   kept, without effect: all kernels of minidl give the same bits every time
    benchmark       kept, without effect: which kernel a shape gets is in a table, nothing is measured while training;
                    ``minidl.backends.cuda.conv_plan`` tells which
    enabled         kept, without effect
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from minidl._devices.cuda import precision

allow_tf32: bool  # a property of the module, see the end of this file
deterministic = False
benchmark = False
enabled = True


def is_available() -> bool:
    """Always False: there is no cuDNN."""
    return False


def version() -> None:
    """Always None: there is no cuDNN."""


@contextmanager
def flags(enabled: bool = False, benchmark: bool = False, deterministic: bool = False,
          allow_tf32: bool = True) -> Iterator[None]:
    """Set the switches for the time of a ``with`` block; the defaults are PyTorch's."""
    module = sys.modules[__name__]
    wanted = {"enabled": enabled, "benchmark": benchmark, "deterministic": deterministic, "allow_tf32": allow_tf32}
    before = {name: getattr(module, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


class _Switches(ModuleType):
    @property
    def allow_tf32(self) -> bool:
        return precision.tf32_in_convolution

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        if not isinstance(allowed, bool):
            raise RuntimeError(f"set_allow_tf32_cudnn expects a bool, but got {type(allowed).__name__}")
        precision.tf32_in_convolution = allowed


sys.modules[__name__].__class__ = _Switches
