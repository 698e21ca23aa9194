from minidl._ext.geometry cimport Conv2d

cdef bint direct_fits_input(const Conv2d* g) noexcept nogil
cdef double rows_share(int direction, const Conv2d* g) noexcept nogil
cdef double channels_share(int direction, const Conv2d* g) noexcept nogil
cdef bint direct_wins(bint channels, int direction, const Conv2d* g) noexcept nogil
cdef bint direct_wins_pointwise(int direction, const Conv2d* g) noexcept nogil

cdef int direct_forward(bint channels, float* output, unsigned char* codes, bint relu, const float* input,
                        const float* weight, const float* bias, const Conv2d* g) except -1
cdef int direct_backward_input(bint channels, float* grad_input, const float* grad_output, const unsigned char* codes,
                               const float* weight, const Conv2d* g) except -1
cdef int direct_backward_weight(bint channels, float* grad_weight, float* grad_bias, const float* grad_output,
                                const unsigned char* codes, const float* input, const Conv2d* g) except -1
