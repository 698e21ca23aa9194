"""From one device to another: an op like the others, whose gradient goes back to where the numbers came from."""

from __future__ import annotations

from typing import Any

from minidl._devices import registry
from minidl._ext import core
from minidl._ext.core import Op, Tensor, from_raw, register


def to_device(input: Tensor, backend: Any, non_blocking: bool = False) -> Tensor:
    """The numbers of ``input`` in the memory of another device.

    ``non_blocking`` lets a copy from pinned memory to a GPU run while Python goes on.
    """
    raw = input._backend.to_device(input._raw, backend, non_blocking)
    return core.moved(input, raw, backend, _to_device)


def _to_device_backward(F: Any, node: Any, grad: Any) -> Any:
    return F.to_device(grad, node.args[1])


register("to_device", to_device)
_to_device = Op("to_device", "ToCopyBackward0", backward=_to_device_backward)


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """A copy in memory that a GPU (None: the current one) reads by itself, for ``to(..., non_blocking=True)``.

    The tensor itself where it lies in such memory already.  Raises ``RuntimeError`` for a tensor of a GPU, and where
    there is no GPU.
    """
    if self.is_cuda:
        raise RuntimeError(f"cannot pin a tensor on {self.device}; only tensors in the memory of the machine can be "
                           "pinned")
    if is_pinned(self):
        return self
    runtime = registry.backend_of("cuda" if device is None else device).runtime
    array = runtime.pinned(tuple(self.shape), self._raw.dtype)
    array[...] = self._raw
    return from_raw(array, self._backend)


def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Whether the tensor lies in memory that ``pin_memory`` made."""
    return not self.is_cuda and any(backend.runtime.is_pinned(self._raw) for backend in registry.cuda_backends())


def record_stream(self: Tensor, stream: Any) -> None:
    """Keep the memory of a GPU's tensor until ``stream`` has done what it was asked for until now."""
    if not self.is_cuda:
        raise RuntimeError(f"record_stream: expected a tensor on a GPU, this one is on {self.device}")
    self._backend.runtime.keep_until_done(self._raw, stream._stream)
