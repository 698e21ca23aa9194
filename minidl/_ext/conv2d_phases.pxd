cdef struct Phases:
    Py_ssize_t N, C, H, W               # of the images
    Py_ssize_t PH, PW                   # rows and columns of a phase
    Py_ssize_t dilation_h, dilation_w, top, left

cdef void split_phases(float* phases, const float* images, const Phases* p, int threads) noexcept nogil
cdef void join_phases(float* images, const float* phases, const Phases* p, int threads) noexcept nogil
