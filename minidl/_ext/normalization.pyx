"""Batch normalization over (N, C, inner) and dropout, for float32 and float64.

A block of work is one channel, or up to TILE neighbouring channels where inner is 1 and they lie side by side; a
thread takes whole blocks, so no sum crosses threads and the bits do not depend on their number.  Sums are made in
float64.  Moments are taken around the channel's first number: as that number is one of the sample, what cancels in
the variance is at most N * inner units of float64's last place.  Functions return None for arguments that they do
not take: the caller has the reference for those.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport sqrt

from minidl._ext.reals cimport LANES, add_lanes, data_of, float_type, ready, real, same_shape
from minidl._ext.storage cimport new_array, new_like
from minidl._ext.threads cimport team

cnp.import_array()

cdef enum:
    TILE = 16       # neighbouring channels: one or two cache lines

cdef double NUMBERS_PER_MICROSECOND = 600   # of batch_norm or its backward, for one thread
cdef double DROPS_PER_MICROSECOND = 1500


cdef struct Shape:
    Py_ssize_t N, C, inner
    bint training
    double momentum, eps


cdef void plane_sums(double* a, double* b, const real* grad, const real* x, real center, const Shape* g) noexcept nogil:
    """Sums over one channel: of x - center and its square, or with grad of grad and grad * (x - center).

    grad, x: (N, inner) with rows C * inner numbers apart
    """
    cdef double first[LANES]
    cdef double second[LANES]
    cdef double difference
    cdef Py_ssize_t n, i, j, whole = g.inner - g.inner % LANES, step = g.C * g.inner
    for j in range(LANES):
        first[j] = second[j] = 0
    for n in range(g.N):
        if grad == NULL:
            for i in range(0, whole, 8):
                for j in range(LANES):
                    difference = <double>x[n * step + i + j] - center
                    first[j] += difference
                    second[j] += difference * difference
            for i in range(whole, g.inner):
                difference = <double>x[n * step + i] - center
                first[i - whole] += difference
                second[i - whole] += difference * difference
        else:
            for i in range(0, whole, 8):
                for j in range(LANES):
                    first[j] += grad[n * step + i + j]
                    second[j] += <double>grad[n * step + i + j] * (x[n * step + i + j] - center)
            for i in range(whole, g.inner):
                first[i - whole] += grad[n * step + i]
                second[i - whole] += <double>grad[n * step + i] * (x[n * step + i] - center)
    a[0] = add_lanes(first)
    b[0] = add_lanes(second)


cdef void tile_sums(double* a, double* b, const real* grad, const real* x, const real* center, Py_ssize_t width,
                    const Shape* g) noexcept nogil:
    """plane_sums for ``width`` neighbouring channels; grad, x: (N, width) with rows C numbers apart"""
    cdef double difference
    cdef Py_ssize_t n, j
    for j in range(width):
        a[j] = b[j] = 0
    for n in range(g.N):
        for j in range(width):
            if grad == NULL:
                difference = <double>x[n * g.C + j] - center[j]
                a[j] += difference
                b[j] += difference * difference
            else:
                a[j] += grad[n * g.C + j]
                b[j] += <double>grad[n * g.C + j] * (x[n * g.C + j] - center[j])


cdef void sums(double* a, double* b, const real* grad, const real* x, const real* center, Py_ssize_t width,
               const Shape* g) noexcept nogil:
    if g.inner == 1:
        tile_sums(a, b, grad, x, center, width, g)
    else:
        plane_sums(a, b, grad, x, center[0], g)


cdef void scale_and_shift(real* y, const real* x, const real* center, const real* scale, const real* shift,
                          Py_ssize_t width, const Shape* g) noexcept nogil:
    """y = (x - center) * scale + shift; y, x: (N, width, inner) with examples C * inner numbers apart"""
    cdef Py_ssize_t n, i, at
    for n in range(g.N):
        at = n * g.C * g.inner
        if g.inner == 1:
            for i in range(width):
                y[at + i] = (x[at + i] - center[i]) * scale[i] + shift[i]
        else:
            for i in range(g.inner):
                y[at + i] = (x[at + i] - center[0]) * scale[0] + shift[0]


cdef void forward_block(real* y, real* mean, real* rstd, real* running_mean, real* running_var, const real* x,
                        const real* weight, const real* bias, Py_ssize_t c, Py_ssize_t width,
                        const Shape* g) noexcept nogil:
    """Channels c to c + width.  y, x: (N, C, inner), all others (C,), NULL for those that are missing."""
    cdef double a[TILE]
    cdef double b[TILE]
    cdef real center[TILE]
    cdef real scale[TILE]
    cdef real shift[TILE]
    cdef double count = <double>(g.N * g.inner), m, v, r
    cdef Py_ssize_t j
    if g.training:
        for j in range(width):
            center[j] = x[(c + j) * g.inner]
        sums(a, b, <const real*>NULL, x + c * g.inner, center, width, g)
    for j in range(width):
        if g.training:
            m = center[j] + a[j] / count
            v = (b[j] - a[j] * (a[j] / count)) / count
            v = 0 if v < 0 else v
            if running_mean != NULL:
                running_mean[c + j] = <real>(g.momentum * m + (1 - g.momentum) * running_mean[c + j])
            if running_var != NULL:
                running_var[c + j] = <real>(g.momentum * (v * (count / (count - 1)))
                                            + (1 - g.momentum) * running_var[c + j])
        else:
            m = running_mean[c + j]
            v = running_var[c + j]
        r = 1 / sqrt(v + g.eps)
        mean[c + j] = center[j] = <real>m
        rstd[c + j] = <real>r
        scale[j] = <real>(r if weight == NULL else r * weight[c + j])
        shift[j] = 0 if bias == NULL else bias[c + j]
    scale_and_shift(y + c * g.inner, x + c * g.inner, center, scale, shift, width, g)


cdef void backward_block(real* grad_input, real* grad_weight, real* grad_bias, const real* grad_output,
                         const real* mean, const real* rstd, const real* x, const real* weight, Py_ssize_t c,
                         Py_ssize_t width, const Shape* g) noexcept nogil:
    """Channels c to c + width.

    In training grad_input = weight * rstd * (grad_output - its mean - normalized * mean of grad_output * normalized),
    with normalized = (x - mean) * rstd; in evaluation the two means are not there.
    """
    cdef double a[TILE]
    cdef double b[TILE]
    cdef real level[TILE]
    cdef real slope[TILE]
    cdef real scale[TILE]
    cdef double count = <double>(g.N * g.inner)
    cdef Py_ssize_t n, i, j, at
    sums(a, b, grad_output + c * g.inner, x + c * g.inner, mean + c, width, g)
    for j in range(width):
        grad_bias[c + j] = <real>a[j]
        grad_weight[c + j] = <real>(b[j] * rstd[c + j])
        level[j] = <real>(a[j] / count if g.training else 0)
        slope[j] = <real>(<double>rstd[c + j] * rstd[c + j] * b[j] / count if g.training else 0)
        scale[j] = rstd[c + j] if weight == NULL else rstd[c + j] * weight[c + j]
    for n in range(g.N):
        at = (n * g.C + c) * g.inner
        if not g.training:
            for i in range(width * g.inner):
                grad_input[at + i] = grad_output[at + i] * scale[i if g.inner == 1 else 0]
        elif g.inner == 1:
            for j in range(width):
                grad_input[at + j] = (grad_output[at + j] - level[j] - (x[at + j] - mean[c + j]) * slope[j]) * scale[j]
        else:
            for i in range(g.inner):
                grad_input[at + i] = (grad_output[at + i] - level[0] - (x[at + i] - mean[c]) * slope[0]) * scale[0]


cdef void forward_all(real* y, real* mean, real* rstd, real* running_mean, real* running_var, const real* x,
                      const real* weight, const real* bias, const Shape* g) noexcept nogil:
    cdef Py_ssize_t block, step = TILE if g.inner == 1 else 1, blocks = (g.C + step - 1) // step
    cdef int threads = team(g.N * g.C * g.inner / NUMBERS_PER_MICROSECOND)
    if threads == 1:
        for block in range(blocks):
            forward_block(y, mean, rstd, running_mean, running_var, x, weight, bias, block * step,
                          min(step, g.C - block * step), g)
    else:
        for block in prange(blocks, num_threads=threads, schedule="static"):
            forward_block(y, mean, rstd, running_mean, running_var, x, weight, bias, block * step,
                          min(step, g.C - block * step), g)


cdef void backward_all(real* grad_input, real* grad_weight, real* grad_bias, const real* grad_output,
                       const real* mean, const real* rstd, const real* x, const real* weight,
                       const Shape* g) noexcept nogil:
    cdef Py_ssize_t block, step = TILE if g.inner == 1 else 1, blocks = (g.C + step - 1) // step
    cdef int threads = team(g.N * g.C * g.inner / NUMBERS_PER_MICROSECOND)
    if threads == 1:
        for block in range(blocks):
            backward_block(grad_input, grad_weight, grad_bias, grad_output, mean, rstd, x, weight, block * step,
                           min(step, g.C - block * step), g)
    else:
        for block in prange(blocks, num_threads=threads, schedule="static"):
            backward_block(grad_input, grad_weight, grad_bias, grad_output, mean, rstd, x, weight, block * step,
                           min(step, g.C - block * step), g)


cdef bint set_shape(Shape* g, cnp.ndarray input) noexcept:
    """Fill in N, C and inner; False for a number of dimensions that batch_norm does not have, or no values."""
    cdef int axis, ndim = cnp.PyArray_NDIM(input)
    if not 2 <= ndim <= 5:
        return False
    g.N = cnp.PyArray_DIM(input, 0)
    g.C = cnp.PyArray_DIM(input, 1)
    g.inner = 1
    for axis in range(2, ndim):
        g.inner *= cnp.PyArray_DIM(input, axis)
    return g.N * g.inner > 0


cdef bint per_channel(object array, int typenum, Py_ssize_t C) except -1:
    """Whether the array is None or has one number of this type for each channel."""
    return array is None or (float_type(array) == typenum and cnp.PyArray_NDIM(<cnp.ndarray>array) == 1
                             and cnp.PyArray_DIM(<cnp.ndarray>array, 0) == C)


def batch_norm(object input, object weight, object bias, object running_mean, object running_var, bint training,
               double momentum, double eps):
    """(output, mean, rstd), or None; in training moves the running statistics in place"""
    cdef Shape g
    cdef int typenum = float_type(input)
    if typenum < 0 or not set_shape(&g, input):
        return None
    for array in (weight, bias, running_mean, running_var):
        if not per_channel(array, typenum, g.C):
            return None
    if training:
        for array in (running_mean, running_var):
            if array is not None and not cnp.PyArray_ISCARRAY(<cnp.ndarray>array):
                return None
        if g.N * g.inner == 1:
            return None
    else:
        if running_mean is None or running_var is None:
            return None
        running_mean, running_var = ready(running_mean), ready(running_var)
    g.training, g.momentum, g.eps = training, momentum, eps
    cdef cnp.ndarray x = ready(input)
    weight = None if weight is None else ready(weight)
    bias = None if bias is None else ready(bias)
    cdef cnp.npy_intp C = g.C
    cdef cnp.ndarray output = new_like(x), mean = new_array(1, &C, typenum), rstd = new_array(1, &C, typenum)
    cdef void* y = cnp.PyArray_DATA(output)
    cdef void* m = cnp.PyArray_DATA(mean)
    cdef void* r = cnp.PyArray_DATA(rstd)
    cdef void* rm = data_of(running_mean)
    cdef void* rv = data_of(running_var)
    cdef const void* data = cnp.PyArray_DATA(x)
    cdef const void* w = data_of(weight)
    cdef const void* b = data_of(bias)
    with nogil:
        if typenum == cnp.NPY_FLOAT:
            forward_all[float](<float*>y, <float*>m, <float*>r, <float*>rm, <float*>rv, <const float*>data,
                               <const float*>w, <const float*>b, &g)
        else:
            forward_all[double](<double*>y, <double*>m, <double*>r, <double*>rm, <double*>rv, <const double*>data,
                                <const double*>w, <const double*>b, &g)
    return output, mean, rstd


def batch_norm_backward(object grad_output, object input, object weight, object mean, object rstd, bint training):
    """(grad_input, grad_weight, grad_bias), or None"""
    cdef Shape g
    cdef int typenum = float_type(input)
    if typenum < 0 or not set_shape(&g, input) or float_type(grad_output) != typenum:
        return None
    if not same_shape(grad_output, input) or mean is None or rstd is None:
        return None
    for array in (weight, mean, rstd):
        if not per_channel(array, typenum, g.C):
            return None
    g.training = training
    cdef cnp.ndarray x = ready(input), grad = ready(grad_output), means = ready(mean), rstds = ready(rstd)
    weight = None if weight is None else ready(weight)
    cdef cnp.npy_intp C = g.C
    cdef cnp.ndarray grad_input = new_like(x)
    cdef cnp.ndarray grad_weight = new_array(1, &C, typenum), grad_bias = new_array(1, &C, typenum)
    cdef void* gi = cnp.PyArray_DATA(grad_input)
    cdef void* gw = cnp.PyArray_DATA(grad_weight)
    cdef void* gb = cnp.PyArray_DATA(grad_bias)
    cdef const void* go = cnp.PyArray_DATA(grad)
    cdef const void* m = cnp.PyArray_DATA(means)
    cdef const void* r = cnp.PyArray_DATA(rstds)
    cdef const void* data = cnp.PyArray_DATA(x)
    cdef const void* w = data_of(weight)
    with nogil:
        if typenum == cnp.NPY_FLOAT:
            backward_all[float](<float*>gi, <float*>gw, <float*>gb, <const float*>go, <const float*>m,
                                <const float*>r, <const float*>data, <const float*>w, &g)
        else:
            backward_all[double](<double*>gi, <double*>gw, <double*>gb, <const double*>go, <const double*>m,
                                 <const double*>r, <const double*>data, <const double*>w, &g)
    return grad_input, grad_weight, grad_bias


cdef void dropout_all(real* y, const real* x, const cnp.uint8_t* mask, real scale, Py_ssize_t n) noexcept nogil:
    """y, x, mask: (n,)"""
    cdef int threads = team(n / DROPS_PER_MICROSECOND)
    cdef Py_ssize_t i
    for i in prange(n, num_threads=threads, schedule="static"):
        y[i] = x[i] * (mask[i] * scale)


def dropout_apply(object input, object mask, double scale):
    """input * mask * scale, or None"""
    cdef int typenum = float_type(input)
    if typenum < 0 or not isinstance(mask, cnp.ndarray) or not same_shape(input, mask):
        return None
    if cnp.PyArray_TYPE(<cnp.ndarray>mask) != cnp.NPY_BOOL and cnp.PyArray_TYPE(<cnp.ndarray>mask) != cnp.NPY_UINT8:
        return None
    cdef cnp.ndarray x = ready(input), kept = ready(mask)
    cdef cnp.ndarray output = new_like(x)
    cdef void* y = cnp.PyArray_DATA(output)
    cdef const void* data = cnp.PyArray_DATA(x)
    cdef const cnp.uint8_t* m = <const cnp.uint8_t*>cnp.PyArray_DATA(kept)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    with nogil:
        if typenum == cnp.NPY_FLOAT:
            dropout_all[float](<float*>y, <const float*>data, m, <float>scale, n)
        else:
            dropout_all[double](<double*>y, <const double*>data, m, scale, n)
    return output
