"""Which backend serves which device."""

from __future__ import annotations

from typing import Any

from minidl import _types
from minidl._devices.cpu import CPU

_backends: dict[Any, Any] = {None: CPU()}
_backends[_types.device("cpu")] = _backends["cpu"] = _backends[None]
_current_cuda = 0  # the GPU that 'cuda' without a number means


def backend_of(device: Any) -> Any:
    """The backend of ``device`` (a ``minidl.device``, its text, or None for the CPU).

    Raises ``RuntimeError`` for a device that this machine does not have.
    """
    try:
        return _backends[device]
    except (KeyError, TypeError):
        pass
    wanted = _types.device(device)
    if wanted.type == "cpu":
        return _backends[None]
    if wanted.index is None:
        wanted = _types.device("cuda", _current_cuda)
    if wanted not in _backends:
        from minidl._devices.cuda import CUDA

        _backends[wanted] = CUDA(_current_cuda if wanted.index is None else wanted.index)
    return _backends[wanted]
