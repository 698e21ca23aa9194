"""GPUs, under PyTorch's names: how many there are, streams and waiting for them, memory, random numbers.

Importing this starts nothing; the driver is started by the first question that needs it.
"""

from __future__ import annotations

from typing import Any

from minidl import _types
from minidl._devices import registry
from minidl._devices.cuda import random
from minidl._devices.cuda.process import device_count as _count
from minidl._devices.cuda.runtime import OutOfMemoryError
from minidl.cuda.streams import (
    Event,
    Stream,
    backend_of,
    current_stream,
    default_stream,
    set_stream,
    stream,
)


def is_available() -> bool:
    """Whether tensors can be put on ``device='cuda'``."""
    return device_count() > 0


def device_count() -> int:
    """How many GPUs tensors can be put on; 0 without PyCUDA, without a driver and without a GPU."""
    return _count()


def current_device() -> int:
    """The number of the GPU that ``'cuda'`` without a number means in this thread."""
    return registry.current_cuda()


def set_device(device: Any) -> None:
    """Let ``'cuda'`` without a number mean this GPU in this thread.  Raises ``RuntimeError`` where there is none."""
    registry.set_current_cuda(backend_of(device).device.index)


class device:
    """``with minidl.cuda.device(1):`` lets ``'cuda'`` without a number mean another GPU; None or -1 changes nothing."""

    def __init__(self, device: Any) -> None:
        self.idx = -1 if device is None or device == -1 else backend_of(device).device.index
        self._before = -1

    def __enter__(self) -> None:
        self._before = registry.current_cuda()
        if self.idx >= 0:
            registry.set_current_cuda(self.idx)

    def __exit__(self, *exception: Any) -> None:
        registry.set_current_cuda(self._before)


def get_device_name(device: Any = None) -> str:
    """The name of a GPU (a number, a device or its text; None: the current one)."""
    return str(backend_of(device).runtime.device.name())


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU, such as (9, 0)."""
    return backend_of(device).runtime.capability


def synchronize(device: Any = None) -> None:
    """Wait until a GPU has done all that it was asked for."""
    backend_of(device).runtime.synchronize()


def memory_allocated(device: Any = None) -> int:
    """Bytes that live tensors hold on a GPU, rounded up to the blocks of the pool."""
    return backend_of(device).runtime.pool.in_use


def max_memory_allocated(device: Any = None) -> int:
    """The most that ``memory_allocated`` has been since the start or ``reset_peak_memory_stats``."""
    return backend_of(device).runtime.pool.peak


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pool has taken from the driver and not given back."""
    return backend_of(device).runtime.pool.held


def reset_peak_memory_stats(device: Any = None) -> None:
    """Count ``max_memory_allocated`` from now on."""
    backend_of(device).runtime.pool.reset_peak()


def empty_cache() -> None:
    """Give what no tensor holds back to the driver, on every GPU that is in use."""
    for backend in registry.cuda_backends():
        backend.runtime.enter()
        backend.runtime.pool.empty_cache()


# ---- random numbers: Philox, another generator than the CPU's, so other numbers for the same seed --------------------


def manual_seed(seed: int) -> None:
    """Seed the generator of the current GPU; nothing has to be there yet.  ``minidl.manual_seed`` seeds all devices."""
    random.manual_seed(seed, current_device())


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all GPUs."""
    random.manual_seed_all(seed)


def seed() -> None:
    """Seed the generator of the current GPU by chance."""
    random.seed(current_device())


def initial_seed() -> int:
    """The seed of the current GPU's generator."""
    return random.initial_seed(current_device())


def get_rng_state(device: Any = "cuda") -> Any:
    """The state of a GPU's generator as a uint8 tensor in the memory of the machine."""
    from minidl.ops.creation import from_numpy

    return from_numpy(random.get_rng_state(_number(device)).copy())


def set_rng_state(new_state: Any, device: Any = "cuda") -> None:
    """Let a GPU's generator go on from a state of ``get_rng_state``."""
    random.set_rng_state(new_state.numpy(), _number(device))


def _number(device: Any) -> int:
    """The number of a GPU, which need not have been started."""
    index = device if isinstance(device, int) else _types.device(device).index
    return current_device() if index is None else index
