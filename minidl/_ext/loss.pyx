"""Cross entropy and negative log-likelihood over classes, for float32 and float64.

Predictions are seen as (N, C, inner) around the classes, targets as (N, inner).  The log-softmax runs
on several threads, the sum over the predictions on one, in float64.  Functions return None for arguments that they do
not take, among them every wrong one: the caller has the reference for those, which computes or says what is wrong.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from minidl._ext.reals cimport (GIL_MICROSECONDS, MEAN, NONE, UNKNOWN, Reduction, data_of, dot_run, exp_run,
                                float_type, ready, real, reduction_of, same_shape, sum_run)
from minidl._ext.softmax cimport softmax_forward, softmax_microseconds
from minidl._ext.storage cimport new_array, new_like
from minidl._ext.threads cimport team

cnp.import_array()

cdef enum:
    TILE = 256  # neighbouring predictions whose gradient is made together

cdef struct Classes:
    # Targets of predictions over classes: everything but the float arrays.
    Py_ssize_t N, C, inner
    const cnp.int64_t* target           # (N, inner)
    cnp.int64_t ignore_index
    Reduction reduction
    double label_smoothing


cdef bint describe(Classes* g, cnp.ndarray input, object target, object weight, object ignore_index,
                   object reduction, double label_smoothing) except -1:
    """Fill in ``g``; False if target, weight and reduction do not fit an input of this shape and dtype."""
    cdef int ndim = cnp.PyArray_NDIM(input), axis = 0 if ndim == 1 else 1, i
    if ndim == 0 or not isinstance(target, cnp.ndarray):
        return False
    cdef cnp.ndarray indices = target
    if cnp.PyArray_TYPE(indices) != cnp.NPY_INT64 or cnp.PyArray_NDIM(indices) != ndim - 1:
        return False
    for i in range(ndim - 1):
        if cnp.PyArray_DIM(indices, i) != cnp.PyArray_DIM(input, i if i < axis else i + 1):
            return False
    g.N = 1 if axis == 0 else cnp.PyArray_DIM(input, 0)
    g.C = cnp.PyArray_DIM(input, axis)
    g.inner = 1
    for i in range(axis + 1, ndim):
        g.inner *= cnp.PyArray_DIM(input, i)
    if weight is not None and (float_type(weight) != cnp.PyArray_TYPE(input) or cnp.PyArray_NDIM(weight) != 1
                               or cnp.PyArray_DIM(weight, 0) != g.C):
        return False
    g.ignore_index = ignore_index
    g.reduction = reduction_of(reduction)
    g.label_smoothing = label_smoothing
    return g.reduction != UNKNOWN


cdef bint set_targets(Classes* g, cnp.ndarray target) noexcept:
    """Point ``g`` at contiguous targets; False if one of them is neither a class nor ignored."""
    cdef Py_ssize_t i
    g.target = <const cnp.int64_t*>cnp.PyArray_DATA(target)
    for i in range(g.N * g.inner):
        if g.target[i] != g.ignore_index and not 0 <= g.target[i] < g.C:
            return False
    return True


cdef double total_weight_of(const Classes* g, const real* weight) noexcept nogil:
    """The sum of the weights (1 if weight is NULL) of all targets that are not ignored."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(g.N * g.inner):
        if g.target[i] != g.ignore_index:
            total += 1.0 if weight == NULL else weight[g.target[i]]
    return total


cdef double smooth_term(const Classes* g, const real* log_probs, const real* weight) noexcept nogil:
    """- sum over the classes of weight * log_probs for one prediction, whose classes are g.inner numbers apart."""
    cdef double total = 0
    cdef Py_ssize_t c
    if g.inner == 1:
        return -(sum_run(log_probs, g.C) if weight == NULL else dot_run(log_probs, weight, g.C))
    for c in range(g.C):
        total += log_probs[c * g.inner] if weight == NULL else <double>weight[c] * log_probs[c * g.inner]
    return -total


