"""Views and rearrangements on the GPU: views are worked out on the host and launch nothing; cuda/assign.cu copies."""

from __future__ import annotations

import math
from typing import Any

from minidl._devices.reference.shape import expand_strides
from minidl._ext import device_views
from minidl._ext.device_array import DeviceArray

from .arrays import ArraysCUDA


class ShapeCUDA(ArraysCUDA):
    """Views, concatenation, repetition and padding."""

    def reshape(self, x: DeviceArray, shape: Any) -> DeviceArray:
        """A view where the strides allow it, otherwise a copy.  ``shape`` holds no -1."""
        if math.prod(shape) != x.size:
            raise RuntimeError(f"reshape: shape {tuple(shape)} needs {math.prod(shape)} numbers, input of shape "
                               f"{x.shape} has {x.size}")
        view = device_views.reshape(x, shape)
        return self.copy(x).view(tuple(shape), None) if view is None else view

    def permute(self, x: DeviceArray, dims: Any) -> DeviceArray:
        """A view with the dimensions in another order."""
        return device_views.permute(x, dims)

    def expand(self, x: DeviceArray, shape: Any) -> DeviceArray:
        """A view in which dimensions of size 1 repeat with stride 0, and new ones stand in front."""
        return x.view(tuple(shape), expand_strides(x, shape))

    def slice(self, x: DeviceArray, key: tuple[Any, ...]) -> DeviceArray:
        """The view ``x[key]`` for a tuple of ints, slices, ``None`` and ``Ellipsis``; 0-d when nothing is left."""
        return device_views.slice_view(x, key)

    def as_strided(self, x: DeviceArray, shape: Any, strides_in_elements: Any, offset: int) -> DeviceArray:
        """A view that starts ``offset`` numbers after the first one of x.  The caller keeps it inside the storage."""
        return x.view(tuple(shape), tuple(stride * x.itemsize for stride in strides_in_elements), offset * x.itemsize)
