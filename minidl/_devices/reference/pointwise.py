"""Elementwise operations in plain NumPy: each number of the result depends on one number of every argument.

Arguments are arrays of one dtype, or one array and Python numbers; shapes broadcast.  A Python number takes the
dtype of the array beside it (300 beside uint8 becomes 44, as in C and in PyTorch).  Every result is a fresh
C-contiguous array.  Floats follow IEEE 754 without a warning; an integer divided by zero raises ``RuntimeError``.
"""

import math

import numpy as np

# Powers that cheaper operations compute.
CHEAP_POWERS = {2: "square", 1: "copy", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}

_erf = np.vectorize(math.erf, otypes=[np.float64])


def broadcast_error(op, *arguments):
    """The ``RuntimeError`` for arguments whose shapes do not broadcast."""
    shapes = [np.shape(argument) for argument in arguments]
    width = max(map(len, shapes))
    padded = [(1,) * (width - len(shape)) + shape for shape in shapes]
    axis = max((i for i, sizes in enumerate(zip(*padded, strict=True)) if len(set(sizes) - {1}) > 1), default=-1)
    listed = " and ".join(map(str, shapes))
    return RuntimeError(f"{op}: shapes {listed} do not broadcast: sizes at dimension {axis} must be equal or 1")


def of_dtype(value, array):
    """A Python number as a 0-d array of the dtype of ``array``; arrays as they are."""
    return value if isinstance(value, np.ndarray) else np.asarray(value).astype(array.dtype)


def alike(a, b):
    """Both arguments as arrays, a Python number taking the dtype of the other."""
    return of_dtype(a, b), of_dtype(b, a)


def refuse_integer_division_by_zero(b):
    """PyTorch's error where an integer divisor (array or number) holds a zero."""
    if np.asarray(b).dtype.kind in "iub" and not np.all(b):
        raise RuntimeError("ZeroDivisionError")


def _unary(op, ufunc):
    def method(self, x):
        with np.errstate(all="ignore"):
            return np.asarray(ufunc(x, order="C"))

    method.__name__, method.ufunc = op, ufunc
    return method


def _binary(op, ufunc, prepare=alike):
    def method(self, a, b):
        a, b = prepare(a, b)
        try:
            with np.errstate(all="ignore"):
                return np.asarray(ufunc(a, b, order="C"))
        except ValueError:
            raise broadcast_error(op, a, b) from None

    method.__name__, method.ufunc = op, ufunc
    return method


def _as_they_are(a, b):
    """Comparisons take a number by its value, even one that the dtype of the array cannot hold."""
    return a, b


def _dividends(a, b):
    refuse_integer_division_by_zero(b)
    return alike(a, b)