cdef void pick(const Classes* g, real* loss, real* total_weight, const real* log_probs,
               const real* weight) noexcept nogil:
    """loss: (N, inner) or one number, total_weight: one number, log_probs: (N, C, inner), weight: (C,) or NULL

    Each term is (1 - s) * -weight[target] * log_probs[target] + s / C * smooth_term, with s the label smoothing.
    """
    cdef double total = total_weight_of(g, weight), s = g.label_smoothing, nll = 0, smooth = 0, term, smooth_here = 0
    cdef Py_ssize_t n, j, i
    cdef cnp.int64_t t
    for n in range(g.N):
        for j in range(g.inner):
            i = n * g.inner + j
            t = g.target[i]
            if t == g.ignore_index:
                if g.reduction == NONE:
                    loss[i] = 0
                continue
            term = -<double>log_probs[(n * g.C + t) * g.inner + j]
            if weight != NULL:
                term *= weight[t]
            if s > 0:
                smooth_here = smooth_term(g, log_probs + n * g.C * g.inner + j, weight)
            if g.reduction == NONE:
                loss[i] = <real>((1 - s) * term + s / g.C * smooth_here if s > 0 else term)
            else:
                nll += term
                smooth += smooth_here
    total_weight[0] = <real>total
    if g.reduction != NONE:
        if g.reduction == MEAN:
            nll /= total
            smooth /= total
        loss[0] = <real>((1 - s) * nll + s / g.C * smooth if s > 0 else nll)


cdef void cross_entropy_all(const Classes* g, real* loss, real* log_probs, real* total_weight, const real* input,
                            const real* weight, int threads) noexcept nogil:
    softmax_forward(True, log_probs, input, g.N, g.C, g.inner, threads)
    pick(g, loss, total_weight, log_probs, weight)


cdef void backward_tile(const Classes* g, real* grad_input, const real* grad_output, const real* log_probs,
                        double total, const real* weight, double weight_sum, Py_ssize_t n,
                        Py_ssize_t j0) noexcept nogil:
    """The gradient of at most TILE predictions, j0 and up, of example n.

    grad_output: (N, inner) or one number, log_probs, grad_input: (N, C, inner).  With respect to log_probs[c] it is
    -(hit at c = target) - even * weight[c]; the log-softmax adds to that exp(log_probs[c]) * sum of (hit + even *
    weight) over the classes.
    """
    cdef Py_ssize_t width = min(<Py_ssize_t>TILE, g.inner - j0), c, j, at = n * g.C * g.inner + j0
    cdef const cnp.int64_t* target = g.target + n * g.inner + j0
    cdef double s = g.label_smoothing, scale, w
    cdef real hit[TILE]
    cdef real even[TILE]
    cdef real pull[TILE]
    for j in range(width):
        hit[j] = even[j] = pull[j] = 0
        if target[j] != g.ignore_index:
            scale = grad_output[n * g.inner + j0 + j if g.reduction == NONE else 0]
            if g.reduction == MEAN:
                scale /= total
            w = 1.0 if weight == NULL else weight[target[j]]
            hit[j] = <real>((1 - s) * scale * w if s > 0 else scale * w)
            if s > 0:
                even[j] = <real>(s / g.C * scale)
                pull[j] = <real>(hit[j] + even[j] * weight_sum)
            else:
                pull[j] = hit[j]
    if g.inner == 1:
        exp_run(grad_input + at, log_probs + at, 0, g.C)
        for c in range(g.C):
            grad_input[at + c] *= pull[0]
        if s > 0:
            for c in range(g.C):
                grad_input[at + c] -= even[0] if weight == NULL else even[0] * weight[c]
    else:
        for c in range(g.C):
            exp_run(grad_input + at + c * g.inner, log_probs + at + c * g.inner, 0, width)
            for j in range(width):
                grad_input[at + c * g.inner + j] *= pull[j]
            if s > 0:
                for j in range(width):
                    grad_input[at + c * g.inner + j] -= even[j] if weight == NULL else even[j] * weight[c]
    for j in range(width):
        if target[j] != g.ignore_index:
            grad_input[at + target[j] * g.inner + j] -= hit[j]


cdef void backward_all(const Classes* g, real* grad_input, const real* grad_output, const real* log_probs,
                       double total, const real* weight, int threads) noexcept nogil:
    cdef Py_ssize_t tiles = (g.inner + TILE - 1) // TILE, items = g.N * tiles, item
    cdef double weight_sum = g.C if weight == NULL else sum_run(weight, g.C)
    if threads == 1:
        for item in range(items):
            backward_tile(g, grad_input, grad_output, log_probs, total, weight, weight_sum, item // tiles,
                          item % tiles * TILE)
    else:
        for item in prange(items, num_threads=threads, schedule="static"):
            backward_tile(g, grad_input, grad_output, log_probs, total, weight, weight_sum, item // tiles,
                          item % tiles * TILE)


