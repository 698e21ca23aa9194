cdef int team(double microseconds) noexcept nogil
cdef int thread_limit() noexcept nogil
