from minidl._ext.conv2d_table cimport Kernel
from minidl._ext.geometry cimport Conv2d

cdef int packed_forward(float* output, const float* input, const float* weight, const float* bias, const Conv2d* g,
                        Kernel kernel, const float* packed=*) except -1
cdef Py_ssize_t packed_numbers(const Conv2d* g, Kernel kernel) noexcept nogil
cdef void pack_weight(float* packed, const float* weight, const Conv2d* g, Kernel kernel) noexcept nogil
cdef int packed_backward_input(float* grad_input, const float* grad_output, const float* weight, const Conv2d* g,
                               Kernel kernel) except -1
cdef int packed_backward_weight(float* grad_weight, const float* grad_output, const float* input,
                                const Conv2d* g) except -1

cdef int planes_forward(float* output, const float* input, const float* weight, const float* bias,
                        const Conv2d* g) except -1
cdef int planes_backward_input(float* grad_input, const float* grad_output, const float* weight,
                               const Conv2d* g) except -1
cdef int planes_backward_weight(float* grad_weight, const float* grad_output, const float* input,
                                const Conv2d* g) except -1