cdef void nll_backward_all(const Classes* g, real* grad_input, const real* grad_output, double total,
                           const real* weight) noexcept nogil:
    """grad_input: (N, C, inner), grad_output: (N, inner) or one number"""
    cdef Py_ssize_t n, j, i
    cdef cnp.int64_t t
    cdef double scale
    memset(grad_input, 0, g.N * g.C * g.inner * sizeof(real))
    for n in range(g.N):
        for j in range(g.inner):
            i = n * g.inner + j
            t = g.target[i]
            if t != g.ignore_index:
                scale = -<double>grad_output[i if g.reduction == NONE else 0]
                if g.reduction == MEAN:
                    scale /= total
                grad_input[(n * g.C + t) * g.inner + j] = <real>(scale if weight == NULL else scale * weight[t])


cdef double number(object array) except *:
    """The value of a 0-d array of float32 or float64."""
    cdef cnp.ndarray ready_array = ready(array)
    if cnp.PyArray_TYPE(ready_array) == cnp.NPY_FLOAT:
        return (<const float*>cnp.PyArray_DATA(ready_array))[0]
    return (<const double*>cnp.PyArray_DATA(ready_array))[0]


cdef inline cnp.ndarray loss_array(const Classes* g, cnp.ndarray target, int typenum):
    """An array for the loss: the shape of target for reduction 'none', else 0-d."""
    if g.reduction == NONE:
        return new_array(cnp.PyArray_NDIM(target), cnp.PyArray_DIMS(target), typenum)
    return new_array(0, NULL, typenum)


cdef inline bint grad_fits(const Classes* g, object grad_output, cnp.ndarray target, object total_weight,
                           int typenum) except -1:
    """Whether grad_output has the loss's shape and grad_output and total_weight the dtype asked for."""
    if float_type(grad_output) != typenum or float_type(total_weight) != typenum:
        return False
    if cnp.PyArray_NDIM(<cnp.ndarray>total_weight) != 0:
        return False
    if g.reduction == NONE:
        return same_shape(grad_output, target)
    return cnp.PyArray_NDIM(<cnp.ndarray>grad_output) == 0


cdef void cross_entropy_any(bint is_float, const Classes* g, void* loss, void* log_probs, void* total_weight,
                            const void* input, const void* weight, int threads) noexcept nogil:
    if is_float:
        cross_entropy_all[float](g, <float*>loss, <float*>log_probs, <float*>total_weight, <const float*>input,
                                 <const float*>weight, threads)
    else:
        cross_entropy_all[double](g, <double*>loss, <double*>log_probs, <double*>total_weight, <const double*>input,
                                  <const double*>weight, threads)


def cross_entropy(object input, object target, object weight, object ignore_index, object reduction,
                  double label_smoothing):
    """(loss, log_probs, total_weight), or None"""
    cdef Classes g
    cdef int typenum = float_type(input)
    cdef bint is_float = typenum == cnp.NPY_FLOAT
    if typenum < 0 or not describe(&g, input, target, weight, ignore_index, reduction, label_smoothing):
        return None
    cdef cnp.ndarray x = ready(input), t = ready(target)
    weight = None if weight is None else ready(weight)
    if not set_targets(&g, t):
        return None
    cdef cnp.ndarray loss = loss_array(&g, t, typenum), log_probs = new_like(x)
    cdef cnp.ndarray total_weight = new_array(0, NULL, typenum)
    cdef void* out = cnp.PyArray_DATA(loss)
    cdef void* lp = cnp.PyArray_DATA(log_probs)
    cdef void* total = cnp.PyArray_DATA(total_weight)
    cdef const void* data = cnp.PyArray_DATA(x)
    cdef const void* w = data_of(weight)
    cdef double microseconds = softmax_microseconds(g.N * g.C * g.inner, is_float)
    if microseconds < GIL_MICROSECONDS:
        cross_entropy_any(is_float, &g, out, lp, total, data, w, 1)
    else:
        with nogil:
            cross_entropy_any(is_float, &g, out, lp, total, data, w, team(microseconds))
    return loss, log_probs, total_weight


