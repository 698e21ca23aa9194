from minidl._ext.reals cimport real

cdef double softmax_microseconds(Py_ssize_t numbers, bint is_float) noexcept nogil
cdef void softmax_forward(bint log, real* y, const real* x, Py_ssize_t outer, Py_ssize_t C, Py_ssize_t inner,
                          int threads) noexcept nogil
