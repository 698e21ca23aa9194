from minidl._ext.geometry cimport Conv2d

cpdef enum Kernel:
    AUTO
    IM2COL
    POINTWISE
    DEPTHWISE
    DIRECT_ROWS
    DIRECT_CHANNELS
    DIRECT_BATCH
    PACKED
    WINOGRAD
    WINOGRAD_F4

cpdef enum Direction:
    FORWARD
    BACKWARD_INPUT
    BACKWARD_WEIGHT

cdef Kernel kernel_for(Kernel asked, Direction direction, const Conv2d* g, bint is_float32) except *
cdef bint fits(Kernel kernel, Direction direction, const Conv2d* g, bint is_float32) noexcept nogil
cdef bint chosen_by_table(Direction direction) noexcept