cdef void backward_any(bint is_float, const Classes* g, void* grad_input, const void* grad_output,
                       const void* log_probs, double total, const void* weight, int threads) noexcept nogil:
    if is_float:
        backward_all[float](g, <float*>grad_input, <const float*>grad_output, <const float*>log_probs, total,
                            <const float*>weight, threads)
    else:
        backward_all[double](g, <double*>grad_input, <const double*>grad_output, <const double*>log_probs, total,
                             <const double*>weight, threads)


def cross_entropy_backward(object grad_output, object log_probs, object total_weight, object target, object weight,
                           object ignore_index, object reduction, double label_smoothing):
    """grad_input, or None"""
    cdef Classes g
    cdef int typenum = float_type(log_probs)
    cdef bint is_float = typenum == cnp.NPY_FLOAT
    if typenum < 0 or not describe(&g, log_probs, target, weight, ignore_index, reduction, label_smoothing):
        return None
    if not grad_fits(&g, grad_output, target, total_weight, typenum):
        return None
    cdef cnp.ndarray lp = ready(log_probs), t = ready(target), grad = ready(grad_output)
    weight = None if weight is None else ready(weight)
    if not set_targets(&g, t):
        return None
    cdef cnp.ndarray grad_input = new_like(lp)
    cdef double total = number(total_weight)
    cdef void* out = cnp.PyArray_DATA(grad_input)
    cdef const void* go = cnp.PyArray_DATA(grad)
    cdef const void* data = cnp.PyArray_DATA(lp)
    cdef const void* w = data_of(weight)
    cdef double microseconds = softmax_microseconds(g.N * g.C * g.inner, is_float)
    if microseconds < GIL_MICROSECONDS:
        backward_any(is_float, &g, out, go, data, total, w, 1)
    else:
        with nogil:
            backward_any(is_float, &g, out, go, data, total, w, team(microseconds))
    return grad_input


def nll_loss(object input, object target, object weight, object ignore_index, object reduction):
    """(loss, total_weight), or None"""
    cdef Classes g
    cdef int typenum = float_type(input)
    if typenum < 0 or not describe(&g, input, target, weight, ignore_index, reduction, 0):
        return None
    cdef cnp.ndarray x = ready(input), t = ready(target)
    weight = None if weight is None else ready(weight)
    if not set_targets(&g, t):
        return None
    cdef cnp.ndarray loss = loss_array(&g, t, typenum), total_weight = new_array(0, NULL, typenum)
    cdef void* out = cnp.PyArray_DATA(loss)
    cdef void* total = cnp.PyArray_DATA(total_weight)
    cdef const void* data = cnp.PyArray_DATA(x)
    cdef const void* w = data_of(weight)
    with nogil:
        if typenum == cnp.NPY_FLOAT:
            pick[float](&g, <float*>out, <float*>total, <const float*>data, <const float*>w)
        else:
            pick[double](&g, <double*>out, <double*>total, <const double*>data, <const double*>w)
    return loss, total_weight


def nll_loss_backward(object grad_output, object total_weight, object target, object weight, object ignore_index,
                      object reduction, tuple input_shape):
    """grad_input, or None"""
    cdef Classes g
    cdef cnp.npy_intp shape[64]
    cdef int typenum = float_type(grad_output), axis, ndim = len(input_shape)
    if typenum < 0 or ndim > 64:
        return None
    for axis in range(ndim):
        shape[axis] = input_shape[axis]
    cdef cnp.ndarray grad_input = new_array(ndim, shape, typenum)
    if not describe(&g, grad_input, target, weight, ignore_index, reduction, 0):
        return None
    if not grad_fits(&g, grad_output, target, total_weight, typenum):
        return None
    cdef cnp.ndarray t = ready(target), grad = ready(grad_output)
    weight = None if weight is None else ready(weight)
    if not set_targets(&g, t):
        return None
    cdef double total = number(total_weight)
    cdef void* out = cnp.PyArray_DATA(grad_input)
    cdef const void* go = cnp.PyArray_DATA(grad)
    cdef const void* w = data_of(weight)
    with nogil:
        if typenum == cnp.NPY_FLOAT:
            nll_backward_all[float](&g, <float*>out, <const float*>go, total, <const float*>w)
        else:
            nll_backward_all[double](&g, <double*>out, <const double*>go, total, <const double*>w)
    return grad_input
