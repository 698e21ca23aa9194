"""Strided views of an array, made without NumPy's detour through ``__array_interface__`` (about 10 us)."""

cimport numpy as cnp
from cpython.ref cimport Py_INCREF, PyTypeObject

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(PyTypeObject* subtype, cnp.dtype descr, int nd, const cnp.npy_intp* dims,
                                const cnp.npy_intp* strides, void* data, int flags, object obj)
    int PyArray_SetBaseObject(cnp.ndarray arr, object obj) except -1
    PyTypeObject PyArray_Type

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
    Py_INCREF(descr)
    cdef cnp.ndarray view = PyArray_NewFromDescr(&PyArray_Type, descr, ndim, sizes, steps,
                                                 cnp.PyArray_BYTES(x) + offset, flags, None)
    Py_INCREF(x)
    PyArray_SetBaseObject(view, x)
    return view
