"""Which backend serves which device."""

from __future__ import annotations

import functools
from typing import Any

from minidl import _types
from minidl._devices.cpu import CPU

_cpu = CPU()


@functools.cache
def backend_of(device: Any) -> Any:
    """The backend of ``device`` (a ``minidl.device``, its text, or None for the CPU).

    Raises ``RuntimeError`` for a device that this machine or this version does not have.
    """
    wanted = _cpu.device if device is None else _types.device(device)
    if wanted.type == "cpu":
        return _cpu
    raise RuntimeError(
        f"device {str(wanted)!r} was asked for, but this version of minidl computes on the CPU only; leave the device "
        "out or say device='cpu'"
    )
