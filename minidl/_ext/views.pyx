"""Strided views of an array, made without NumPy's detour through ``__array_interface__`` (about 10 us)."""

cimport numpy as cnp

from minidl._ext.array_over cimport array_over

cnp.import_array()

cdef enum:
    DIMS = 64


def strided(cnp.ndarray x not None, shape, strides, cnp.npy_intp offset):
    """The view of the memory of x with ``shape``, ``strides`` and ``offset`` in bytes.  Bounds are the caller's."""
    cdef cnp.npy_intp sizes[DIMS]
    cdef cnp.npy_intp steps[DIMS]
    cdef int dim, ndim = len(shape)
    if ndim > DIMS or len(strides) != ndim:
        raise ValueError(f"a view has one stride per size and at most {DIMS} of them, got {shape} and {strides}")
    for dim in range(ndim):
        sizes[dim], steps[dim] = shape[dim], strides[dim]
    cdef cnp.dtype descr = <cnp.dtype><object>cnp.PyArray_DESCR(x)
    cdef int flags = cnp.NPY_ARRAY_WRITEABLE if cnp.PyArray_ISWRITEABLE(x) else 0
    return array_over(x, cnp.PyArray_BYTES(x) + offset, descr, ndim, sizes, steps, flags)
