"""Elementwise operations on the CPU: the reference's table with compiled fronts, nanoseconds per number beside it."""

import numpy as np

from ..._ext import assign, pointwise
from ..._ext.pointwise import backward, binary, in_place, unary
from ..._ext.storage import empty
from ..reference.pointwise import PointwiseReference, alike

_reference = PointwiseReference()
_CHEAP_POWERS = {2: "square", 1: "copy", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}


class PointwiseCPU(PointwiseReference):
    """What is not here stays with the reference."""

    neg = staticmethod(unary(_reference.neg))
    abs = staticmethod(unary(_reference.abs))
    sign = staticmethod(unary(_reference.sign, 0.5))
    exp = staticmethod(unary(_reference.exp, 1.0))
    expm1 = staticmethod(unary(_reference.expm1, 5.0))
    log = staticmethod(unary(_reference.log, 1.0))
    log1p = staticmethod(unary(_reference.log1p, 5.0))
    log2 = staticmethod(unary(_reference.log2, 3.0))
    log10 = staticmethod(unary(_reference.log10, 3.0))
    sqrt = staticmethod(unary(_reference.sqrt, 0.5))
    reciprocal = staticmethod(unary(_reference.reciprocal, 0.5))
    square = staticmethod(unary(_reference.square))
    sin = staticmethod(unary(_reference.sin, 2.0))
    cos = staticmethod(unary(_reference.cos, 2.0))
    tan = staticmethod(unary(_reference.tan, 5.0))
    asin = staticmethod(unary(_reference.asin, 5.0))
    acos = staticmethod(unary(_reference.acos, 5.0))
    atan = staticmethod(unary(_reference.atan, 5.0))
    sinh = staticmethod(unary(_reference.sinh, 5.0))
    cosh = staticmethod(unary(_reference.cosh, 5.0))
    tanh = staticmethod(unary(_reference.tanh, 2.0))
    floor = staticmethod(unary(_reference.floor))
    ceil = staticmethod(unary(_reference.ceil))
    trunc = staticmethod(unary(_reference.trunc))
    isnan = staticmethod(unary(_reference.isnan))
    isinf = staticmethod(unary(_reference.isinf))
    isfinite = staticmethod(unary(_reference.isfinite))
    logical_not = staticmethod(unary(_reference.logical_not))
    bitwise_not = staticmethod(unary(_reference.bitwise_not))
    relu = staticmethod(unary(_reference.relu))
    sigmoid = staticmethod(pointwise.sigmoid(_reference.sigmoid))

    add = staticmethod(binary(_reference.add))
    sub = staticmethod(binary(_reference.sub))
    mul = staticmethod(binary(_reference.mul))
    div = staticmethod(binary(_reference.div, 0.3))
    floor_divide = staticmethod(binary(_reference.floor_divide, 5.0, floats_only=True))
    remainder = staticmethod(binary(_reference.remainder, 5.0, floats_only=True))
    fmod = staticmethod(binary(_reference.fmod, 5.0, floats_only=True))
    maximum = staticmethod(binary(_reference.maximum))
    minimum = staticmethod(binary(_reference.minimum))
    atan2 = staticmethod(binary(_reference.atan2, 5.0))
    eq = staticmethod(binary(_reference.eq))
    ne = staticmethod(binary(_reference.ne))
    lt = staticmethod(binary(_reference.lt))
    le = staticmethod(binary(_reference.le))
    gt = staticmethod(binary(_reference.gt))
    ge = staticmethod(binary(_reference.ge))
    logical_and = staticmethod(binary(_reference.logical_and))
    logical_or = staticmethod(binary(_reference.logical_or))
    logical_xor = staticmethod(binary(_reference.logical_xor))
    bitwise_and = staticmethod(binary(_reference.bitwise_and))
    bitwise_or = staticmethod(binary(_reference.bitwise_or))
    bitwise_xor = staticmethod(binary(_reference.bitwise_xor))
    relu_backward = staticmethod(backward(_reference.relu_backward))
    tanh_backward = staticmethod(backward(_reference.tanh_backward))
    sigmoid_backward = staticmethod(backward(_reference.sigmoid_backward))

    _power = staticmethod(binary(_reference._power, 10.0, floats_only=True))

    copy = staticmethod(assign.copy)
    add_ = staticmethod(in_place(_reference.add_, np.add))

    def rsqrt(self, x):
        return self.reciprocal(self.sqrt(x))

    def pow(self, a, b):
        if type(b) in (int, float) and b in _CHEAP_POWERS and a.dtype.kind == "f":
            return getattr(self, _CHEAP_POWERS[b])(a)
        return super().pow(a, b)

    def where(self, condition, a, b):
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            a, b = alike(a, b)
            result = assign.where(condition, a, b)
            if result is not None:
                return result
        return super().where(condition, a, b)

    def cast(self, x, np_dtype):
        result = empty(x.shape, np.dtype(np_dtype))
        self.copy_(result, x)
        return result

    def copy_(self, destination, source):
        if not isinstance(source, np.ndarray):
            self.fill_(destination, source)
        elif not assign.copy_silent(destination, source):
            super().copy_(destination, source)

    def fill_(self, destination, value):
        if not assign.fill_(destination, value):
            super().fill_(destination, value)
