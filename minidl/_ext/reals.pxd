"""What the kernels of softmax, losses and normalization share: float arrays, runs of them and their sums.

Sums are made in float64, in eight lanes that the compiler can keep in vector registers, and the lanes are added in a
fixed order: the same numbers give the same bits.
"""

cimport numpy as cnp

ctypedef fused real:
    float
    double

cdef extern from "exp.h" nogil:
    void exp_run_f32(float* y, const float* x, float shift, Py_ssize_t n)
    void exp_run_f64(double* y, const double* x, double shift, Py_ssize_t n)

cdef enum:
    LANES = 8       # and the step of the loops below, which Cython wants as a literal
    GIL_MICROSECONDS = 5    # of work: what takes longer lets other Python threads run

cdef enum Reduction:
    UNKNOWN
    NONE
    MEAN
    SUM


cdef inline Reduction reduction_of(object name) except *:
    """The reduction that a loss was asked for by name, UNKNOWN for any other name."""
    if name == "mean":
        return MEAN
    if name == "sum":
        return SUM
    return NONE if name == "none" else UNKNOWN


cdef inline int float_type(object array) except -2:
    """The NumPy type number of a float32 or float64 array, -1 for everything else."""
    if not isinstance(array, cnp.ndarray):
        return -1
    cdef int typenum = cnp.PyArray_TYPE(<cnp.ndarray>array)
    return typenum if typenum == cnp.NPY_FLOAT or typenum == cnp.NPY_DOUBLE else -1


cdef inline cnp.ndarray ready(cnp.ndarray array):
    """The array itself if a kernel can read it through a pointer, else an aligned C-contiguous copy."""
    if cnp.PyArray_ISCARRAY_RO(array):
        return array
    return cnp.PyArray_FROM_OF(array, cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_NOTSWAPPED)


cdef inline void* data_of(object array) noexcept:
    """Where the numbers of an array lie, NULL for None."""
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int axis
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for axis in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, axis) != cnp.PyArray_DIM(b, axis):
            return False
    return True


cdef inline void exp_run(real* y, const real* x, real shift, Py_ssize_t n) noexcept nogil:
    """y[i] = exp(x[i] - shift); y may be x"""
    if real is float:
        exp_run_f32(y, x, shift, n)
    else:
        exp_run_f64(y, x, shift, n)


cdef inline double add_lanes(const double* lanes) noexcept nogil:
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))


cdef inline double sum_run(const real* x, Py_ssize_t n) noexcept nogil:
    """sum of x[i]"""
    cdef double lanes[LANES]
    cdef Py_ssize_t i, j, whole = n - n % LANES
    for j in range(LANES):
        lanes[j] = 0
    for i in range(0, whole, 8):
        for j in range(LANES):
            lanes[j] += x[i + j]
    for i in range(whole, n):
        lanes[i - whole] += x[i]
    return add_lanes(lanes)


cdef inline double dot_run(const real* a, const real* b, Py_ssize_t n) noexcept nogil:
    """sum of a[i] * b[i]"""
    cdef double lanes[LANES]
    cdef Py_ssize_t i, j, whole = n - n % LANES
    for j in range(LANES):
        lanes[j] = 0
    for i in range(0, whole, 8):
        for j in range(LANES):
            lanes[j] += <double>a[i + j] * b[i + j]
    for i in range(whole, n):
        lanes[i - whole] += <double>a[i] * b[i]
    return add_lanes(lanes)
