"""Elementwise ops: derivative rules first, easy ones on top, then the public functions.

``input`` and ``other`` broadcast against each other; dtypes are promoted by PyTorch's rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minidl._ext.core import Op, PooledGrad, Tensor, formulas, register, unary
from minidl.ops.rules import to_shape

# ---- one argument -------------------------------------------------------------------------------------------------

_LN2, _LN10 = math.log(2), math.log(10)


def _gelu_slope(F, x):
    """gelu(x) = x Phi(x), so its slope is Phi(x) + x phi(x) with Phi, phi of the standard normal distribution."""
    below = F.mul(F.add(F.erf(F.mul(x, math.sqrt(0.5))), 1.0), 0.5)
    density = F.mul(F.exp(F.mul(F.square(x), -0.5)), 1 / math.sqrt(2 * math.pi))
    return F.add(below, F.mul(x, density))


# name: derivative rule over (F, node, grad, input), for ops whose rule reads the input
_FROM_INPUT: dict[str, Any] = {
    "abs": lambda F, node, grad, x: F.mul(grad, F.sign(x)),
    "square": lambda F, node, grad, x: F.mul(grad, F.mul(x, 2.0)),
    "log": lambda F, node, grad, x: F.div(grad, x),
    "log1p": lambda F, node, grad, x: F.div(grad, F.add(x, 1.0)),
    "log2": lambda F, node, grad, x: F.div(grad, F.mul(x, _LN2)),
    "log10": lambda F, node, grad, x: F.div(grad, F.mul(x, _LN10)),
    "sin": lambda F, node, grad, x: F.mul(grad, F.cos(x)),
    "cos": lambda F, node, grad, x: F.neg(F.mul(grad, F.sin(x))),
    "asin": lambda F, node, grad, x: F.mul(grad, F.rsqrt(F.sub(1.0, F.square(x)))),
    "acos": lambda F, node, grad, x: F.neg(F.mul(grad, F.rsqrt(F.sub(1.0, F.square(x))))),
    "atan": lambda F, node, grad, x: F.div(grad, F.add(F.square(x), 1.0)),
    "sinh": lambda F, node, grad, x: F.mul(grad, F.cosh(x)),
    "cosh": lambda F, node, grad, x: F.mul(grad, F.sinh(x)),
    "log_sigmoid": lambda F, node, grad, x: F.mul(grad, F.sigmoid(F.neg(x))),
    "erf": lambda F, node, grad, x: F.mul(grad, F.mul(F.exp(F.neg(F.square(x))), 2 / math.sqrt(math.pi))),
    "gelu": lambda F, node, grad, x: F.mul(grad, _gelu_slope(F, x)),
}

# the same over (F, node, grad, output), for ops whose rule reads the result
_FROM_OUTPUT: dict[str, Any] = {
    "exp": lambda F, node, grad, out: F.mul(grad, out),
    "expm1": lambda F, node, grad, out: F.mul(grad, F.add(out, 1.0)),
    "sqrt": lambda F, node, grad, out: F.div(grad, F.mul(out, 2.0)),
    "rsqrt": lambda F, node, grad, out: F.mul(F.mul(grad, -0.5), F.mul(out, F.square(out))),
    "reciprocal": lambda F, node, grad, out: F.neg(F.mul(grad, F.square(out))),
    "tan": lambda F, node, grad, out: F.mul(grad, F.add(F.square(out), 1.0)),
    "tanh": lambda F, node, grad, out: F.tanh_backward(grad, out),
    "sigmoid": lambda F, node, grad, out: F.sigmoid_backward(grad, out),
}

# flat almost everywhere: the gradient is zero
_FLAT = ("sign", "floor", "ceil", "round", "trunc")

# yes-or-no answers and bit arithmetic: no gradient at all
_WITHOUT_GRADIENT = ("isnan", "isinf", "isfinite", "logical_not", "bitwise_not")

# integers stay integers in these; the others make the default float of them
_KEEPS_INTEGERS = {"abs", "square", "sign", "floor", "ceil", "round", "trunc", "neg"}


def _unary_op(name: str) -> Op:
    promotion = None if name in _KEEPS_INTEGERS else "float"
    if name in _FROM_INPUT:
        return Op(name, backward=formulas(_FROM_INPUT[name]), saves={0: (0,)}, promotion=promotion)
    if name in _FROM_OUTPUT:
        return Op(name, backward=formulas(_FROM_OUTPUT[name]), saves_output=True, promotion=promotion)
    if name in _FLAT:
        return Op(name, backward=formulas(lambda F, node, grad: F.zeros_like(grad)))
    return Op(name)


_UNARY = {name: _unary_op(name) for name in (*_FROM_INPUT, *_FROM_OUTPUT, *_FLAT, *_WITHOUT_GRADIENT)}
_UNARY["neg"] = Op("neg", backward=formulas(lambda F, node, grad: F.neg(grad)))
_UNARY["relu"] = Op("relu", backward=formulas(lambda F, node, grad, out: F.relu_backward(grad, out)), saves_output=True,
                    pooled=lambda F, node, grad, out: PooledGrad(grad.grad_output, grad.codes, True),
                    joins={("conv2d",): ("conv2d_relu", None)})

register("tanh_backward", lambda grad, out: grad * (1.0 - out * out))
register("sigmoid_backward", lambda grad, out: grad * out * (1.0 - out))
register("relu_backward", lambda grad, out: where(out > 0, grad, 0.0))


# ---- two arguments ------------------------------------------------------------------------------------------------


def _add_backward(F, node, grad):
    return grad, grad


def _sub_backward(F, node, grad):
    return grad, F.neg(grad)


def _mul_backward(F, node, grad, input, other):
    return F.mul(grad, other), F.mul(grad, input)


def _div_backward(F, node, grad, input, other):
    return F.div(grad, other), F.neg(F.mul(grad, F.div(F.div(input, other), other)))


def _pow_backward(F, node, grad, input, exponent, output):
    grad_input = grad_exponent = None
    if node.needs(0):
        if isinstance(exponent, (int, float)):
            slope = F.mul(F.pow(input, exponent - 1), float(exponent)) if exponent else F.zeros_like(input)
        else:
            # 0 * 0**-1 is 0 here, not NaN
            slope = F.where(F.eq(exponent, 0.0), 0.0, F.mul(exponent, F.pow(input, F.sub(exponent, 1.0))))
        grad_input = to_shape(F, node, 0, F.mul(grad, slope))
    if node.needs(1):
        if isinstance(input, (int, float)):
            slope = F.mul(output, math.log(input)) if input else F.zeros_like(output)
        else:
            dead = F.logical_and(F.eq(input, 0.0), F.ge(exponent, 0.0))
            slope = F.where(dead, 0.0, F.mul(output, F.log(input)))
        grad_exponent = to_shape(F, node, 1, F.mul(grad, slope))
    return grad_input, grad_exponent


def _pick_backward(greater: bool) -> Callable[..., Any]:
    """maximum and minimum: the gradient goes to the winner, half to each at a tie (as PyTorch)."""

    def share(F, grad, mine, theirs):
        wins = F.gt(mine, theirs) if greater else F.lt(mine, theirs)
        return F.where(wins, grad, F.where(F.eq(mine, theirs), F.mul(grad, 0.5), 0.0))

    def backward(F, node, grad, input, other):
        return (
            to_shape(F, node, 0, share(F, grad, input, other)) if node.needs(0) else None,
            to_shape(F, node, 1, share(F, grad, other, input)) if node.needs(1) else None,
        )

    return backward


def _atan2_backward(F, node, grad, input, other):
    scaled = F.div(grad, F.add(F.square(input), F.square(other)))
    return (
        to_shape(F, node, 0, F.mul(scaled, other)) if node.needs(0) else None,
        to_shape(F, node, 1, F.neg(F.mul(scaled, input))) if node.needs(1) else None,
    )


def _remainder_backward(F, node, grad, input, other):
    quotient = F.floor(F.div(input, other)) if node.needs(1) else None
    return (
        to_shape(F, node, 0, grad) if node.needs(0) else None,
        to_shape(F, node, 1, F.neg(F.mul(grad, quotient))) if node.needs(1) else None,
    )


def _number(node, index):
    """Whether argument ``index`` was a Python number: a tensor has left its shape there."""
    return not isinstance(node.args[index], tuple)


_EACH_FOR_THE_OTHER = {0: (1,), 1: (0,)}
_BOTH = {0: (0, 1), 1: (0, 1)}

_BINARY = {
    "add": Op("add", backward=formulas(_add_backward, broadcasts=True), promotion="arithmetic"),
    "sub": Op("sub", lambda node: "RsubBackward1" if _number(node, 0) else "SubBackward0",
              backward=formulas(_sub_backward, broadcasts=True), promotion="subtract"),
    "mul": Op("mul", backward=formulas(_mul_backward, broadcasts=True), saves=_EACH_FOR_THE_OTHER,
              promotion="arithmetic"),
    "div": Op("div", backward=formulas(_div_backward, broadcasts=True), saves={0: (1,), 1: (0, 1)}, promotion="float"),
    "pow": Op("pow", lambda node: f"PowBackward{0 if _number(node, 1) else 2 if _number(node, 0) else 1}",
              backward=_pow_backward, saves=_BOTH, saves_output=(1,), promotion="count"),
    "maximum": Op("maximum", backward=_pick_backward(True), saves=_BOTH, promotion="arithmetic"),
    "minimum": Op("minimum", backward=_pick_backward(False), saves=_BOTH, promotion="arithmetic"),
    "atan2": Op("atan2", "Atan2Backward0", backward=_atan2_backward, saves=_BOTH, promotion="float"),
    "remainder": Op("remainder", lambda node: f"RemainderBackward{0 if _number(node, 1) else 1}",
                    backward=_remainder_backward, saves={0: (1,), 1: (1,)}, promotion="count"),
    "floor_divide": Op("floor_divide", promotion="count"),
    **{name: Op(name, promotion="compare") for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: Op(name, promotion="compare") for name in ("logical_and", "logical_or", "logical_xor")},
    **{name: Op(name, promotion="bits") for name in ("bitwise_and", "bitwise_or", "bitwise_xor")},
}

# ---- conditions ---------------------------------------------------------------------------------------------------


def _where_backward(F, node, grad, condition):
    return (
        None,
        to_shape(F, node, 1, F.where(condition, grad, 0.0)) if node.needs(1) else None,
        to_shape(F, node, 2, F.where(condition, 0.0, grad)) if node.needs(2) else None,
    )


def _clamp_backward(F, node, grad, input):
    low, high = node.args[1], node.args[2]
    if low is not None:
        grad = F.where(F.ge(input, low), grad, 0.0)
    return grad if high is None else F.where(F.le(input, high), grad, 0.0)


def _leaky_relu_backward(F, node, grad, input):
    return F.where(F.gt(input, 0.0), grad, F.mul(grad, node.args[1]))


def _elu_backward(F, node, grad, input):
    alpha = node.args[1]
    return F.mul(grad, F.where(F.gt(input, 0.0), 1.0, F.mul(F.exp(F.minimum(input, 0.0)), alpha)))


def _softplus_backward(F, node, grad, input):
    beta, threshold = node.args[1:]
    scaled = F.mul(input, beta)
    return F.where(F.gt(scaled, threshold), grad, F.mul(grad, F.sigmoid(scaled)))


_where = Op("where", backward=_where_backward, saves={0: (1, 2)})
_clamp = Op("clamp", "ClampBackward1", backward=_clamp_backward, saves={0: (0,)})
_masked_fill = Op(
    "masked_fill", backward=lambda F, node, grad, mask: F.masked_fill(grad, mask, 0.0), saves={1: (0,)}
)
_leaky_relu = Op("leaky_relu", backward=_leaky_relu_backward, saves={0: (0,)}, promotion="float")
_elu = Op("elu", backward=_elu_backward, saves={0: (0,)}, promotion="float")
_softplus = Op("softplus", backward=_softplus_backward, saves={0: (0,)}, promotion="float")


# ---- public functions ---------------------------------------------------------------------------------------------


def _public_unary(name: str, formula: str) -> Any:
    return unary(_UNARY[name], name, f"{formula}, elementwise; the result has the shape of ``input``.", __name__)


abs = _public_unary("abs", "|x|")
neg = _public_unary("neg", "-x")
sign = _public_unary("sign", "-1, 0 or 1")
square = _public_unary("square", "x * x")
exp = _public_unary("exp", "e**x")
expm1 = _public_unary("expm1", "e**x - 1, accurate near 0")
log = _public_unary("log", "natural logarithm")
log1p = _public_unary("log1p", "log(1 + x), accurate near 0")
log2 = _public_unary("log2", "logarithm to base 2")
log10 = _public_unary("log10", "logarithm to base 10")
sqrt = _public_unary("sqrt", "square root")
rsqrt = _public_unary("rsqrt", "1 / sqrt(x)")
reciprocal = _public_unary("reciprocal", "1 / x")
sin = _public_unary("sin", "sine")
cos = _public_unary("cos", "cosine")
tan = _public_unary("tan", "tangent")
asin = _public_unary("asin", "inverse sine")
acos = _public_unary("acos", "inverse cosine")
atan = _public_unary("atan", "inverse tangent")
sinh = _public_unary("sinh", "hyperbolic sine")
cosh = _public_unary("cosh", "hyperbolic cosine")
tanh = _public_unary("tanh", "hyperbolic tangent")
sigmoid = _public_unary("sigmoid", "1 / (1 + e**-x)")
relu = _public_unary("relu", "max(x, 0)")
floor = _public_unary("floor", "largest whole number not above x")
ceil = _public_unary("ceil", "smallest whole number not below x")
trunc = _public_unary("trunc", "x without its fraction")
isnan = _public_unary("isnan", "whether x is NaN")
isinf = _public_unary("isinf", "whether x is infinite")
isfinite = _public_unary("isfinite", "whether x is neither infinite nor NaN")
logical_not = _public_unary("logical_not", "not x")
bitwise_not = _public_unary("bitwise_not", "all bits flipped; not x for bool")
erf = _public_unary("erf", "error function, 2 / sqrt(pi) * integral of e**(-t**2) from 0 to x")
gelu = _public_unary("gelu", "x * (chance that a standard normal number is below x)")
log_sigmoid = _public_unary("log_sigmoid", "log(sigmoid(x)), accurate for large |x|")


def add(input: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """``input + alpha * other``."""
    return _BINARY["add"](input, other if alpha == 1 else other * alpha)


def sub(input: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """``input - alpha * other``.  Raises ``RuntimeError`` for bool tensors."""
    return _BINARY["sub"](input, other if alpha == 1 else other * alpha)


def mul(input: Tensor, other: Any) -> Tensor:
    """``input * other``."""
    return _BINARY["mul"](input, other)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Nearest number with so many ``decimals``, or whole tens, hundreds, ... for negative; halves to the even one.

    Raises ``NotImplementedError`` for ``decimals`` of integers.
    """
    if not decimals:
        return _UNARY["round"](input)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"round: decimals={decimals} is only for floating point tensors, got {input.dtype}; "
                                  "convert the input with .float()")
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    if decimals > 0:
        return div(_UNARY["round"](mul(input, scale)), scale)
    return mul(_UNARY["round"](div(input, scale)), scale)


