"""Squared and absolute error of arrays of one shape, float32 and float64, and their reductions.

Sums are made in float64, each thread over one contiguous share, and added in the order of the threads.  Functions
return None for arguments that they do not take: the caller has the reference for those.
"""

cimport numpy as cnp
from cython.parallel cimport prange

from minidl._ext.reals cimport (LANES, MEAN, NONE, UNKNOWN, Reduction, add_lanes, float_type, ready, real,
                                reduction_of, same_shape)
from minidl._ext.storage cimport new_array, new_like
from minidl._ext.threads cimport team

cnp.import_array()

cdef enum:
    MOST_THREADS = 256

cdef double ERRORS_PER_MICROSECOND = 1500   # for one thread

cdef enum Error:
    SQUARED
    ABSOLUTE


cdef inline real error_of(Error kind, real difference) noexcept nogil:
    return difference * difference if kind == SQUARED else (-difference if difference < 0 else difference)


cdef inline real slope_of(Error kind, real difference) noexcept nogil:
    return 2 * difference if kind == SQUARED else <real>((difference > 0) - (difference < 0))


cdef double sum_errors(Error kind, const real* input, const real* target, Py_ssize_t n) noexcept nogil:
    cdef double lanes[LANES]
    cdef Py_ssize_t i, j, whole = n - n % LANES
    for j in range(LANES):
        lanes[j] = 0
    for i in range(0, whole, 8):
        for j in range(LANES):
            lanes[j] += error_of(kind, input[i + j] - target[i + j])
    for i in range(whole, n):
        lanes[i - whole] += error_of(kind, input[i] - target[i])
    return add_lanes(lanes)


cdef void error_all(Error kind, real* loss, const real* input, const real* target, Py_ssize_t n,
                    Reduction reduction) noexcept nogil:
    """input, target: (n,), loss: (n,) or one number"""
    cdef double sums[MOST_THREADS]
    cdef double total = 0
    cdef int threads = min(team(n / ERRORS_PER_MICROSECOND), <int>MOST_THREADS), t
    cdef Py_ssize_t i
    if reduction == NONE:
        for i in prange(n, num_threads=threads, schedule="static"):
            loss[i] = error_of(kind, input[i] - target[i])
        return
    for t in prange(threads, num_threads=threads, schedule="static"):
        sums[t] = sum_errors(kind, input + n * t // threads, target + n * t // threads,
                             n * (t + 1) // threads - n * t // threads)
    for t in range(threads):
        total += sums[t]
    loss[0] = <real>(total / n if reduction == MEAN else total)


cdef void error_backward_all(Error kind, real* grad_input, const real* grad_output, const real* input,
                             const real* target, Py_ssize_t n, Reduction reduction) noexcept nogil:
    """grad_input, input, target: (n,), grad_output: (n,) or one number"""
    cdef int threads = team(n / ERRORS_PER_MICROSECOND)
    cdef real scale
    cdef Py_ssize_t i
    if reduction == NONE:
        for i in prange(n, num_threads=threads, schedule="static"):
            grad_input[i] = slope_of(kind, input[i] - target[i]) * grad_output[i]
    else:
        scale = <real>(grad_output[0] / <double>n if reduction == MEAN else grad_output[0])
        for i in prange(n, num_threads=threads, schedule="static"):
            grad_input[i] = slope_of(kind, input[i] - target[i]) * scale


cdef inline bint errors_fit(object input, object target) except -1:
    cdef int typenum = float_type(input)
    return typenum >= 0 and float_type(target) == typenum and same_shape(input, target)


cdef object error_loss(Error kind, object input, object target, object reduction):
    cdef Reduction how = reduction_of(reduction)
    if how == UNKNOWN or not errors_fit(input, target):
        return None
    cdef cnp.ndarray x = ready(input), t = ready(target)
    cdef cnp.ndarray loss = new_like(x) if how == NONE else new_array(0, NULL, cnp.PyArray_TYPE(x))
    cdef bint is_float = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    cdef void* out = cnp.PyArray_DATA(loss)
    cdef const void* a = cnp.PyArray_DATA(x)
    cdef const void* b = cnp.PyArray_DATA(t)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    with nogil:
        if is_float:
            error_all[float](kind, <float*>out, <const float*>a, <const float*>b, n, how)
        else:
            error_all[double](kind, <double*>out, <const double*>a, <const double*>b, n, how)
    return loss


cdef object error_loss_backward(Error kind, object grad_output, object input, object target, object reduction):
    cdef Reduction how = reduction_of(reduction)
    if how == UNKNOWN or not errors_fit(input, target) or float_type(grad_output) != float_type(input):
        return None
    if cnp.PyArray_NDIM(<cnp.ndarray>grad_output) != 0 if how != NONE else not same_shape(grad_output, input):
        return None
    cdef cnp.ndarray x = ready(input), t = ready(target), grad = ready(grad_output)
    cdef cnp.ndarray grad_input = new_like(x)
    cdef bint is_float = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    cdef void* out = cnp.PyArray_DATA(grad_input)
    cdef const void* go = cnp.PyArray_DATA(grad)
    cdef const void* a = cnp.PyArray_DATA(x)
    cdef const void* b = cnp.PyArray_DATA(t)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    with nogil:
        if is_float:
            error_backward_all[float](kind, <float*>out, <const float*>go, <const float*>a, <const float*>b, n, how)
        else:
            error_backward_all[double](kind, <double*>out, <const double*>go, <const double*>a, <const double*>b, n,
                                       how)
    return grad_input


def mse_loss(object input, object target, object reduction):
    """(input - target)**2 and its reduction, or None"""
    return error_loss(SQUARED, input, target, reduction)


def mse_loss_backward(object grad_output, object input, object target, object reduction):
    """grad_input, or None"""
    return error_loss_backward(SQUARED, grad_output, input, target, reduction)


def l1_loss(object input, object target, object reduction):
    """abs(input - target) and its reduction, or None"""
    return error_loss(ABSOLUTE, input, target, reduction)


def l1_loss_backward(object grad_output, object input, object target, object reduction):
    """grad_input, or None"""
    return error_loss_backward(ABSOLUTE, grad_output, input, target, reduction)
