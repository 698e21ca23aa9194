"""Making tensors: from Python and NumPy data, filled, counted, and drawn at random.

``dtype`` defaults to float32 (``set_default_dtype``) for fractions, int64 for whole numbers and bool for bools;
``device`` to the CPU.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from minidl import _types
from minidl._devices.registry import backend_of
from minidl._ext.core import Op, Tensor, from_raw
from minidl.ops.rules import given

_one_hot = Op("one_hot")


def _finish(raw: Any, backend: Any, requires_grad: bool) -> Tensor:
    result = from_raw(raw, backend)
    if requires_grad:
        result.requires_grad_()
    return result


def _raw_dtype(dtype: Any) -> np.dtype:
    return (_types.get_default_dtype() if dtype is None else _types.as_dtype(dtype)).np


def shape_of(sizes: tuple[Any, ...], op: str, named: Any = None) -> tuple[int, ...]:
    """A shape given number by number, as one sequence, or by name.  Raises ``RuntimeError`` for a negative size."""
    size = sizes if len(sizes) > 1 and named is None else given(sizes, named, op)
    try:
        shape = tuple(map(operator.index, size))
    except TypeError:
        raise TypeError(f"{op}(): sizes must be whole numbers, got {size}") from None
    if any(n < 0 for n in shape):
        raise RuntimeError(f"{op}(): Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    return shape


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of ``data``: a number, nested lists, a NumPy array or a tensor.

    Raises ``ValueError`` for rows of unequal length and ``TypeError`` for what is not a number.
    """
    if isinstance(data, Tensor):
        device = data.device if device is None else device
        data = data.detach().cpu().numpy()
    backend = backend_of(device)
    wanted = None if dtype is None else _types.as_dtype(dtype).np
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    else:
        array = _nested(data)
        if wanted is None:
            wanted = _dtype_for(array)
    if wanted is None:
        wanted = _types.from_numpy_dtype(array.dtype.newbyteorder("=")).np
    if array.dtype != wanted:
        array = array.astype(wanted)
    return _finish(backend.from_host(array), backend, requires_grad)


def _nested(data: Any) -> np.ndarray:
    """Nested lists of numbers (or of one-number tensors) as an array."""
    if isinstance(data, (list, tuple)) and any(isinstance(item, Tensor) for item in data):
        data = [item.tolist() if isinstance(item, Tensor) else item for item in data]
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"tensor(): expected nested sequences of equal lengths ({error})") from None
    if array.dtype.kind not in "biuf":
        found = type(data).__name__ if not isinstance(data, (list, tuple)) else "something else inside"
        raise TypeError(f"tensor(): expected numbers, NumPy arrays or nested lists of them, got {found}")
    return array


def _dtype_for(array: np.ndarray) -> np.dtype:
    """The dtype of Python data: bool, int64, or the default float (also for empty lists)."""
    if array.dtype.kind == "b":
        return _types.NAMES["bool"].np
    return _types.NAMES["int64"].np if array.dtype.kind in "iu" else _types.get_default_dtype().np


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Like ``tensor``, but shares memory with a tensor or NumPy array that already fits."""
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype) if device is not None or dtype is not None else data
    if isinstance(data, np.ndarray):
        shared = from_numpy(data)
        return shared.to(device=device, dtype=dtype) if device is not None or dtype is not None else shared
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A CPU tensor that shares the memory of a NumPy array; a change of one is a change of the other.

    Raises ``TypeError`` for dtypes that tensors do not have and ``ValueError`` for negative strides.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    _types.from_numpy_dtype(array.dtype)
    if any(stride < 0 for stride in array.strides):
        raise ValueError("from_numpy(): at least one stride of the array is negative, and tensors with negative "
                         "strides are not supported; use array.copy()")
    # Through a memoryview the new array knows nothing of the array that this one is a part of: offsets start here.
    return from_raw(np.asarray(array.data), backend_of(None))


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor that shares the memory of anything with ``__dlpack__`` (a PyTorch, JAX or NumPy array on the CPU)."""
    return from_numpy(np.from_dlpack(ext_tensor))


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere; its kind decides the dtype."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    kind = _types.scalar_dtype(fill_value).np if dtype is None else _raw_dtype(dtype)
    backend = backend_of(device)
    return _finish(backend.full(shape_of((size,), "full"), fill_value, kind), backend, requires_grad)


