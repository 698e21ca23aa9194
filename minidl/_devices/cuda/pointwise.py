"""Elementwise operations on the GPU: cuda/pointwise.cu and, where arithmetic is dear, cuda/pointwise_math.cu.

Arrays of one shape without gaps go by the fast kernels, everything else by those with a Layout.  A Python number is
an argument of the kernel, never an array.  Other than on the CPU an integer divided by a zero in an array is no error:
finding it would need a look at all numbers.  The quotient is -1 and the rest the dividend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._devices.reference.pointwise import CHEAP_POWERS, broadcast_error, refuse_integer_division_by_zero
from minidl._ext.device_array import DeviceArray, Layout
from minidl._ext.device_views import broadcast, vectors

from .arrays import SUFFIX, layout_of, number_for
from .assign import AssignCUDA

# In the order of the enums in cuda/pointwise.cu.
UNARY = ["neg", "abs", "square", "relu", "sign", "clamp", "reciprocal", "floor", "ceil", "trunc", "round", "sqrt",
         "rsqrt", "leaky_relu", "bitwise_not"]
TEST = ["isnan", "isinf", "isfinite", "logical_not"]
BINARY = ["add", "sub", "mul", "maximum", "minimum", "div", "relu_backward", "tanh_backward", "sigmoid_backward",
          "leaky_relu_backward", "bitwise_and", "bitwise_or", "bitwise_xor"]
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"]
# In the order of the enums in cuda/pointwise_math.cu.
MATH = ["exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
        "tanh", "erf", "sigmoid", "gelu", "log_sigmoid", "softplus", "elu"]
MATH_BINARY = ["pow", "floor_divide", "remainder", "fmod", "atan2"]

_BOOL = np.dtype(np.bool_)
_FLOAT64 = np.dtype(np.float64)
_ZERO = {dtype: number_for(0, dtype) for dtype in SUFFIX}
_LANES = {dtype: 16 // dtype.itemsize for dtype in SUFFIX}
_NAMES: dict[str, dict[Any, str]] = {
    kind: {dtype: f"{kind}_{suffix}" for dtype, suffix in SUFFIX.items()}
    for kind in ("unary", "test", "binary", "compare", "unary_strided", "test_strided", "binary_strided",
                 "binary_groups", "compare_strided", "math", "math_binary")
}
# Whole numbers are whole already, and no such number is NaN or infinite.
_KEEPS_WHOLE = {"floor", "ceil", "trunc", "round"}
_OF_WHOLE = {"isnan": False, "isinf": False, "isfinite": True}
_FLOATS_ONLY = {*UNARY[UNARY.index("reciprocal"):UNARY.index("bitwise_not")], *MATH, "div", "atan2"} - _KEEPS_WHOLE


class PointwiseCUDA(AssignCUDA):
    """Elementwise operations and their backward helpers."""

    def _unary(self, code: int, x: DeviceArray, p: Any = None, q: Any = None) -> DeviceArray:
        dtype, count = x.dtype, x.size
        output = self.runtime.empty(x.shape, dtype)
        zero = _ZERO[dtype]
        p, q = zero if p is None else number_for(p, dtype), zero if q is None else number_for(q, dtype)
        if vectors(x.shape, x):
            self.launch_each("pointwise", _NAMES["unary"][dtype], -(-count // _LANES[dtype]), output, x, code, p, q,
                             count)
        else:
            self.launch_each("pointwise", _NAMES["unary_strided"][dtype], count, output, x, code, p, q,
                             layout_of(x.shape, output, x), count)
        return output

    def _test(self, code: int, x: DeviceArray) -> DeviceArray:
        dtype, count = x.dtype, x.size
        output = self.runtime.empty(x.shape, _BOOL)
        if vectors(x.shape, x):
            self.launch_each("pointwise", _NAMES["test"][dtype], -(-count // _LANES[dtype]), output, x, code, count)
        else:
            self.launch_each("pointwise", _NAMES["test_strided"][dtype], count, output, x, code,
                             layout_of(x.shape, output, x), count)
        return output

    def _math(self, code: int, x: DeviceArray, p: float = 0.0, q: float = 0.0) -> DeviceArray:
        output = self.runtime.empty(x.shape, x.dtype)
        self.launch_each("pointwise_math", _NAMES["math"][x.dtype], x.size, output, x, code, number_for(p, x.dtype),
                         number_for(q, x.dtype), layout_of(x.shape, output, x), x.size)
        return output

    def _binary(self, op: str, code: int, a: Any, b: Any, p: float | None = None,
                output: DeviceArray | None = None) -> DeviceArray:
        """``a op b``; into ``output``, which may be one of them, if it is given."""
        x, y, x_number, y_number, dtype, shape = _operands(op, a, b)
        if output is None:
            output = self.runtime.empty(shape, dtype)
        p = _ZERO[dtype] if p is None else number_for(p, dtype)
        count = output.size
        if vectors(output.shape, output, x, y):
            self.launch_each("pointwise", _NAMES["binary"][dtype], -(-count // _LANES[dtype]), output, x, y, x_number,
                             y_number, code, p, count)
        else:
            layout = _layout(output, x, y)
            groups = None if x is None or y is None or (output.ptr | x.ptr | y.ptr) % 16 else layout.in_groups(
                _LANES[dtype])
            if groups is None or groups[1] & 1:
                self.launch_each("pointwise", _NAMES["binary_strided"][dtype], count, output, x, y, x_number, y_number,
                                 code, p, layout, count)
            else:
                self.launch_each("pointwise", _NAMES["binary_groups"][dtype], groups[0].size, output, x, y, code, p,
                                 groups[1], groups[0], groups[0].size)
        return output

    def _compare(self, op: str, code: int, a: Any, b: Any) -> DeviceArray:
        x, y, x_number, y_number, dtype, shape = _operands(op, a, b)
        output = self.runtime.empty(shape, _BOOL)
        count = output.size
        if vectors(output.shape, output, x, y):
            self.launch_each("pointwise", _NAMES["compare"][dtype], -(-count // _LANES[dtype]), output, x, y, x_number,
                             y_number, code, count)
        else:
            self.launch_each("pointwise", _NAMES["compare_strided"][dtype], count, output, x, y, x_number, y_number,
                             code, _layout(output, x, y), count)
        return output

    def _math_binary(self, op: str, a: Any, b: Any) -> DeviceArray:
        x, y, x_number, y_number, dtype, shape = _operands(op, a, b)
        output = self.runtime.empty(shape, dtype)
        self.launch_each("pointwise_math", _NAMES["math_binary"][dtype], output.size, output, x, y, x_number, y_number,
                         MATH_BINARY.index(op), _layout(output, x, y), output.size)
        return output

    def floor_divide(self, a: Any, b: Any) -> DeviceArray:
        """``a // b``, rounded down."""
        _refuse_zero(a, b)
        return self._math_binary("floor_divide", a, b)

    def remainder(self, a: Any, b: Any) -> DeviceArray:
        """``a % b`` with the sign of ``b``."""
        _refuse_zero(a, b)
        return self._math_binary("remainder", a, b)

    def fmod(self, a: Any, b: Any) -> DeviceArray:
        """``a % b`` with the sign of ``a``."""
        _refuse_zero(a, b)
        return self._math_binary("fmod", a, b)

    def pow(self, a: Any, b: Any) -> DeviceArray:
        """``a ** b``; a negative integer power of integers is an error as a number, and truncates in an array."""
        if type(b) in (int, float):
            if a.dtype.kind == "f":
                if b in CHEAP_POWERS:
                    return getattr(self, CHEAP_POWERS[b])(a)
            elif b < 0:
                raise RuntimeError("Integers to negative integer powers are not allowed.")
        return self._math_binary("pow", a, b)

    def clamp(self, x: DeviceArray, min: Any, max: Any) -> DeviceArray:
        """``minimum(maximum(x, min), max)``; a bound may be ``None``, a number or an array.  NaN stays NaN."""
        if min is None and max is None:
            raise RuntimeError("clamp: at least one of 'min' or 'max' must not be None")
        if min is None:
            return self.minimum(x, max)
        if max is None:
            return self.maximum(x, min)
        if isinstance(min, DeviceArray) or isinstance(max, DeviceArray):
            return self.minimum(self.maximum(x, min), max)
        return self._unary(UNARY.index("clamp"), x, min, max)

    def leaky_relu(self, x: DeviceArray, slope: float) -> DeviceArray:
        """x above 0 and ``slope * x`` below."""
        return self._unary(UNARY.index("leaky_relu"), x, slope)

    def leaky_relu_backward(self, grad_output: DeviceArray, input: DeviceArray, slope: float) -> DeviceArray:
        """grad_output where input was above 0, ``slope`` of it elsewhere."""
        op = "leaky_relu_backward"
        return self._binary(op, BINARY.index(op), grad_output, input, slope)

    def softplus(self, x: DeviceArray, beta: float, threshold: float) -> DeviceArray:
        """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``."""
        return self._math(MATH.index("softplus"), x, beta, threshold)

    def elu(self, x: DeviceArray, alpha: float) -> DeviceArray:
        """x above 0 and ``alpha (exp(x) - 1)`` below."""
        return self._math(MATH.index("elu"), x, alpha)

    def add_(self, destination: DeviceArray, source: Any) -> None:
        """Add ``source`` (an array or a number, broadcast) to ``destination``."""
        if isinstance(source, DeviceArray):
            if broadcast(destination.shape, source.shape) != destination.shape:
                raise broadcast_error("add_", destination, source)
            if source.dtype != destination.dtype:
                source = self.cast(source, destination.dtype)
            source = self.apart(source, destination)
        self._binary("add_", BINARY.index("add"), destination, source, output=destination)


