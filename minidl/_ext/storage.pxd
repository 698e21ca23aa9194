cimport numpy as cnp


cdef class Storage:
    cdef void* data
    cdef readonly size_t nbytes
    cdef int bin
    cdef public unsigned long version
    cdef readonly object owner
    cdef public bint exposed            # whether the memory was handed to NumPy or another library
    cdef object __weakref__


cdef class AllocationScript:
    cdef readonly list entries      # (bytes, shape, dtype) of each array given out
    cdef readonly dict numbers      # address of a block -> the place of its latest array in ``entries``
    cdef list arrays
    cdef public Py_ssize_t place    # of the next array to give out again
    cdef cnp.ndarray repeat(self, int ndim, cnp.npy_intp* shape, int typenum)


cdef cnp.ndarray new_array(int ndim, cnp.npy_intp* shape, int typenum)
cdef cnp.ndarray new_like(cnp.ndarray other)
