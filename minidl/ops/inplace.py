"""The methods of Tensor that write into it: an op of the same name in place, a copy, a fill, random numbers."""

from __future__ import annotations

from typing import Any

from minidl._ext.core import REGISTERED, Op, Tensor, from_raw, inplace
from minidl.ops import creation, pointwise, shape

# ops that also come as a method with an underscore
_IN_PLACE = ("mul div pow neg exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal sin cos tan asin acos atan sinh "
             "cosh tanh sigmoid relu abs square sign floor ceil round trunc remainder floor_divide masked_fill "
             "bitwise_and bitwise_or bitwise_xor bitwise_not logical_and logical_or logical_xor logical_not "
             "eq ne lt le gt ge")

_fill = Op("filled", "FillBackward2", backward=lambda F, node, grad: F.zeros_like(grad),
                forward=lambda F, x, value: F.full(x.shape, value, x.dtype))
_zero = Op("filled", "ZeroBackward0", backward=_fill.backward, forward=_fill.forward)
_assign = Op("assigned", "CopyBackwards", backward=lambda F, node, grad: (
    F.zeros_like(grad) if node.needs(0) else None,
    None if not node.needs(1) else grad if grad.shape == node.args[1] else F.sum_to(grad, node.args[1])),
    forward=lambda F, x, source: F.copy(F.expand(source, x.shape)))


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Copy ``src`` (broadcast, converted) into this tensor."""
    if not isinstance(src, Tensor):
        src = creation.tensor(src, device=self.device)
    src = src.to(self.device, self.dtype)
    try:
        return inplace(_assign, self, src)
    except ValueError:
        raise RuntimeError(f"copy_: source of shape {tuple(src.shape)} does not broadcast to the target's shape "
                           f"{tuple(self.shape)}") from None


def fill_(self: Tensor, value: Any) -> Tensor:
    """Write one number everywhere."""
    return inplace(_fill, self, value.item() if isinstance(value, Tensor) else value)


def zero_(self: Tensor) -> Tensor:
    """Write zeros everywhere."""
    return inplace(_zero, self, 0)


def _random_fill(arguments: Any, name: str) -> Any:
    """An in-place random fill: not differentiable, and not allowed on a leaf that is being recorded.

    ``arguments`` makes those of the device's function of this name from PyTorch's.
    """

    def method(self: Tensor, *args: Any, generator: Any = None, **kwargs: Any) -> Tensor:
        if "from" in kwargs:  # PyTorch's name, which no Python function can give a parameter
            kwargs["from_"] = kwargs.pop("from")
        drawn = self._backend.empty(self._raw.shape, self._raw.dtype)
        getattr(self._backend, name)(drawn, *arguments(*args, **kwargs), generator)
        return inplace(_assign, self, from_raw(drawn, self._backend))

    method.__name__ = name
    method.__doc__ = f"Fill with random numbers in place; arguments as PyTorch's ``{name}``."
    return method


def _uniform(from_: float = 0.0, to: float = 1.0) -> tuple[float, float]:
    return float(from_), float(to)


def _normal(mean: float = 0.0, std: float = 1.0) -> tuple[float, float]:
    return float(mean), float(std)


def _bernoulli(p: float = 0.5) -> tuple[float]:
    return (p,)


def _random_(from_: int | None = None, to: int | None = None) -> tuple[int | None, int | None]:
    return (0, from_) if from_ is not None and to is None else (from_, to)


def _inplace_method(name: str, prepare: Any = None) -> Any:
    op = REGISTERED[name]
    public = getattr(pointwise, name, None) or getattr(shape, name)

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if prepare is not None:
            return inplace(op, self, *prepare(*args, **kwargs))
        if kwargs:  # by name, or an option that the bare op does not know: what the public function says, written here
            return copy_(self, public(self, *args, **kwargs))
        return inplace(op, self, *args)

    method.__name__ = f"{name}_"
    method.__doc__ = f"``{name}`` in place."
    return method


def _scaled(other: Any, *, alpha: Any = 1) -> tuple[Any]:
    return (other if alpha == 1 else other * alpha,)


def _diagonal(diagonal: int = 0) -> tuple[int]:
    return (diagonal,)


def _bounds(min: Any = None, max: Any = None) -> tuple[Any, Any]:
    return min, max


def addcmul_(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """Add ``value * tensor1 * tensor2`` in place."""
    return inplace(REGISTERED["add"], self, tensor1 * tensor2 * value)


def addcdiv_(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """Add ``value * tensor1 / tensor2`` in place."""
    return inplace(REGISTERED["add"], self, tensor1 / tensor2 * value)


def lerp_(self: Tensor, end: Tensor, weight: float) -> Tensor:
    """Move towards ``end`` by the share ``weight`` in place."""
    return inplace(REGISTERED["add"], self, (end - self) * weight)


def _in_another_shape(view: Any, name: str) -> Any:
    """The in-place form of a view: the tensor takes the view's shape."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.requires_grad:
            raise RuntimeError(f"{name} on a tensor that requires grad is not supported; use {name[:-1]} instead")
        self.data = view(self.detach(), *args, **kwargs)
        return self

    method.__name__ = name
    method.__doc__ = f"``{name[:-1]}`` in place."
    return method


def methods() -> dict[str, Any]:
    """Their names in Tensor."""
    table = {f"{name}_": _inplace_method(name) for name in _IN_PLACE.split()}
    table |= {"add_": _inplace_method("add", _scaled), "sub_": _inplace_method("sub", _scaled),
              "clamp_": _inplace_method("clamp", _bounds), "tril_": _inplace_method("tril", _diagonal),
              "triu_": _inplace_method("triu", _diagonal)}
    table |= {"uniform_": _random_fill(_uniform, "uniform_"), "normal_": _random_fill(_normal, "normal_"),
              "bernoulli_": _random_fill(_bernoulli, "bernoulli_"), "random_": _random_fill(_random_, "random_")}
    table |= {"squeeze_": _in_another_shape(shape.squeeze, "squeeze_"), "t_": _in_another_shape(shape.t, "t_"),
              "unsqueeze_": _in_another_shape(shape.unsqueeze, "unsqueeze_")}
    return table | {function.__name__: function for function in (copy_, fill_, zero_, addcmul_, addcdiv_, lerp_)}