def div(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; ``rounding_mode`` is None, 'trunc' or 'floor'."""
    if rounding_mode is None:
        return _BINARY["div"](input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        quotient = trunc(_BINARY["div"](input, other))
        floating = any(isinstance(x, float) or (isinstance(x, Tensor) and x.dtype.is_floating_point)
                       for x in (input, other))
        return quotient if floating else quotient.to(_BINARY["add"](input, other).dtype)
    raise RuntimeError(
        f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
    )


def pow(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent``.  Integers to a negative whole power raise ``RuntimeError``."""
    if isinstance(exponent, int) and exponent < 0 and isinstance(input, Tensor) and not input.dtype.is_floating_point:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return _BINARY["pow"](input, exponent)


def floor_divide(input: Any, other: Any) -> Tensor:
    """``input // other``, rounded down."""
    return _BINARY["floor_divide"](input, other)


def remainder(input: Any, other: Any) -> Tensor:
    """``input % other``, with the sign of ``other``."""
    return _BINARY["remainder"](input, other)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of the two; NaN where either is NaN.  At a tie each gets half of the gradient."""
    return _BINARY["maximum"](input, other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of the two; NaN where either is NaN.  At a tie each gets half of the gradient."""
    return _BINARY["minimum"](input, other)


def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input), in (-pi, pi]."""
    return _BINARY["atan2"](input, other)


def _public_comparison(name: str, sign: str) -> Any:
    op = _BINARY[name]

    def function(input: Tensor, other: Any) -> Tensor:
        return op(input, other)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``input {sign} other``, elementwise."
    return function


eq = _public_comparison("eq", "==")
ne = _public_comparison("ne", "!=")
lt = _public_comparison("lt", "<")
le = _public_comparison("le", "<=")
gt = _public_comparison("gt", ">")
ge = _public_comparison("ge", ">=")
logical_and = _public_comparison("logical_and", "and")
logical_or = _public_comparison("logical_or", "or")
logical_xor = _public_comparison("logical_xor", "xor")
bitwise_and = _public_comparison("bitwise_and", "&")
bitwise_or = _public_comparison("bitwise_or", "|")
bitwise_xor = _public_comparison("bitwise_xor", "^")


def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """``input`` where ``condition`` (bool) holds, ``other`` elsewhere; all three broadcast."""
    from minidl.ops.promotion import promote

    if condition.dtype.category != 0:
        raise RuntimeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype "
                           f"{condition.dtype}; compare it with something first")
    if isinstance(input, Tensor) or isinstance(other, Tensor):
        input, other = promote(1, (input, other))
    else:
        from minidl.ops.creation import full

        input = full((), input, device=condition.device)
    return _where(condition, input, other)


def clamp(input: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """``input`` held between ``min`` and ``max`` (numbers or None); the gradient passes where it was not held."""
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of 'min' or 'max' must not be None")
    if isinstance(min, float) or isinstance(max, float):
        from minidl.ops.promotion import promote

        input = promote(1, (input, 0.0))[0]
    return _clamp(input, min, max)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``input`` with ``value`` (a number) where ``mask`` (bool, broadcast) holds."""
    if mask.dtype.category != 0:
        raise RuntimeError(f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype}")
    return _masked_fill(input, mask, value.item() if isinstance(value, Tensor) else value)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """``x`` above 0 and ``negative_slope * x`` below."""
    return _leaky_relu(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """``x`` above 0 and ``alpha * (e**x - 1)`` below (Clevert et al. 2015)."""
    return _elu(input, alpha)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + e**(beta * x)) / beta``, and ``x`` itself where ``beta * x > threshold``."""
    return _softplus(input, float(beta), float(threshold))
