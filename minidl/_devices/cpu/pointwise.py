"""Elementwise operations on the CPU: the reference's table with compiled fronts, nanoseconds per number beside it."""

import numpy as np

from ..._ext import assign, pointwise
from ..._ext.pointwise import backward, binary, in_place, unary
from ..._ext.storage import empty
from ..reference.pointwise import CHEAP_POWERS, PointwiseReference, alike

_reference = PointwiseReference()

# What has a compiled front: nanoseconds that a number costs beyond being read and written -> names
_UNARY = {
    0.0: "neg abs square floor ceil trunc isnan isinf isfinite logical_not bitwise_not relu",
    0.5: "sign sqrt reciprocal",
    1.0: "exp log",
    2.0: "sin cos tanh",
    3.0: "log2 log10",
    5.0: "expm1 log1p tan asin acos atan sinh cosh",
}
_BINARY = {
    0.0: "add sub mul maximum minimum eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or "
         "bitwise_xor",
    0.3: "div",
    5.0: "floor_divide remainder fmod atan2",
    10.0: "_power",
}
_FLOATS_ONLY = {"floor_divide", "remainder", "fmod", "_power"}


class PointwiseCPU(PointwiseReference):
    """What is not here stays with the reference."""

    sigmoid = staticmethod(pointwise.sigmoid(_reference.sigmoid))

    relu_backward = staticmethod(backward(_reference.relu_backward))
    tanh_backward = staticmethod(backward(_reference.tanh_backward))
    sigmoid_backward = staticmethod(backward(_reference.sigmoid_backward))

    copy = staticmethod(assign.copy)
    add_ = staticmethod(in_place(_reference.add_, np.add))

    def rsqrt(self, x):
        return self.reciprocal(self.sqrt(x))

    def pow(self, a, b):
        if type(b) in (int, float) and b in CHEAP_POWERS and a.dtype.kind == "f":
            return getattr(self, CHEAP_POWERS[b])(a)
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


for _make, _table in ((unary, _UNARY), (binary, _BINARY)):
    for _nanoseconds, _names in _table.items():
        for _name in _names.split():
            _front = _make(getattr(_reference, _name), _nanoseconds, _name in _FLOATS_ONLY)
            setattr(PointwiseCPU, _name, staticmethod(_front))
