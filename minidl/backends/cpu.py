"""Switches and answers of the CPU kernels.

``allow_winograd_f4``, False by default, lets 3x3 convolutions of many channels in float32 use Winograd's F(4x4, 3x3).
It multiplies less than F(2x2, 3x3), which they use anyhow, and rounds more: errors of about 1e-5 of the largest output
instead of 1e-6.  That does not hurt training, but results are no longer those of another framework to six digits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from minidl import _types
from minidl._ext import conv2d_table, instruction_set
from minidl._ext.conv2d_table import Direction, Kernel
from minidl.geometry import IntOrPair, conv2d_geometry

allow_winograd_f4: bool         # a property of the module, see the end of this file

_CAPABILITY = {"base": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}


def get_cpu_capability() -> str:
    """The vector instructions that the kernels use: "DEFAULT", "AVX2" or "AVX512".

    It is the most that the processor has, or what the environment variable ``MINIDL_ISA`` (``base``, ``avx2``,
    ``avx512``) said when minidl was imported.
    """
    return _CAPABILITY[instruction_set.used()]


@dataclass(frozen=True)
class ConvChoice:
    """A kernel and why it is the one."""

    kernel: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kernel}: {self.reason}"


@dataclass(frozen=True)
class ConvPlan:
    """The kernels of one convolution, by direction; it prints as a table."""

    forward: ConvChoice
    backward_input: ConvChoice
    backward_weight: ConvChoice

    def __str__(self) -> str:
        return "\n".join(f"{name:<16} {choice}" for name, choice in vars(self).items())


def conv_plan(input_shape: Sequence[int], weight_shape: Sequence[int], stride: IntOrPair = 1,
              padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1,
              dtype: _types.dtype = _types.float32) -> ConvPlan:
    """Which kernels ``conv2d`` and its gradients use for an input ``(N, C, H, W)`` and a weight ``(OC, C/groups, KH,
    KW)`` with this instruction set, and the reason in words.

    It is the decision that a run takes, not a description of it.  Raises ``RuntimeError`` for shapes that do not fit
    each other, ``TypeError`` for a dtype that has no convolution, ``ValueError`` where ``use_conv_kernel`` has set a
    kernel that cannot compute this.
    """
    if dtype not in (_types.float32, _types.float64):
        raise TypeError(f"conv_plan: convolutions are computed in float32 and float64, got {dtype!r}")
    geometry = conv2d_geometry(input_shape, weight_shape, stride, padding, dilation, groups)

    def choice(direction: Direction) -> ConvChoice:
        kernel, reason = conv2d_table.explain(geometry, direction, dtype is _types.float32)
        return ConvChoice(kernel.name.lower(), reason)

    return ConvPlan(*map(choice, Direction))


@contextmanager
def use_conv_kernel(forward: str | None = None, backward_input: str | None = None,
                    backward_weight: str | None = None) -> Iterator[None]:
    """Let every convolution of the process use these kernels inside the ``with``: names as ``conv_plan`` prints them,
    None leaves the choice of that direction alone.

    For tests and measurements.  A convolution that a kernel set here cannot compute raises ``ValueError``, as an
    unknown name does.
    """
    names = zip(Direction, (forward, backward_input, backward_weight), strict=True)
    asked = {direction: _kernel(name) for direction, name in names if name is not None}
    before = {direction: conv2d_table.use(direction, kernel) for direction, kernel in asked.items()}
    try:
        yield
    finally:
        for direction, kernel in before.items():
            conv2d_table.use(direction, kernel)


def _kernel(name: str) -> Kernel:
    try:
        return Kernel[name.upper()]
    except KeyError:
        known = ", ".join(kernel.name.lower() for kernel in Kernel)
        raise ValueError(f"use_conv_kernel: no kernel is called {name!r}; there are {known}") from None


class _Switches(ModuleType):
    @property
    def allow_winograd_f4(self) -> bool:
        return conv2d_table.winograd_f4_allowed()

    @allow_winograd_f4.setter
    def allow_winograd_f4(self, allowed: bool) -> None:
        conv2d_table.allow_winograd_f4(allowed)


sys.modules[__name__].__class__ = _Switches
