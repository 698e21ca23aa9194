from minidl._ext.geometry cimport Conv2d

cdef bint pooled_weight_wins(const Conv2d* g) noexcept nogil
cdef bint pooled_input_wins(const Conv2d* g) noexcept nogil
cdef int pooled_backward_weight(float* grad_weight, float* grad_bias, const float* grad_output,
                                const unsigned char* codes, const float* input, const Conv2d* g) except -1
cdef int pooled_backward_input(float* grad_input, const float* grad_output, const unsigned char* codes,
                               const float* weight, const Conv2d* g) except -1
