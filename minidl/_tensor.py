"""The methods of Tensor: one table that points at ops, attached to the compiled type.

A method that does what a public function does *is* that function; only what has no function of its own is written
here.  Special methods (``__getitem__``, ``__repr__``, ...) go through the same table.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl import _random, _types
from minidl._devices.registry import backend_of
from minidl._ext import core
from minidl._ext.core import Parameter, Tensor
from minidl._ext.engine import run_from_number as _run_from_number
from minidl.autograd.backward import backward as _backward
from minidl.ops import creation, indexing, inplace, matmul, pointwise, promotion, reduce, shape, softmax

# ---- to and from Python and NumPy -----------------------------------------------------------------------------------


def item(self: Tensor) -> Any:
    """The value of a tensor with one number, as a Python number."""
    if self._raw.size != 1:
        raise RuntimeError(f"a Tensor with {self._raw.size} elements cannot be converted to Scalar")
    return self._backend.to_host(self._raw).item()


def tolist(self: Tensor) -> Any:
    """The values as nested Python lists."""
    return self._backend.to_host(self._raw).tolist()


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The values as a NumPy array that shares the memory of a CPU tensor.

    Raises ``RuntimeError`` for tensors on the tape and ``TypeError`` for tensors on another device, unless ``force``.
    """
    if force:
        return self.detach().cpu()._expose()
    if self.requires_grad:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    if self.device.type != "cpu":
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
                        "to host memory first.")
    return self._expose()


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    values = numpy(self)
    if dtype is not None and values.dtype != dtype:
        if copy is False:
            raise ValueError(f"a tensor of {self.dtype} cannot become an array of {dtype} without a copy")
        return values.astype(dtype)
    return values.copy() if copy else values


def _dlpack(self: Tensor, **options: Any) -> Any:
    """A DLPack capsule over the memory of this tensor."""
    return numpy(self).__dlpack__(**options)


def _dlpack_device(self: Tensor) -> tuple[int, int]:
    return self._raw.__dlpack_device__()


def _init(*args: Any) -> Tensor:
    """The old constructor: sizes, or data in the default dtype."""
    if len(args) == 1 and not isinstance(args[0], (int, np.integer, _types.Size)):
        return creation.tensor(args[0], dtype=_types.get_default_dtype())
    return creation.empty(*args) if args else creation.empty(0)


def _bool(self: Tensor) -> bool:
    if self._raw.size != 1:
        raise RuntimeError(
            "Boolean value of Tensor with no values is ambiguous" if not self._raw.size
            else "Boolean value of Tensor with more than one value is ambiguous; use .any() or .all()")
    return bool(item(self))


def _index(self: Tensor) -> int:
    if self._raw.size != 1 or self.dtype.is_floating_point:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return operator.index(int(item(self)))


def _len(self: Tensor) -> int:
    if not self.ndim:
        raise TypeError("len() of a 0-d tensor")
    return self._raw.shape[0]


def _iter(self: Tensor) -> Iterator[Tensor]:
    if not self.ndim:
        raise TypeError("iteration over a 0-d tensor")
    return iter(shape.unbind(self, 0))


def _contains(self: Tensor, element: Any) -> bool:
    if isinstance(element, (Tensor, bool, int, float)):
        return bool(pointwise.eq(self, element).any().item())
    raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")


def _repr(self: Tensor) -> str:
    from minidl import _printing

    grad_fn = self.grad_fn
    text = _printing.tensor_repr(
        self._backend.to_host(self._raw), str(self.device), self.requires_grad, grad_fn and grad_fn.name())
    return f"Parameter containing:\n{text}" if isinstance(self, Parameter) else text


def _format(self: Tensor, specification: str) -> str:
    return format(item(self), specification) if not self.ndim else object.__format__(self, specification)


def _rebuild(values: np.ndarray, device: Any, requires_grad: bool, parameter: bool) -> Tensor:
    result = creation.from_numpy(values).to(device)
    if parameter:
        return Parameter(result, requires_grad)
    return result.requires_grad_() if requires_grad else result


def _reduce_ex(self: Tensor, protocol: int) -> Any:
    """Copies of leaves travel between processes (data loader workers) by value."""
    if not self.is_leaf:
        raise RuntimeError("Only leaf Tensors can be pickled or sent to another process; call .detach() first")
    values = np.ascontiguousarray(self._backend.to_host(self._raw)).reshape(self._raw.shape)
    return _rebuild, (values.copy(), self.device, self.requires_grad, isinstance(self, Parameter))


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    if not self.is_leaf:
        raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol "
                           "at the moment; call .detach() first")
    if id(self) in memo:
        return memo[id(self)]
    copied = core.from_raw(self._backend.copy(self._raw), self._backend)
    result: Tensor = copied
    if isinstance(self, Parameter):
        result = Parameter(copied, self.requires_grad)
    elif self.requires_grad:
        result.requires_grad_()
    if self.grad is not None:
        result.grad = _deepcopy(self.grad.detach(), memo)
    memo[id(self)] = result
    return result