def _operands(op: str, a: Any, b: Any) -> tuple[Any, ...]:
    """The arrays of both arguments (None for a number), their numbers, their dtype and the shape of the result."""
    if type(a) is DeviceArray:
        dtype = a.dtype
        if type(b) is DeviceArray:
            if a.shape == b.shape:
                return a, b, _ZERO[dtype], _ZERO[dtype], dtype, a.shape
            shape = broadcast(a.shape, b.shape)
            if shape is None:
                raise broadcast_error(op, a, b)
            return a, b, _ZERO[dtype], _ZERO[dtype], dtype, shape
        return a, None, _ZERO[dtype], number_for(b, dtype), dtype, a.shape
    dtype = b.dtype
    return None, b, number_for(a, dtype), _ZERO[dtype], dtype, b.shape


def _layout(output: DeviceArray, x: DeviceArray | None, y: DeviceArray | None) -> Layout:
    return layout_of(output.shape, output, output if x is None else x, output if y is None else y)


def _refuse_zero(a: Any, b: Any) -> None:
    """A divisor that is a number is looked at, as on the CPU."""
    if not isinstance(b, DeviceArray) and a.dtype.kind in "iub":
        refuse_integer_division_by_zero(b)


def _unary(op: str) -> Any:
    code = UNARY.index(op)
    keeps, fractions = op in _KEEPS_WHOLE, op in _FLOATS_ONLY

    def method(self: PointwiseCUDA, x: DeviceArray) -> DeviceArray:
        kind = x.dtype.kind
        if kind != "f":
            if keeps or (kind == "b" and op == "abs"):
                return self.copy(x)
            if kind == "b":
                return _of_bool(self, op, x)
            x = _fractions(self, x) if fractions else x
        elif op == "bitwise_not":
            raise TypeError(f"bitwise_not: not for numbers with fractions, got {x.dtype}")
        return self._unary(code, x)

    method.__name__ = op
    return method


