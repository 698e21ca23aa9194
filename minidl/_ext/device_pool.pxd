cdef class DevicePool:
    cdef object take
    cdef dict pieces, free
    cdef bint released, exact
    cdef readonly size_t in_use, peak, held
    cdef int give_back(self, Block block) except -1


cdef class Block:
    cdef DevicePool pool
    cdef object stream
    cdef readonly size_t ptr, nbytes
