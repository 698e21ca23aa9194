"""Which backend serves which device."""

from __future__ import annotations

import threading
from typing import Any

from minidl import _types
from minidl._devices.cpu import CPU

_cpu = CPU()
_backends: dict[Any, Any] = {None: _cpu, "cpu": _cpu, _types.device("cpu"): _cpu}
_starting = threading.Lock()


class _Current(threading.local):
    """The GPU that 'cuda' without a number means, in each thread."""

    index = 0


_current = _Current()


def current_cuda() -> int:
    """The number of the GPU that 'cuda' without a number means in this thread."""
    return _current.index


def set_current_cuda(index: int) -> None:
    """Let 'cuda' without a number mean this GPU in this thread."""
    _current.index = index


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
        return _cpu
    index = _current.index if wanted.index is None else wanted.index
    return cuda_backend(index)


def cuda_backend(index: int) -> Any:
    """The backend of a GPU, started at its first use."""
    device = _types.device("cuda", index)
    with _starting:
        if device not in _backends:
            from minidl._devices.cuda import CUDA

            _backends[device] = CUDA(index)
    return _backends[device]


def cuda_backends() -> list[Any]:
    """The backends of the GPUs that have been started."""
    return [backend for device, backend in _backends.items() if getattr(device, "type", None) == "cuda"]
