from minidl._ext.geometry cimport Conv2d

cdef bint batch_wins(const Conv2d* g) noexcept nogil

cdef int batch_backward_input(float* grad_input, const float* grad_output, const unsigned char* codes,
                              const float* weight, const Conv2d* g) except -1
