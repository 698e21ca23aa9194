cdef int isa_level() noexcept nogil
