cdef class DeviceArray:
    cdef readonly size_t ptr
    cdef readonly tuple shape, strides
    cdef readonly object dtype, base
    cdef readonly Py_ssize_t size, itemsize
    cdef readonly bint contiguous
