"""NumPy arrays over memory that another object owns."""

cimport numpy as cnp
from cpython.ref cimport Py_INCREF, PyTypeObject

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(PyTypeObject* subtype, cnp.dtype descr, int nd, const cnp.npy_intp* dims,
                                const cnp.npy_intp* strides, void* data, int flags, object obj)
    int PyArray_SetBaseObject(cnp.ndarray arr, object obj) except -1
    PyTypeObject PyArray_Type


cdef inline cnp.ndarray array_over(object owner, void* data, cnp.dtype descr, int ndim, const cnp.npy_intp* shape,
                                   const cnp.npy_intp* strides, int flags):
    """An array at ``data`` that keeps ``owner`` alive; strides are in bytes, NULL for C order."""
    Py_INCREF(descr)                # NumPy takes over one reference each to descr and owner
    cdef cnp.ndarray array = PyArray_NewFromDescr(&PyArray_Type, descr, ndim, shape, strides, data, flags, None)
    Py_INCREF(owner)
    PyArray_SetBaseObject(array, owner)
    return array