def _of_bool(self: Any, op: str, x: DeviceArray) -> DeviceArray:
    if op in ("bitwise_not", "relu"):
        return self.logical_not(x) if op == "bitwise_not" else self.copy(x)
    raise TypeError(f"{op}: not for bool; convert it first")


def _test(op: str) -> Any:
    code = TEST.index(op)

    def method(self: PointwiseCUDA, x: DeviceArray) -> DeviceArray:
        if op in _OF_WHOLE and x.dtype.kind != "f":
            return self.full(x.shape, _OF_WHOLE[op], _BOOL)
        return self._test(code, x)

    method.__name__ = op
    return method


def _binary(op: str) -> Any:
    code = BINARY.index(op)
    fractions = op in _FLOATS_ONLY

    def method(self: PointwiseCUDA, a: Any, b: Any) -> DeviceArray:
        if fractions:
            a, b = _fractions(self, a), _fractions(self, b)
        return self._binary(op, code, a, b)

    method.__name__ = op
    return method


def _fractions(self: PointwiseCUDA, x: Any) -> Any:
    return self.cast(x, _FLOAT64) if isinstance(x, DeviceArray) and x.dtype.kind != "f" else x


def _compare(op: str) -> Any:
    code = COMPARE.index(op)
    by_value = op in COMPARE[:COMPARE.index("logical_and")]

    def method(self: PointwiseCUDA, a: Any, b: Any) -> DeviceArray:
        if by_value and not (isinstance(a, DeviceArray) and isinstance(b, DeviceArray)):
            a, b = _comparable(self, a, b)
        return self._compare(op, code, a, b)

    method.__name__ = op
    return method


def _comparable(self: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """An array and a number, the array cast where its dtype cannot hold the number: they are compared by value."""
    x, number = (a, b) if isinstance(a, DeviceArray) else (b, a)
    kind = x.dtype.kind
    if kind != "f" and isinstance(number, float):
        x = self.cast(x, _FLOAT64)
    elif kind != "f":
        limits = np.iinfo(x.dtype if kind != "b" else np.uint8)
        if kind == "b" or not limits.min <= number <= limits.max:
            x = self.cast(x, np.dtype(np.int64) if -2**63 <= number < 2**63 else _FLOAT64)
    return (x, number) if isinstance(a, DeviceArray) else (number, x)


def _math(op: str) -> Any:
    code = MATH.index(op)

    def method(self: PointwiseCUDA, x: DeviceArray) -> DeviceArray:
        return self._math(code, _fractions(self, x))

    method.__name__ = op
    return method


def _math_binary(op: str) -> Any:
    def method(self: PointwiseCUDA, a: Any, b: Any) -> DeviceArray:
        return self._math_binary(op, a, b)

    method.__name__ = op
    return method


for _make, _table in ((_unary, UNARY), (_test, TEST), (_binary, BINARY), (_compare, COMPARE), (_math, MATH),
                      (_math_binary, MATH_BINARY)):
    for _name in _table:
        if _name not in vars(PointwiseCUDA):
            setattr(PointwiseCUDA, _name, _make(_name))
