"""Bringing the arguments of an op to one dtype, by PyTorch's rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import _types
from minidl._ext.core import Tensor

_ARITHMETIC, _FLOAT, _COMPARE, _SUBTRACT, _COUNT, _BITS = 1, 2, 3, 4, 5, 6


_TYPE_NAMES = {
    "float32": "Float", "float64": "Double", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
    "uint8": "Byte", "bool": "Bool",
}


def type_name(dtype: _types.dtype) -> str:
    """PyTorch's word for a dtype in its messages, such as ``Float`` or ``Long``."""
    return _TYPE_NAMES[dtype.np.name]


def common_dtype(operands: tuple[Any, ...]) -> _types.dtype:
    """The dtype that tensors, zero-dimensional tensors and Python numbers share."""
    described = []
    for operand in operands:
        if isinstance(operand, Tensor):
            described.append((operand.dtype, 0 if operand.ndim else 1))
        elif operand is not None:
            described.append((_types.scalar_dtype(operand), 2))
    return _types.result_dtype(described)


def promote(kind: int, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments as the device functions want them: tensors of one dtype, Python numbers of no higher kind."""
    like = next((arg for arg in args if isinstance(arg, Tensor)), None)
    if like is None:
        raise TypeError(f"expected a Tensor, got {', '.join(type(arg).__name__ for arg in args)}")
    args = tuple(_plain(arg, like) for arg in args)
    dtype = common_dtype(args)
    if kind >= _SUBTRACT:
        _refuse(kind, dtype, args)
    if kind == _FLOAT and not dtype.is_floating_point:
        dtype = _types.get_default_dtype()
    return tuple(
        arg.to(dtype) if isinstance(arg, Tensor) else _scalar(arg, dtype) if arg is not None else None for arg in args
    )


def _refuse(kind: int, dtype: _types.dtype, args: tuple[Any, ...]) -> None:
    """PyTorch's errors for dtypes with which an op has no meaning."""
    if kind == _SUBTRACT and any(isinstance(arg, Tensor) and arg.dtype.category == 0 for arg in args):
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to "
                           "invert a mask, use the `~` or `logical_not()` operator instead.")
    if kind == _COUNT and dtype.category == 0:
        raise NotImplementedError("this operation is not implemented for 'Bool'; convert one of the tensors first, "
                                  "with .int() say")
    if kind == _BITS and dtype.is_floating_point:
        raise NotImplementedError(f"operations on bits are not implemented for '{type_name(dtype)}'")


def _plain(arg: Any, like: Tensor) -> Any:
    if isinstance(arg, np.generic):
        return arg.item()
    if isinstance(arg, np.ndarray):
        from minidl.ops.creation import from_numpy

        return from_numpy(arg).to(like.device)
    if arg is None or isinstance(arg, (Tensor, bool, int, float)):
        return arg
    raise TypeError(f"expected a Tensor or a number, got {type(arg).__name__}")


def _scalar(value: Any, dtype: _types.dtype) -> Any:
    return float(value) if dtype.is_floating_point else int(value) if dtype.category == 1 else value


def check_cast(result: np.dtype, target: np.dtype) -> None:
    """Raise PyTorch's error when an in-place op's result does not fit the kind of its tensor."""
    source_dtype, target_dtype = _types.from_numpy_dtype(result), _types.from_numpy_dtype(target)
    if not _types.can_cast(source_dtype, target_dtype):
        raise RuntimeError(
            f"result type {type_name(source_dtype)} can't be cast to the desired output type {type_name(target_dtype)}"
        )


def result_type(tensor1: Any, tensor2: Any) -> _types.dtype:
    """The dtype that arithmetic on two tensors or numbers would have."""
    return common_dtype((tensor1, tensor2))
