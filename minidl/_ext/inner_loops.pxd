cimport numpy as cnp

ctypedef void (*inner_loop)(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil

cdef enum:
    TYPES = 14              # the type numbers of NumPy's booleans, integers and real floats lie below
    OPERANDS = 4
    DIMS = 32
    NUMBER_BYTES = 8        # of the largest dtype that a Python number is stored as

cdef struct Loop:
    inner_loop function
    void* data
    int result              # type number

cdef struct Walk:
    # The operands, result last, over the dimensions that are left after runs were merged.
    int operands
    int ndim
    cnp.npy_intp shape[DIMS]
    cnp.npy_intp strides[OPERANDS][DIMS]
    char* data[OPERANDS]

cdef double US_PER_BYTE
cdef double US_WORTH_THE_GIL


cdef inline bint plain(cnp.ndarray x) noexcept:
    return cnp.PyArray_ISCARRAY_RO(x)


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int axis
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for axis in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[axis] != cnp.PyArray_DIMS(b)[axis]:
            return False
    return True


cdef inline bint usable(cnp.ndarray x) noexcept:
    return (cnp.PyArray_TYPE(x) < TYPES and cnp.PyArray_ISALIGNED(x) and cnp.PyArray_ISNOTSWAPPED(x)
            and cnp.PyArray_NDIM(x) <= DIMS)


cdef int store_number(object value, int typenum, bint exact, char* number) except -1
cdef void run_flat(Loop* loop, int operands, char** data, cnp.npy_intp* steps, cnp.npy_intp n, double us) noexcept
cdef void run_walk(Loop* loop, Walk* walk, double us) noexcept
cdef int common_shape(int operands, cnp.PyObject** arrays, cnp.npy_intp* shape) noexcept
cdef void plan(Walk* walk, int operands, cnp.PyObject** arrays, char** data, int ndim, cnp.npy_intp* shape) noexcept
cdef bint disjoint(cnp.ndarray a, cnp.ndarray b) noexcept
