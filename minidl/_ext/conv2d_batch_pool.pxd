from minidl._ext.geometry cimport Conv2d

cdef bint batch_pool_fits(const Conv2d* g) noexcept nogil
cdef bint batch_pool_keeps(const Conv2d* g) noexcept nogil
cdef Py_ssize_t batch_pool_images(const Conv2d* g) noexcept nogil
cdef int batch_pool_forward(float* output, unsigned char* codes, const float* input, const float* weight,
                            const float* bias, bint kept_in, bint kept_out, const Conv2d* g) except -1