class PointwiseReference:
    """Elementwise operations, their backward helpers, casts and in-place writes."""

    neg = _unary("neg", np.negative)
    abs = _unary("abs", np.absolute)
    exp = _unary("exp", np.exp)
    expm1 = _unary("expm1", np.expm1)
    log = _unary("log", np.log)
    log1p = _unary("log1p", np.log1p)
    log2 = _unary("log2", np.log2)
    log10 = _unary("log10", np.log10)
    sqrt = _unary("sqrt", np.sqrt)
    reciprocal = _unary("reciprocal", np.reciprocal)
    square = _unary("square", np.square)
    sin = _unary("sin", np.sin)
    cos = _unary("cos", np.cos)
    tan = _unary("tan", np.tan)
    asin = _unary("asin", np.arcsin)
    acos = _unary("acos", np.arccos)
    atan = _unary("atan", np.arctan)
    sinh = _unary("sinh", np.sinh)
    cosh = _unary("cosh", np.cosh)
    tanh = _unary("tanh", np.tanh)
    floor = _unary("floor", np.floor)
    ceil = _unary("ceil", np.ceil)
    trunc = _unary("trunc", np.trunc)
    isnan = _unary("isnan", np.isnan)
    isinf = _unary("isinf", np.isinf)
    isfinite = _unary("isfinite", np.isfinite)
    logical_not = _unary("logical_not", np.logical_not)
    bitwise_not = _unary("bitwise_not", np.bitwise_not)

    add = _binary("add", np.add)
    sub = _binary("sub", np.subtract)
    mul = _binary("mul", np.multiply)
    div = _binary("div", np.true_divide)
    floor_divide = _binary("floor_divide", np.floor_divide, _dividends)
    remainder = _binary("remainder", np.remainder, _dividends)
    fmod = _binary("fmod", np.fmod, _dividends)
    maximum = _binary("maximum", np.maximum)
    minimum = _binary("minimum", np.minimum)
    atan2 = _binary("atan2", np.arctan2)
    eq = _binary("eq", np.equal, _as_they_are)
    ne = _binary("ne", np.not_equal, _as_they_are)
    lt = _binary("lt", np.less, _as_they_are)
    le = _binary("le", np.less_equal, _as_they_are)
    gt = _binary("gt", np.greater, _as_they_are)
    ge = _binary("ge", np.greater_equal, _as_they_are)
    logical_and = _binary("logical_and", np.logical_and)
    logical_or = _binary("logical_or", np.logical_or)
    logical_xor = _binary("logical_xor", np.logical_xor)
    bitwise_and = _binary("bitwise_and", np.bitwise_and)
    bitwise_or = _binary("bitwise_or", np.bitwise_or)
    bitwise_xor = _binary("bitwise_xor", np.bitwise_xor)

    _power = _binary("pow", np.power)

    def sign(self, x):
        """-1, 0 or 1; 0 for NaN, as in PyTorch."""
        return np.asarray((x > 0).astype(x.dtype) - (x < 0), x.dtype, order="C")

    def round(self, x):
        """Halves go to the even neighbour."""
        return self.copy(x) if x.dtype.kind in "iub" else np.asarray(np.rint(x, order="C"))

    def rsqrt(self, x):
        with np.errstate(all="ignore"):
            return np.asarray(np.reciprocal(np.sqrt(x, order="C")))

    def pow(self, a, b):
        """``a ** b``; a negative integer power of integers is an error as a number, and truncates in an array."""
        a, b = alike(a, b)
        if a.dtype.kind in "iu" and np.any(b < 0):
            if b.ndim == 0:
                raise RuntimeError("Integers to negative integer powers are not allowed.")
            sign = self._power(a, b & 1)
            return np.asarray(np.where(b < 0, np.where(np.abs(a) == 1, sign, 0), self._power(a, np.maximum(b, 0))))
        return self._power(a, b)

    def where(self, condition, a, b):
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            a, b = alike(a, b)
        try:
            return np.asarray(np.where(condition, a, b), order="C")
        except ValueError:
            raise broadcast_error("where", condition, a, b) from None

    def clamp(self, x, min, max):
        """``minimum(maximum(x, min), max)``; a bound may be ``None``, a number or an array.  NaN stays NaN."""
        if min is None and max is None:
            raise RuntimeError("clamp: at least one of 'min' or 'max' must not be None")
        if min is None:
            return self.minimum(x, max)
        lifted = self.maximum(x, min)
        return lifted if max is None else self.minimum(lifted, max)

    def masked_fill(self, x, mask, value):
        return self.where(mask, value, x)

    def relu(self, x):
        """``max(x, 0)``; NaN stays NaN."""
        return np.asarray(np.maximum(x, x.dtype.type(0), order="C"))

    def sigmoid(self, x):
        with np.errstate(all="ignore"):
            return np.asarray(1 / (1 + np.exp(-x)), order="C")

    def softplus(self, x, beta, threshold):
        """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``."""
        with np.errstate(all="ignore"):
            scaled = x * beta
            return np.asarray(np.where(scaled > threshold, x, np.log1p(np.exp(scaled)) / beta), order="C")

    def log_sigmoid(self, x):
        """``log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|))``, which cannot overflow."""
        with np.errstate(all="ignore"):
            return np.asarray(np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), order="C")

    def leaky_relu(self, x, slope):
        with np.errstate(all="ignore"):
            return np.asarray(np.where(x > 0, x, x * slope), order="C")

    def elu(self, x, alpha):
        with np.errstate(all="ignore"):
            return np.asarray(np.where(x > 0, x, alpha * np.expm1(x)), order="C")

    def erf(self, x):
        return np.asarray(_erf(x).astype(x.dtype), order="C")

    def gelu(self, x):
        """``x Phi(x) = x (1 + erf(x / sqrt 2)) / 2`` (Hendrycks and Gimpel, 2016)."""
        with np.errstate(all="ignore"):
            return np.asarray(0.5 * x * (1 + self.erf(x * math.sqrt(0.5))), order="C")

    def relu_backward(self, grad_output, output):
        return np.asarray(np.where(output <= 0, grad_output.dtype.type(0), grad_output), order="C")

    def tanh_backward(self, grad_output, output):
        with np.errstate(all="ignore"):
            return np.asarray(grad_output * (1 - output * output), order="C")

    def sigmoid_backward(self, grad_output, output):
        with np.errstate(all="ignore"):
            return np.asarray(grad_output * ((1 - output) * output), order="C")

    def leaky_relu_backward(self, grad_output, input, slope):
        with np.errstate(all="ignore"):
            return np.asarray(np.where(input > 0, grad_output, grad_output * slope), order="C")

    def cast(self, x, np_dtype):
        with np.errstate(all="ignore"):
            return x.astype(np_dtype, order="C", copy=True)

    def copy(self, x):
        return np.array(x, order="C", copy=True)

    def copy_(self, destination, source):
        """Write ``source`` (an array or a number, broadcast and cast) into ``destination``."""
        try:
            with np.errstate(all="ignore"):
                np.copyto(destination, source, casting="unsafe")
        except ValueError:
            raise broadcast_error("copy_", destination, source) from None

    def add_(self, destination, source):
        """Add ``source`` (an array or a number, broadcast) to ``destination``."""
        source = of_dtype(source, destination)
        try:
            with np.errstate(all="ignore"):
                np.add(destination, source, out=destination, casting="unsafe")
        except ValueError:
            raise broadcast_error("add_", destination, source) from None

    def fill_(self, destination, value):
        destination[...] = of_dtype(value, destination)
