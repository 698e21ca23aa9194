"""Shapes on the CPU: views without NumPy's overhead, joined arrays in memory of the caching allocator."""

import numpy as np

from ..._ext import assign, views
from ..._ext.storage import empty
from ..reference.shape import ShapeReference, cat_shape, expand_strides


class ShapeCPU(ShapeReference):
    """What is not here stays with the reference."""

    reshape = staticmethod(views.reshape)
    permute = staticmethod(views.permute)
    slice = staticmethod(views.slice_view)

    def expand(self, x, shape):
        view = views.expand(x, shape)
        return views.strided(x, shape, expand_strides(x, shape), 0) if view is None else view

    def as_strided(self, x, shape, strides_in_elements, offset):
        itemsize = x.itemsize
        return views.strided(x, shape, tuple(stride * itemsize for stride in strides_in_elements), offset * itemsize)

    def cat(self, dim, *arrays):
        kept, shape = cat_shape(dim, arrays)
        return np.concatenate(kept, dim, out=empty(shape, kept[0].dtype))

    def stack(self, dim, *arrays):
        result = assign.stacked(arrays) if dim == 0 else None
        return super().stack(dim, *arrays) if result is None else result
