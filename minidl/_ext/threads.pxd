cdef int team(double microseconds) noexcept nogil