# ---- what it is ------------------------------------------------------------------------------------------------------


def size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or the size of one dimension."""
    return self.shape if dim is None else self.shape[dim]


def stride(self: Tensor, dim: int | None = None) -> Any:
    """Distance, in numbers, between neighbours along each dimension."""
    strides = tuple(s // self._raw.itemsize for s in self._raw.strides)
    return strides if dim is None else strides[dim]


def storage_offset(self: Tensor) -> int:
    """Distance, in numbers, of the first number from the start of the memory."""
    return self._backend.storage_offset(self._raw)


def numel(input: Tensor) -> int:
    """How many numbers there are."""
    return input._raw.size


def is_contiguous(self: Tensor) -> bool:
    """Whether the numbers lie in row-major order without gaps."""
    return self._backend.is_contiguous(self._raw)


def data_ptr(self: Tensor) -> int:
    """Address of the first number."""
    return self._backend.address(self._raw)


def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The tensor with another dtype or device: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(other)``.

    The tensor itself where nothing changes; ``copy=True`` copies anyway.
    """
    dtype, device = kwargs.pop("dtype", None), kwargs.pop("device", None)
    copy = kwargs.pop("copy", False)
    kwargs.pop("non_blocking", None)
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'")
    for arg in args:
        if isinstance(arg, Tensor):
            dtype, device = arg.dtype, arg.device
        elif isinstance(arg, _types.dtype):
            dtype = arg
        elif isinstance(arg, (str, _types.device)):
            device = arg
        elif arg is not None and not isinstance(arg, bool):
            raise TypeError(f"to() received an invalid argument {arg!r}; expected a dtype, a device or a tensor")
    result = self
    if device is not None and _types.device(device) != self.device:
        result = core.from_raw(backend_of(device).from_host(self._backend.to_host(self._raw)), backend_of(device))
    if dtype is not None:
        result = shape.cast(result, dtype)
    return shape.clone(self) if copy and result is self else result


def _converter(name: str) -> Any:
    kind = _types.NAMES[name]

    def convert(self: Tensor) -> Tensor:
        return shape.cast(self, kind)

    convert.__name__ = name
    convert.__doc__ = f"The tensor as {kind!r}; itself where it is that already."
    return convert


def type_(self: Tensor, dtype: Any = None) -> Any:
    """The name of the tensor's type, or the tensor converted to ``dtype``."""
    if dtype is not None:
        return shape.cast(self, dtype)
    return f"minidl.{'cuda.' if self.is_cuda else ''}{promotion.type_name(self.dtype)}Tensor"


def cpu(self: Tensor) -> Tensor:
    """The tensor in the memory of the machine."""
    return to(self, "cpu")


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """The tensor on a GPU; ``non_blocking`` changes nothing."""
    return to(self, "cuda" if device is None else device)


def swapaxes(self: Tensor, axis0: int, axis1: int) -> Tensor:
    """``transpose`` under NumPy's name."""
    return shape.transpose(self, axis0, axis1)


