"""Arrays on their way into a kernel: conditioned arguments, fresh results.  The C half of a device method."""

cimport numpy as cnp

from minidl._ext.storage cimport new_array, new_like

cdef extern from "numpy/arrayobject.h":
    bint PyArray_ISCARRAY_RO(cnp.ndarray array)
    int PyArray_CopyInto(cnp.ndarray to, cnp.ndarray start) except -1


cdef inline cnp.ndarray contiguous(cnp.ndarray array):
    """The array itself if it is C-contiguous, aligned and of native byte order, else such a copy of it."""
    if PyArray_ISCARRAY_RO(array):
        return array
    cdef cnp.ndarray copy = new_like(array)
    PyArray_CopyInto(copy, array)
    return copy


cdef inline cnp.ndarray new_planes(Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W, int typenum):
    """A fresh (N, C, H, W) array."""
    cdef cnp.npy_intp[4] shape = [N, C, H, W]
    return new_array(4, shape, typenum)


cdef inline cnp.ndarray scratch(Py_ssize_t nbytes):
    """Memory for one call; it is back in the allocator's bins when the array is gone."""
    cdef cnp.npy_intp size = nbytes
    return new_array(1, &size, cnp.NPY_UINT8)


cdef inline bint both_float32(cnp.ndarray a, cnp.ndarray b) except -1:
    """Which of the two float types the arrays have; TypeError if it is neither, or not the same."""
    cdef int typenum = cnp.PyArray_TYPE(a)
    if typenum != cnp.PyArray_TYPE(b) or (typenum != cnp.NPY_FLOAT and typenum != cnp.NPY_DOUBLE):
        raise TypeError(f"expected arrays that are both float32 or both float64, got {a.dtype} and {b.dtype}")
    return typenum == cnp.NPY_FLOAT
