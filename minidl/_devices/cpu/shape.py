"""Views that NumPy makes slowly, or without a trace of whose memory they look at."""

from ..._ext.storage import strided


class ShapeCPU:
    """``expand`` and ``as_strided`` as plain views: the base of the result is the argument."""

    def expand(self, x, shape):
        lead = len(shape) - x.ndim
        strides = (0,) * lead
        if x.shape == shape[lead:]:
            return strided(x, shape, strides + x.strides)
        for have, want, stride in zip(x.shape, shape[lead:], x.strides, strict=True):
            if have != want and have != 1:
                return super().expand(x, shape)
            strides += (stride if have == want else 0,)
        return strided(x, shape, strides)

    def as_strided(self, x, shape, strides_in_elements, offset):
        return strided(x, shape, tuple(stride * x.itemsize for stride in strides_in_elements), offset * x.itemsize)