def split(self: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of stretches of a given size (the last may be shorter) or of the given sizes along ``dim``."""
    return shape.split(self, split_size, dim)


# ---- made like this one ----------------------------------------------------------------------------------------------


def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None,
               requires_grad: bool = False) -> Tensor:
    """``tensor(data)`` with the dtype and device of this one."""
    return creation.tensor(data, **creation.alike(self, dtype, device), requires_grad=requires_grad)


def _new(make: Any) -> Any:
    def new(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
            requires_grad: bool = False) -> Tensor:
        return make(*sizes, size=size, **creation.alike(self, dtype, device), requires_grad=requires_grad)

    new.__name__ = f"new_{make.__name__}"
    new.__doc__ = f"``{make.__name__}`` with the dtype and device of this tensor."
    return new


def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """``full`` with the dtype and device of this tensor."""
    return creation.full(size, fill_value, **creation.alike(self, dtype, device), requires_grad=requires_grad)


# ---- gradients -------------------------------------------------------------------------------------------------------


def backward(self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
             create_graph: bool = False, inputs: Any = None) -> None:
    """Sum the gradients of this tensor into the ``.grad`` of the leaves; see ``minidl.autograd.backward``."""
    if gradient is not None or create_graph or inputs is not None or not _run_from_number(self, bool(retain_graph)):
        _backward(self, gradient, retain_graph, create_graph, inputs)


def share_memory_(self: Tensor) -> Tensor:
    """Raises ``NotImplementedError``: tensors go to other processes by value."""
    raise NotImplementedError("share_memory_: minidl has no shared memory between processes; send tensors by value")


_SAME_AS_FUNCTION = {
    pointwise: "abs neg sign square exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal sin cos tan asin acos atan "
               "sinh cosh tanh sigmoid relu floor ceil round trunc isnan isinf isfinite logical_not bitwise_not add "
               "sub mul div pow floor_divide remainder maximum minimum atan2 eq ne lt le gt ge logical_and logical_or "
               "logical_xor bitwise_and bitwise_or bitwise_xor clamp masked_fill",
    reduce: "sum mean prod amax amin max min argmax argmin any all var std logsumexp norm cumsum sort argsort topk",
    matmul: "matmul mm bmm dot mv outer",
    shape: "reshape view permute transpose t movedim flatten unflatten squeeze unsqueeze expand broadcast_to narrow "
           "select chunk unbind flip roll repeat tile tril triu clone contiguous",
    indexing: "gather scatter scatter_add scatter_ scatter_add_ index_select masked_select nonzero index_put "
              "index_put_",
    softmax: "softmax log_softmax",
}

_SYNONYMS = {"multiply": "mul", "divide": "div", "true_divide": "div", "subtract": "sub", "negative": "neg",
             "absolute": "abs", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
             "not_equal": "ne", "clip": "clamp", "swapdims": "transpose"}


def _methods() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for module, names in _SAME_AS_FUNCTION.items():
        table |= {name: getattr(module, name) for name in names.split()}
    table |= {synonym: table[name] for synonym, name in _SYNONYMS.items()}
    for name in ("float", "double", "int", "long", "short", "bool"):
        table[name] = _converter(name)
    table |= inplace.methods()
    table |= {f"new_{make.__name__}": _new(make) for make in (creation.zeros, creation.ones, creation.empty)}
    own = (item, tolist, numpy, size, stride, storage_offset, numel, is_contiguous, data_ptr, to, cpu, cuda, new_tensor,
           new_full, swapaxes, split, backward, share_memory_)
    table |= {function.__name__: function for function in own}
    table |= {
        "type": type_, "dim": lambda self: self.ndim, "nelement": numel,
        "element_size": lambda self: self._raw.itemsize,
        "view_as": lambda self, other: shape.view(self, other._raw.shape),
        "reshape_as": lambda self, other: shape.reshape(self, other._raw.shape),
        "expand_as": lambda self, other: shape.expand(self, other.shape),
        "type_as": lambda self, other: to(self, other.dtype),
        "is_floating_point": lambda self: self.dtype.is_floating_point,
        "is_complex": lambda self: False,
        "is_signed": lambda self: self.dtype.is_signed,
        "where": lambda self, condition, other: pointwise.where(condition, self, other),
        "ravel": lambda self: shape.reshape(self, -1),
        "allclose": allclose, "equal": equal,
        "T": property(shape.backwards, doc="The tensor with its dimensions in reverse order, a view."),
        "mT": property(lambda self: shape.transpose(self, -2, -1), doc="The last two dimensions swapped, a view."),
        "itemsize": property(lambda self: self._raw.itemsize, doc="Bytes of one number."),
        "nbytes": property(lambda self: self._raw.nbytes, doc="Bytes of all numbers."),
        "__dlpack__": _dlpack, "__dlpack_device__": _dlpack_device,
        "__getitem__": indexing.getitem, "__setitem__": indexing.setitem, "__len__": _len, "__iter__": _iter,
        "__contains__": _contains, "__bool__": _bool, "__int__": lambda self: int(item(self)),
        "__float__": lambda self: float(item(self)), "__index__": _index, "__repr__": _repr, "__format__": _format,
        "__array__": _array, "__init__": _init, "__reduce_ex__": _reduce_ex, "__deepcopy__": _deepcopy,
    }
    return table


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether ``|input - other| <= atol + rtol * |other|`` everywhere."""
    a, b = (x._backend.to_host(x._raw) for x in (input, other))
    return bool(np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan))


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same numbers."""
    return input.shape == other.shape and bool((input == other).all().item())


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a Tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether the tensor holds fractions."""
    return input.dtype.is_floating_point


def get_rng_state() -> Tensor:
    """The state of the default generator, a uint8 tensor in PyTorch's own format."""
    return creation.from_numpy(_random.get_rng_state())


def set_rng_state(new_state: Tensor) -> None:
    """Put the default generator back to a state of ``get_rng_state``."""
    _random.set_rng_state(numpy(new_state))


core.attach_methods(_methods())
core.connect(promotion.promote, promotion.check_cast, matmul.matmul)
__all__ = ["Parameter", "Tensor", "allclose", "equal", "get_rng_state", "is_floating_point", "is_tensor", "numel",
           "set_rng_state"]
