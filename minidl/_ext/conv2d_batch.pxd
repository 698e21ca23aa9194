from minidl._ext.geometry cimport Conv2d

cdef bint batch_wins(const Conv2d* g) noexcept nogil

cdef int batch_backward_input(float* grad_input, const float* grad_output, const unsigned char* codes,
                              const float* weight, const Conv2d* g) except -1

cdef extern from "conv2d_batch.h" nogil:
    struct batch_shape:
        Py_ssize_t C, H, W, OC, OH, OW, KH, KW
        Py_ssize_t stride_h, stride_w, top, left, dilation_h, dilation_w
