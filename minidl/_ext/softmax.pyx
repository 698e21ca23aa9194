"""Softmax, log-softmax and their derivatives for float32 and float64.

An array is seen as (outer, C, inner) around the dimension of the classes.  Where inner is 1 a slice is a row in
memory and the loops run along it; otherwise they run along up to TILE neighbouring slices at once, class by class.
Each row or tile is an item of work, and each thread takes one contiguous share of the items.  Exponentials are added
in float64.  Functions return None for arrays that are not float32 or float64: the caller has the reference for those.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.math cimport log as logarithm

from minidl._ext.reals cimport (GIL_MICROSECONDS, LANES, dot_run, exp_run, float_type, ready, real, same_shape,
                                sum_run)
from minidl._ext.storage cimport new_like
from minidl._ext.threads cimport team

cnp.import_array()

cdef enum:
    TILE = 256      # neighbouring slices that are worked on together: 1 KB of a class, for the prefetcher


cdef double softmax_microseconds(Py_ssize_t numbers, bint is_float) noexcept nogil:
    """What one thread needs for so many exponentials and the passes around them."""
    return numbers * (0.003 if is_float else 0.008)


cdef inline real largest(const real* x, Py_ssize_t n) noexcept nogil:
    """The maximum of x, -inf if n is 0.  NaN is passed over: it shows again in the sum of the exponentials."""
    cdef real lanes[LANES]
    cdef real top = <real>-INFINITY
    cdef Py_ssize_t i, j, whole = n - n % LANES
    for j in range(LANES):
        lanes[j] = top
    for i in range(0, whole, 8):
        for j in range(LANES):
            lanes[j] = x[i + j] if x[i + j] > lanes[j] else lanes[j]
    for i in range(whole, n):
        top = x[i] if x[i] > top else top
    for j in range(LANES):
        top = lanes[j] if lanes[j] > top else top
    return top


cdef void forward_row(bint log, real* y, const real* x, Py_ssize_t C) noexcept nogil:
    """y, x: (C,).  The exponentials are made in y; log-softmax then writes over them."""
    cdef real top = largest(x, C), shift, scale
    cdef double total
    cdef Py_ssize_t c
    exp_run(y, x, top, C)
    total = sum_run(y, C)
    if log:
        shift = <real>logarithm(total)
        for c in range(C):
            y[c] = (x[c] - top) - shift
    else:
        scale = <real>(1 / total)
        for c in range(C):
            y[c] *= scale


cdef void forward_tile(bint log, real* y, const real* x, Py_ssize_t C, Py_ssize_t inner,
                       Py_ssize_t width) noexcept nogil:
    """y, x: (C, width) with rows ``inner`` numbers apart.  The same as forward_row, for each of the columns."""
    cdef real top[TILE]
    cdef real last[TILE]
    cdef double total[TILE]
    cdef Py_ssize_t c, j
    for j in range(width):
        top[j] = <real>-INFINITY
        total[j] = 0
    for c in range(C):
        for j in range(width):
            top[j] = x[c * inner + j] if x[c * inner + j] > top[j] else top[j]
    for c in range(C):
        for j in range(width):
            y[c * inner + j] = x[c * inner + j] - top[j]
        exp_run(y + c * inner, y + c * inner, 0, width)
        for j in range(width):
            total[j] += y[c * inner + j]
    for j in range(width):
        last[j] = <real>(logarithm(total[j]) if log else 1 / total[j])
    for c in range(C):
        if log:
            for j in range(width):
                y[c * inner + j] = (x[c * inner + j] - top[j]) - last[j]
        else:
            for j in range(width):
                y[c * inner + j] *= last[j]


cdef void backward_row(bint log, real* grad_input, const real* grad_output, const real* y,
                       Py_ssize_t C) noexcept nogil:
    """grad_input, grad_output, y: (C,)"""
    cdef real total
    cdef Py_ssize_t c
    if log:
        total = <real>sum_run(grad_output, C)
        exp_run(grad_input, y, 0, C)
        for c in range(C):
            grad_input[c] = grad_output[c] - grad_input[c] * total
    else:
        total = <real>dot_run(grad_output, y, C)
        for c in range(C):
            grad_input[c] = (grad_output[c] - total) * y[c]


cdef void backward_tile(bint log, real* grad_input, const real* grad_output, const real* y, Py_ssize_t C,
                        Py_ssize_t inner, Py_ssize_t width) noexcept nogil:
    """grad_input, grad_output, y: (C, width) with rows ``inner`` numbers apart"""
    cdef double total[TILE]
    cdef real last[TILE]
    cdef Py_ssize_t c, j, at
    for j in range(width):
        total[j] = 0
    for c in range(C):
        at = c * inner
        if log:
            for j in range(width):
                total[j] += grad_output[at + j]
        else:
            for j in range(width):
                total[j] += <double>grad_output[at + j] * y[at + j]
    for j in range(width):
        last[j] = <real>total[j]
    for c in range(C):
        at = c * inner
        if log:
            exp_run(grad_input + at, y + at, 0, width)
            for j in range(width):
                grad_input[at + j] = grad_output[at + j] - grad_input[at + j] * last[j]
        else:
            for j in range(width):
                grad_input[at + j] = (grad_output[at + j] - last[j]) * y[at + j]


cdef void share(bint log, real* result, const real* grad_output, const real* x, Py_ssize_t C, Py_ssize_t inner,
                Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Items ``first`` to ``last`` of the forward pass, or of the backward pass if there is a grad_output."""
    cdef Py_ssize_t tiles = (inner + TILE - 1) // TILE, item, at, column, width
    for item in range(first, last):
        column = item % tiles * TILE
        at = item // tiles * C * inner + column
        width = min(<Py_ssize_t>TILE, inner - column)
        if grad_output == NULL:
            if inner == 1:
                forward_row(log, result + at, x + at, C)
            else:
                forward_tile(log, result + at, x + at, C, inner, width)
        elif inner == 1:
            backward_row(log, result + at, grad_output + at, x + at, C)
        else:
            backward_tile(log, result + at, grad_output + at, x + at, C, inner, width)


