"""Memory of a GPU shared with other libraries, without copies: DLPack and the CUDA array interface.

https://data-apis.org/array-api/latest/design_topics/data_interchange.html,
https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html (version 3)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import _types
from minidl._devices import registry
from minidl._ext import dlpack
from minidl._ext.core import Tensor, from_raw
from minidl._ext.device_array import DeviceArray
from minidl._ext.storage import Storage

_LEGACY_DEFAULT_STREAM = 1  # how both protocols name the stream of handle 0


def cuda_array_interface(self: Tensor) -> dict[str, Any]:
    """Address, shape and dtype of a GPU's tensor for CuPy, Numba, PyTorch and others; the memory is shared."""
    if not self.is_cuda:
        raise AttributeError("Can't get __cuda_array_interface__ on non-CUDA tensor type: "
                             f"{self.dtype} on {self.device}; move it first with .cuda()")
    if self.requires_grad:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't "
                           "required, use var.detach() to get Variable that doesn't require grad.")
    raw, stream = self._raw, self._backend.runtime.stream
    return {
        "shape": raw.shape, "typestr": raw.dtype.str, "data": (raw.ptr if raw.size else 0, False),
        "strides": None if raw.contiguous else raw.strides, "version": 3,
        "stream": _LEGACY_DEFAULT_STREAM if stream is None else int(stream.handle),
    }


def to_dlpack(self: Tensor, stream: Any = None) -> Any:
    """A DLPack capsule over the memory of a GPU's tensor, for work on the consumer's ``stream``."""
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    runtime = self._backend.runtime
    ours = 0 if runtime.stream is None else int(runtime.stream.handle)
    theirs = 0 if stream in (None, _LEGACY_DEFAULT_STREAM) else stream
    if theirs not in (ours, -1):
        runtime.synchronize_stream()  # the consumer's stream knows nothing of ours
    return dlpack.to_capsule(self._raw, self._backend.runtime.index)


def from_dlpack(source: Any) -> Tensor:
    """A tensor over the CUDA memory that ``source`` offers by ``__dlpack__``; the memory is shared."""
    _, index = source.__dlpack_device__()
    backend = registry.cuda_backend(index)
    stream = backend.runtime.stream
    capsule = source.__dlpack__(stream=_LEGACY_DEFAULT_STREAM if stream is None else int(stream.handle))
    address, shape, strides, dtype, _, owner = dlpack.from_capsule(capsule)
    return _over(address, shape, strides, dtype, backend, owner)


def from_cuda_array_interface(source: Any) -> Tensor:
    """A tensor over the memory that ``source`` offers by ``__cuda_array_interface__``; the memory is shared.

    Raises ``TypeError`` for dtypes that tensors do not have and ``ValueError`` for a mask.
    """
    offered = source.__cuda_array_interface__
    if offered.get("mask") is not None:
        raise ValueError("__cuda_array_interface__: masked arrays are not supported")
    dtype = np.dtype(offered["typestr"])
    _types.from_numpy_dtype(dtype)
    index = getattr(getattr(source, "device", None), "id", None)
    backend = registry.cuda_backend(registry.current_cuda() if index is None else int(index))
    stream = offered.get("stream")
    if stream is not None and stream != _LEGACY_DEFAULT_STREAM:
        backend.runtime.synchronize()  # a stream of another library: its work must be done before ours begins
    return _over(offered["data"][0], tuple(offered["shape"]), offered.get("strides"), dtype, backend, source)


def _over(address: int, shape: tuple[int, ...], strides: Any, dtype: np.dtype, backend: Any, owner: Any) -> Tensor:
    if strides is not None and any(stride < 0 for stride in strides):
        raise ValueError("at least one stride is negative, and tensors with negative strides are not supported")
    raw = DeviceArray(address, shape, None if strides is None else tuple(strides), dtype, Storage(owner))
    return from_raw(raw, backend)
