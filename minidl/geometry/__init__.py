"""Geometry of convolution and pooling: sizes and options in, checked sizes out.

Everything that can be wrong with the shapes of a convolution or a pooling is found here, once, and explained with
the numbers that went in; a kernel that holds a geometry computes and checks nothing.  A training step asks for the
same few geometries again and again, so they are made once and kept (``functools.lru_cache``), and never change.

Nothing here knows more than integers: no array, no tensor, no device.  Exception types are PyTorch's.
"""

from minidl.geometry.checks import IntOrPair
from minidl.geometry.conv import (
    conv1d_geometry,
    conv2d_geometry,
    conv_transpose1d_geometry,
    conv_transpose2d_geometry,
    conv_transpose_windows,
    conv_windows,
)
from minidl.geometry.formulas import (
    adaptive_window,
    conv_formula,
    conv_size,
    conv_transpose_formula,
    conv_transpose_size,
    kernel_span,
    pool_formula,
    pool_size,
)
from minidl.geometry.layouts import Conv2dGeometry, Pool2dGeometry, Sliding, Window
from minidl.geometry.pool import adaptive_pool_size, avg_pool2d_geometry, max_pool2d_geometry, pool_windows
