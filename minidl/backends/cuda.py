"""Switches and answers of the kernels for GPUs.

``matmul.allow_tf32``, False by default as in PyTorch, lets matrix products and Linear of float32 use tensor cores in
TF32: faster for large ones, with factors rounded to ten bits behind the point, errors of about 1e-3 of a product.
``minidl.set_float32_matmul_precision`` sets the same.  Convolutions have a switch of their own,
``minidl.backends.cudnn.allow_tf32``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from minidl import _types
from minidl._devices.cuda import conv_table, precision
from minidl._devices.registry import backend_of
from minidl.backends.cpu import ConvChoice, ConvPlan
from minidl.geometry import IntOrPair, conv2d_geometry

_PRECISIONS = ("highest", "high", "medium")


def is_built() -> bool:
    """True: kernels for GPUs are part of minidl.  Whether there is a GPU, ``minidl.cuda.is_available()`` tells."""
    return True


class _Matmul:
    """Switches of matrix products."""

    __slots__ = ()

    @property
    def allow_tf32(self) -> bool:
        """Whether matrix products of float32 may use TF32."""
        return precision.matmul != "highest"

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        if not isinstance(allowed, bool):
            raise RuntimeError(f"set_allow_tf32_cublas expects a bool, but got {type(allowed).__name__}")
        set_float32_matmul_precision("high" if allowed else "highest")


matmul = _Matmul()


def set_float32_matmul_precision(name: str) -> None:
    """"highest": matrix products of float32 on a GPU are computed in float32; "high" and "medium": also in TF32.

    Raises ``RuntimeError`` for another word.
    """
    if name not in _PRECISIONS:
        raise RuntimeError(f"set_float32_matmul_precision: expected one of {', '.join(_PRECISIONS)}, got {name!r}")
    precision.matmul = name


def get_float32_matmul_precision() -> str:
    """What ``set_float32_matmul_precision`` has set; "highest" at the start."""
    return precision.matmul


def conv_plan(input_shape: Sequence[int], weight_shape: Sequence[int], stride: IntOrPair = 1,
              padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1,
              dtype: _types.dtype = _types.float32, device: object = "cuda") -> ConvPlan:
    """Which kernels ``conv2d`` and its gradients use on a GPU for an input ``(N, C, H, W)`` and a weight
    ``(OC, C/groups, KH, KW)``, and the reason in words.

    It is the decision that a run takes with the switches as they are, not a description of it.  Raises ``RuntimeError``
    for shapes that do not fit each other and where there is no such GPU, ``TypeError`` for a dtype that has no
    convolution, ``ValueError`` where ``use_conv_kernel`` has set a kernel that cannot compute this.
    """
    if dtype not in (_types.float32, _types.float64):
        raise TypeError(f"conv_plan: convolutions are computed in float32 and float64, got {dtype!r}")
    geometry = conv2d_geometry(input_shape, weight_shape, stride, padding, dilation, groups)
    gpu = backend_of(device).runtime
    tensor_cores = precision.tensor_cores_in_convolution(gpu.capability)

    def choice(direction: conv_table.Direction) -> ConvChoice:
        kernel, splits, reason = conv_table.choose(
            geometry, direction, np.dtype(dtype.name), gpu.multiprocessors, tensor_cores)
        return ConvChoice(kernel, f"{reason}; {splits} blocks share each tile" if splits > 1 else reason)

    return ConvPlan(*map(choice, conv_table.Direction))


@contextmanager
def use_conv_kernel(forward: str | None = None, backward_input: str | None = None, backward_weight: str | None = None,
                    splits: int = 1) -> Iterator[None]:
    """Let every convolution on GPUs use these kernels inside the ``with``: names as ``conv_plan`` prints them, None
    leaves the choice of that direction alone; ``splits`` blocks share out the sums of one tile.

    For tests and measurements.  A convolution that a kernel set here cannot compute raises ``ValueError``, as an
    unknown name does.
    """
    names = zip(conv_table.Direction, (forward, backward_input, backward_weight), strict=True)
    asked = {direction: name for direction, name in names if name is not None}
    for name in asked.values():
        if name not in conv_table.KERNELS:
            raise ValueError(f"use_conv_kernel: no kernel is called {name!r}; there are "
                             f"{', '.join(conv_table.KERNELS)}")
    with conv_table.use(asked, splits):
        yield
