from minidl._ext.geometry cimport Conv2d
from minidl._ext.runs cimport real

cdef void depthwise_forward(real* output, const real* input, const real* weight, const real* bias,
                            const Conv2d* g) noexcept nogil
cdef void depthwise_backward_input(real* grad_input, const real* grad_output, const real* weight,
                                   const Conv2d* g) noexcept nogil
cdef void depthwise_backward_weight(real* grad_weight, const real* grad_output, const real* input,
                                    const Conv2d* g) noexcept nogil
