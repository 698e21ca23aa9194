"""GPUs, under PyTorch's names: how many there are, waiting for them, and their memory.

Importing this starts nothing; the driver is started by the first question that needs it.
"""

from __future__ import annotations

from typing import Any

from minidl import _types
from minidl._devices import registry


def is_available() -> bool:
    """Whether tensors can be put on ``device='cuda'``."""
    return device_count() > 0


def device_count() -> int:
    """How many GPUs tensors can be put on; 0 without PyCUDA, without a driver and without a GPU."""
    from minidl._devices.cuda.runtime import device_count as count

    return count()


def current_device() -> int:
    """The number of the GPU that ``'cuda'`` without a number means in this thread."""
    return registry.current_cuda()


def set_device(device: Any) -> None:
    """Let ``'cuda'`` without a number mean this GPU in this thread.  Raises ``RuntimeError`` where there is none."""
    registry.set_current_cuda(_backend(device).device.index)


def get_device_name(device: Any = None) -> str:
    """The name of a GPU (a number, a device or its text; None: the current one)."""
    return str(_backend(device).runtime.device.name())


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU, such as (9, 0)."""
    return _backend(device).runtime.capability


def synchronize(device: Any = None) -> None:
    """Wait until a GPU has done all that it was asked for."""
    _backend(device).runtime.synchronize()


def memory_allocated(device: Any = None) -> int:
    """Bytes that live tensors hold on a GPU, rounded up to the blocks of the pool."""
    return _backend(device).runtime.pool.in_use


def max_memory_allocated(device: Any = None) -> int:
    """The most that ``memory_allocated`` has been since the start or ``reset_peak_memory_stats``."""
    return _backend(device).runtime.pool.peak


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pool has taken from the driver and not given back."""
    return _backend(device).runtime.pool.held


def reset_peak_memory_stats(device: Any = None) -> None:
    """Count ``max_memory_allocated`` from now on."""
    _backend(device).runtime.pool.reset_peak()


def empty_cache() -> None:
    """Give what no tensor holds back to the driver, on every GPU that is in use."""
    for backend in registry.cuda_backends():
        backend.runtime.pool.empty_cache()


def _backend(device: Any) -> Any:
    """The backend of a GPU given as a number, a device, its text, or None for the current one."""
    if device is None:
        return registry.cuda_backend(registry.current_cuda())
    if isinstance(device, int):
        return registry.cuda_backend(device)
    wanted = _types.device(device)
    if wanted.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {wanted}")
    return registry.backend_of(wanted)
