"""Moving numbers without arithmetic: copies, fills and ``where``."""

cimport numpy as cnp
from libc.string cimport memcpy, memmove

from minidl._ext.inner_loops cimport (
    DIMS, NUMBER_BYTES, US_PER_BYTE, US_WORTH_THE_GIL, Loop, Walk, common_shape, plain, plan, run_walk, same_shape,
    store_number, usable,
)
from minidl._ext.storage cimport new_array, new_like

cnp.import_array()

cdef extern from *:
    """
    #include <string.h>

    /* d = c ? a : b for numbers of one size, moved as bits. */
    #define WHERE_LOOP(name, type)                                                                          \\
        static void name(char **args, npy_intp *count, npy_intp *steps, void *data) {                       \\
            for (npy_intp i = 0; i < count[0]; i++)                                                         \\
                *(type *)(args[3] + i * steps[3]) = args[0][i * steps[0]]                                   \\
                    ? *(const type *)(args[1] + i * steps[1]) : *(const type *)(args[2] + i * steps[2]);    \\
        }
    WHERE_LOOP(where_1, npy_uint8)
    WHERE_LOOP(where_2, npy_uint16)
    WHERE_LOOP(where_4, npy_uint32)
    WHERE_LOOP(where_8, npy_uint64)

    #define FILL(type) { type v; memcpy(&v, value, sizeof v); type *y = (type *)data;                       \\
                         for (npy_intp i = 0; i < n; i++) y[i] = v; }
    static void fill(char *data, npy_intp n, int itemsize, const char *value) {
        switch (itemsize) {
        case 1: memset(data, *value, n); break;
        case 2: FILL(npy_uint16) break;
        case 4: FILL(npy_uint32) break;
        case 8: FILL(npy_uint64) break;
        }
    }
    """
    void where_1(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void where_2(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void where_4(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void where_8(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void fill(char* data, cnp.npy_intp n, int itemsize, const char* value) noexcept nogil


def where(cnp.ndarray condition not None, cnp.ndarray a not None, cnp.ndarray b not None):
    """``condition ? a : b`` broadcast; None where the arguments are not bool and two aligned arrays of one dtype."""
    cdef cnp.PyObject* arrays[4]
    cdef char* data[4]
    cdef cnp.npy_intp shape[DIMS]
    cdef Walk walk
    cdef Loop loop
    cdef int itemsize = cnp.PyArray_ITEMSIZE(a), typenum = cnp.PyArray_TYPE(a), k
    if (cnp.PyArray_TYPE(condition) != cnp.NPY_BOOL or typenum != cnp.PyArray_TYPE(b)
            or not (usable(condition) and usable(a) and usable(b)) or itemsize > 8):
        return None
    arrays[0], arrays[1], arrays[2] = <cnp.PyObject*>condition, <cnp.PyObject*>a, <cnp.PyObject*>b
    cdef int ndim = common_shape(3, arrays, shape)
    if ndim < 0:
        return None
    cdef cnp.ndarray result = new_array(ndim, shape, typenum)
    if cnp.PyArray_SIZE(result) == 0:
        return result
    arrays[3] = <cnp.PyObject*>result
    for k in range(4):
        data[k] = cnp.PyArray_BYTES(<cnp.ndarray>arrays[k])
    loop.function = where_8 if itemsize == 8 else where_4 if itemsize == 4 else where_2 if itemsize == 2 else where_1
    plan(&walk, 4, arrays, data, ndim, shape)
    run_walk(&loop, &walk, cnp.PyArray_SIZE(result) * (3 * itemsize * US_PER_BYTE + 0.5e-3))
    return result


cdef void move_bytes(char* destination, const char* source, size_t n) noexcept:
    if n * US_PER_BYTE < US_WORTH_THE_GIL:
        memmove(destination, source, n)
    else:
        with nogil:
            memmove(destination, source, n)


cdef cnp.ndarray copied(cnp.ndarray x):
    """A fresh C-contiguous copy."""
    cdef cnp.ndarray result = new_like(x)
    if plain(x):
        move_bytes(cnp.PyArray_BYTES(result), cnp.PyArray_BYTES(x), cnp.PyArray_NBYTES(x))
    else:
        cnp.PyArray_CopyInto(result, x)
    return result


def copy(cnp.ndarray x not None):
    """A fresh C-contiguous copy of x."""
    return copied(x)


cdef inline bint cannot_overflow(int source, int destination) noexcept:
    """Whether a cast is silent: NumPy warns where a float leaves the range of what it becomes."""
    return source == destination or source < cnp.NPY_FLOAT or (source == cnp.NPY_FLOAT and destination == cnp.NPY_DOUBLE)


def copy_silent(cnp.ndarray destination not None, cnp.ndarray source not None):
    """Write and cast ``source`` into ``destination`` of the same shape; False where this cannot be done here."""
    cdef int typenum = cnp.PyArray_TYPE(destination)
    if not (same_shape(destination, source) and usable(source) and usable(destination)
            and cannot_overflow(cnp.PyArray_TYPE(source), typenum) and cnp.PyArray_ISWRITEABLE(destination)):
        return False
    if typenum == cnp.PyArray_TYPE(source) and plain(destination) and plain(source):
        move_bytes(cnp.PyArray_BYTES(destination), cnp.PyArray_BYTES(source), cnp.PyArray_NBYTES(source))
    else:
        cnp.PyArray_CopyInto(destination, source)
    return True


def fill_(cnp.ndarray destination not None, value):
    """Write a Python number into every place of a contiguous array; False where this cannot be done here."""
    cdef char number[NUMBER_BYTES]
    if not (plain(destination) and cnp.PyArray_ISWRITEABLE(destination)
            and store_number(value, cnp.PyArray_TYPE(destination), False, number)):
        return False
    cdef char* data = cnp.PyArray_BYTES(destination)
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(destination)
    cdef int itemsize = cnp.PyArray_ITEMSIZE(destination)
    if n * itemsize * US_PER_BYTE < US_WORTH_THE_GIL:
        fill(data, n, itemsize, number)
    else:
        with nogil:
            fill(data, n, itemsize, number)
    return True


def full(reference):
    """A fresh array of ``shape`` with ``value`` in every place."""

    def method(shape, value, np_dtype):
        cdef cnp.npy_intp sizes[DIMS]
        cdef char number[NUMBER_BYTES]
        cdef cnp.dtype dtype
        cdef cnp.ndarray result
        cdef int dim, ndim = len(shape)
        if not isinstance(np_dtype, cnp.dtype):
            return reference(shape, value, np_dtype)
        dtype = <cnp.dtype>np_dtype
        if ndim > DIMS or dtype.num > cnp.NPY_DOUBLE or not store_number(value, dtype.num, False, number):
            return reference(shape, value, np_dtype)
        for dim in range(ndim):
            sizes[dim] = shape[dim]
        result = new_array(ndim, sizes, dtype.num)
        fill_(result, value)
        return result

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def stacked(tuple arrays not None):
    """Arrays of one shape and dtype, one after the other along a new first dimension; None if one is not dense."""
    cdef cnp.npy_intp shape[DIMS]
    cdef cnp.ndarray array = arrays[0], result
    cdef int dim, ndim = cnp.PyArray_NDIM(array)
    cdef size_t nbytes = cnp.PyArray_NBYTES(array)
    cdef char* to
    if ndim >= DIMS:
        return None
    for each in arrays:
        if not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray?>each):
            return None
    shape[0] = len(arrays)
    for dim in range(ndim):
        shape[dim + 1] = cnp.PyArray_DIMS(array)[dim]
    result = new_array(ndim + 1, shape, cnp.PyArray_TYPE(array))
    to = cnp.PyArray_BYTES(result)
    for array in arrays:
        memcpy(to, cnp.PyArray_DATA(array), nbytes)
        to += nbytes
    return result