def empty(*sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
          requires_grad: bool = False) -> Tensor:
    """Memory as it was found."""
    backend = backend_of(device)
    return _finish(backend.empty(shape_of(sizes, "empty", size), _raw_dtype(dtype)), backend, requires_grad)


def zeros(*sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
          requires_grad: bool = False) -> Tensor:
    """Zeros."""
    backend = backend_of(device)
    return _finish(backend.full(shape_of(sizes, "zeros", size), 0, _raw_dtype(dtype)), backend, requires_grad)


def ones(*sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
         requires_grad: bool = False) -> Tensor:
    """Ones."""
    backend = backend_of(device)
    return _finish(backend.full(shape_of(sizes, "ones", size), 1, _raw_dtype(dtype)), backend, requires_grad)


def alike(input: Tensor, dtype: Any, device: Any) -> dict[str, Any]:
    """The options for a tensor like ``input``, where no others are asked for."""
    return {"dtype": input.dtype if dtype is None else dtype, "device": input.device if device is None else device}


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``empty`` with the shape, dtype and device of ``input``."""
    return empty(input.shape, **alike(input, dtype, device), requires_grad=requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros with the shape, dtype and device of ``input``."""
    return zeros(input.shape, **alike(input, dtype, device), requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones with the shape, dtype and device of ``input``."""
    return ones(input.shape, **alike(input, dtype, device), requires_grad=requires_grad)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``fill_value`` with the shape, dtype and device of ``input``."""
    return full(tuple(input.shape), fill_value, **alike(input, dtype, device), requires_grad=requires_grad)


def arange(
    start: Any = None, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False
) -> Tensor:
    """Numbers from ``start`` (or 0) up to, without, ``end``; int64 if all three are whole."""
    if end is None:
        start, end = None, start
    if end is None:
        raise TypeError("arange() needs an end")
    start = 0 if start is None else start
    start, end, step = (x.item() if isinstance(x, Tensor) else x for x in (start, end, step))
    if step == 0:
        raise RuntimeError("arange(): step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError(f"arange(): upper bound and lower bound inconsistent with step sign: {start}, {end}, {step}")
    whole = all(isinstance(x, (int, np.integer)) for x in (start, end, step))
    kind = _types.NAMES["int64"].np if dtype is None and whole else _raw_dtype(dtype)
    backend = backend_of(device)
    return _finish(backend.arange(start, end, step, kind), backend, requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``steps`` numbers, evenly spaced, from ``start`` to ``end`` inclusive."""
    backend = backend_of(device)
    return _finish(backend.linspace(start, end, steps, _raw_dtype(dtype)), backend, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix."""
    backend = backend_of(device)
    return _finish(backend.eye(n, n if m is None else m, _raw_dtype(dtype)), backend, requires_grad)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class indices (int64) of any shape -> (..., num_classes) int64 with a one at each index."""
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1 if tensor._raw.size else 0
    return _one_hot(tensor, num_classes)


# ---- random: each device has its own numbers; the CPU's are PyTorch's ------------------------------------------------


def _drawn(fill: str, shape: tuple[int, ...], kind: np.dtype, device: Any, requires_grad: bool, *args: Any) -> Tensor:
    backend = backend_of(device)
    raw = backend.empty(shape, kind)
    getattr(backend, fill)(raw, *args)
    return _finish(raw, backend, requires_grad)


def rand(
    *sizes: Any, size: Any = None, generator: Any = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False
) -> Tensor:
    """Uniform numbers from [0, 1)."""
    return _drawn("uniform_", shape_of(sizes, "rand", size), _raw_dtype(dtype), device, requires_grad, 0.0, 1.0,
                  generator)


def randn(
    *sizes: Any, size: Any = None, generator: Any = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False
) -> Tensor:
    """Normal numbers of mean 0 and standard deviation 1."""
    return _drawn("normal_", shape_of(sizes, "randn", size), _raw_dtype(dtype), device, requires_grad, 0.0, 1.0,
                  generator)


def randint(low: Any = None, high: Any = None, size: Any = None, *, generator: Any = None, dtype: Any = None,
            device: Any = None, requires_grad: bool = False) -> Tensor:
    """Whole numbers from [low, high), or from [0, low) when called with two arguments."""
    if size is None:
        low, high, size = None, low, high
    elif high is None:
        low, high = None, low
    if high is None or size is None:
        raise TypeError("randint() takes (high, size) or (low, high, size)")
    low = 0 if low is None else low
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    kind = _types.NAMES["int64"].np if dtype is None else _raw_dtype(dtype)
    return _drawn("random_", shape_of((size,), "randint"), kind, device, requires_grad, low, high, generator)


def randperm(n: int, *, generator: Any = None, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """The whole numbers from 0 to ``n - 1`` (int64) in random order."""
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    backend = backend_of(device)
    result = _finish(backend.randperm(n, generator), backend, False)
    result = result if dtype is None else result.to(dtype)
    return result.requires_grad_() if requires_grad else result


def normal(mean: float, std: float, size: Any, *, generator: Any = None, dtype: Any = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:
    """Normal numbers with the given mean and standard deviation."""
    return _drawn("normal_", shape_of((size,), "normal"), _raw_dtype(dtype), device, requires_grad, float(mean),
                  float(std), generator)


def bernoulli(input: Tensor, *, generator: Any = None) -> Tensor:
    """Ones with the probabilities ``input``, zeros otherwise."""
    uniform = rand(input.shape, generator=generator, dtype=_types.NAMES["float64"], device=input.device)
    return (uniform < input.double()).to(input.dtype)


def rand_like(input: Tensor, *, generator: Any = None, dtype: Any = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """``rand`` with the shape, dtype and device of ``input``."""
    return rand(input.shape, generator=generator, **alike(input, dtype, device), requires_grad=requires_grad)


def randn_like(input: Tensor, *, generator: Any = None, dtype: Any = None, device: Any = None,
               requires_grad: bool = False) -> Tensor:
    """``randn`` with the shape, dtype and device of ``input``."""
    return randn(input.shape, generator=generator, **alike(input, dtype, device), requires_grad=requires_grad)


def meshgrid(*tensors: Tensor, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Each 1-D tensor spread over the grid of all of them."""
    axes = tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors
    shape = tuple(axis._raw.size for axis in axes)
    grids = tuple(
        axis.reshape(tuple(n if d == i else 1 for d, n in enumerate(shape))).expand(shape)
        for i, axis in enumerate(axes)
    )
    if indexing == "xy" and len(grids) > 1:
        order = (1, 0, *range(2, len(grids)))
        return tuple(g.permute(order) for g in grids)
    return grids


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A square matrix with a vector on a diagonal (0 the main one, above it positive), or a diagonal of a matrix."""
    if input.ndim not in (1, 2):
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    down, right = max(-diagonal, 0), max(diagonal, 0)
    if input.ndim == 1:
        size = input.shape[0] + down + right
        index = arange(input.shape[0], device=input.device)
        return zeros(size, size, dtype=input.dtype, device=input.device).index_put(
            (index + down, index + right), input)
    index = arange(max(min(input.shape[0] - down, input.shape[1] - right), 0), device=input.device)
    return input[index + down, index + right]


__all__ = [
    "arange", "as_tensor", "bernoulli", "diag", "empty", "empty_like", "eye", "from_dlpack", "from_numpy", "full",
    "full_like", "linspace", "meshgrid", "normal", "one_hot", "ones", "ones_like", "rand", "rand_like",
    "randint", "randn", "randn_like", "randperm", "tensor", "zeros", "zeros_like",
]