cdef void run(bint log, real* result, const real* grad_output, const real* x, Py_ssize_t outer, Py_ssize_t C,
              Py_ssize_t inner, int threads) noexcept nogil:
    cdef Py_ssize_t items = outer * ((inner + TILE - 1) // TILE)
    cdef int t
    if threads == 1:
        share(log, result, grad_output, x, C, inner, 0, items)
    else:
        for t in prange(threads, num_threads=threads, schedule="static"):
            share(log, result, grad_output, x, C, inner, items * t // threads, items * (t + 1) // threads)


cdef void softmax_forward(bint log, real* y, const real* x, Py_ssize_t outer, Py_ssize_t C, Py_ssize_t inner,
                          int threads) noexcept nogil:
    """y = softmax(x) or its logarithm over the middle dimension of (outer, C, inner)"""
    run(log, y, <const real*>NULL, x, outer, C, inner, threads)


cdef cnp.ndarray compute(bint log, cnp.ndarray grad_output, cnp.ndarray x, int dim):
    """The forward pass over x if grad_output is None, else the backward pass from the output x."""
    cdef Py_ssize_t outer = 1, C = 1, inner = 1
    cdef int axis, threads, ndim = cnp.PyArray_NDIM(x)
    for axis in range(ndim):
        if axis < dim:
            outer *= cnp.PyArray_DIM(x, axis)
        elif axis == dim:
            C = cnp.PyArray_DIM(x, axis)
        else:
            inner *= cnp.PyArray_DIM(x, axis)
    x = ready(x)
    cdef cnp.ndarray result = new_like(x)
    cdef bint is_float = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    cdef void* out = cnp.PyArray_DATA(result)
    cdef const void* grad = NULL
    cdef const void* data = cnp.PyArray_DATA(x)
    if grad_output is not None:
        grad_output = ready(grad_output)
        grad = cnp.PyArray_DATA(grad_output)
    cdef double microseconds = softmax_microseconds(outer * C * inner, is_float)
    if microseconds < GIL_MICROSECONDS:
        if is_float:
            run[float](log, <float*>out, <const float*>grad, <const float*>data, outer, C, inner, 1)
        else:
            run[double](log, <double*>out, <const double*>grad, <const double*>data, outer, C, inner, 1)
    else:
        with nogil:
            threads = team(microseconds)
            if is_float:
                run[float](log, <float*>out, <const float*>grad, <const float*>data, outer, C, inner, threads)
            else:
                run[double](log, <double*>out, <const double*>grad, <const double*>data, outer, C, inner, threads)
    return result


cdef inline bint fits(object x, Py_ssize_t dim) except -1:
    return float_type(x) >= 0 and 0 <= dim < max(cnp.PyArray_NDIM(<cnp.ndarray>x), 1)


cdef inline bint fits_backward(object grad_output, object output, Py_ssize_t dim) except -1:
    return (fits(output, dim) and float_type(grad_output) == cnp.PyArray_TYPE(<cnp.ndarray>output)
            and same_shape(grad_output, output))


def softmax(object input, Py_ssize_t dim):
    """softmax over ``dim``, or None"""
    return compute(False, None, input, dim) if fits(input, dim) else None


def log_softmax(object input, Py_ssize_t dim):
    """log of softmax over ``dim``, or None"""
    return compute(True, None, input, dim) if fits(input, dim) else None


def softmax_backward(object grad_output, object output, Py_ssize_t dim):
    """(grad_output - sum of grad_output * output) * output, or None"""
    return compute(False, grad_output, output, dim) if fits_backward(grad_output, output, dim) else None


def log_softmax_backward(object grad_output, object output, Py_ssize_t dim):
    """grad_output - exp(output) * sum of grad_output, or None"""
    return compute(True, grad_output, output, dim) if fits_backward(grad_output, output, dim) else None
