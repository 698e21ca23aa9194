"""The geometries of minidl/geometry/layouts.py as C structs: the same fields in the same order, read from ``packed``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE


cdef struct Conv2d:
    Py_ssize_t N, C, H, W, OC, KH, KW, OH, OW
    Py_ssize_t stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right, dilation_h, dilation_w, groups


cdef struct Pool2d:
    Py_ssize_t N, C, H, W, KH, KW, OH, OW
    Py_ssize_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w


cdef inline const Conv2d* conv2d_fields(bytes packed) except NULL:
    """The struct in the bytes of ``Conv2dGeometry.packed``; it lives as long as they do."""
    if PyBytes_GET_SIZE(packed) != sizeof(Conv2d):
        raise TypeError(f"a Conv2dGeometry packs {sizeof(Conv2d)} bytes, got {len(packed)}")
    return <const Conv2d*>PyBytes_AS_STRING(packed)


cdef inline const Pool2d* pool2d_fields(bytes packed) except NULL:
    """The struct in the bytes of ``Pool2dGeometry.packed``; it lives as long as they do."""
    if PyBytes_GET_SIZE(packed) != sizeof(Pool2d):
        raise TypeError(f"a Pool2dGeometry packs {sizeof(Pool2d)} bytes, got {len(packed)}")
    return <const Pool2d*>PyBytes_AS_STRING(packed)
