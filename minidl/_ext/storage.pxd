cimport numpy as cnp


cdef class Storage:
    cdef void* data
    cdef readonly size_t nbytes
    cdef int bin
    cdef public unsigned long version
    cdef readonly object owner
    cdef object __weakref__


cdef cnp.ndarray new_array(int ndim, cnp.npy_intp* shape, int typenum)
cdef cnp.ndarray new_like(cnp.ndarray other)
