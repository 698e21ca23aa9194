"""One optimizer step over all parameters of a group, in place, float32 and float64.

The arrays of each parameter are looked at once and their pointers put into a table; then the table is worked off
without the GIL, by several threads if there is enough to do: thread t takes the numbers from t/threads to
(t+1)/threads of all, counted through the table.  Each number is changed on its own, so the bits do not depend on the
threads.  Operations come in PyTorch's order, in the dtype of the parameter.

A step returns the indices of the parameters that it left alone because an array is not contiguous, not writeable, not
of the parameter's dtype and size: the caller has the reference for those.
"""

cimport numpy as cnp
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cython.parallel cimport prange
from libc.math cimport pow as power
from libc.math cimport sqrt

from minidl._ext.instruction_set cimport isa_level
from minidl._ext.reals cimport GIL_MICROSECONDS, float_type
from minidl._ext.threads cimport team

cnp.import_array()

cdef enum:
    BLOCK = 512     # float64 numbers that Adam takes through its loops before the next

cdef double SGD_MICROSECONDS = 0.0004, ADAM_MICROSECONDS = 0.0012   # for one number, on one thread


cdef extern from *:
    """
    #include "lanes.h"
    #include "optimizer_runs.h"
    KERNEL_TABLES(optimizer_runs)
    """
    struct sgd_rule:
        float lr, momentum, keep, weight_decay, sign
        bint nesterov
    struct adam_rule:
        float weight, rest, beta2, keep, eps, weight_decay, shrink, sign
        bint decoupled, from_average
    struct optimizer_runs:
        void (*sgd)(const sgd_rule* rule, bint first, float* parameter, const float* grad, float* buffer,
                    Py_ssize_t n) noexcept nogil
        void (*adam)(const adam_rule* rule, float step_size, float root, float* parameter, const float* grad,
                     float* exp_avg, float* exp_avg_sq, float* largest, Py_ssize_t n) noexcept nogil
    const optimizer_runs* optimizer_runs_for(int level) noexcept nogil


cdef struct Row:
    # One parameter: its arrays, and what differs from parameter to parameter.
    void* parameter
    const void* grad
    void* buffer            # SGD: momentum.  Adam: exp_avg
    void* square            # Adam: exp_avg_sq
    void* largest           # Adam with amsgrad: max_exp_avg_sq
    Py_ssize_t size
    bint is_float
    bint first              # SGD: the buffer is uninitialised
    double step_size, root  # Adam: lr / (1 - beta1**step) and sqrt(1 - beta2**step)


cdef struct Table:
    Row* rows
    Py_ssize_t length, total    # rows, and numbers in all of them


cdef struct SGD:
    double lr, momentum, keep, weight_decay, sign   # keep = 1 - dampening, sign = -1 to maximize
    bint nesterov


cdef struct Adam:
    double lr, beta1, beta2, eps, weight_decay, sign
    bint decoupled
    adam_rule single    # the same for float32


cdef void sgd_run(const SGD* o, const Row* row, double* parameter, const double* grad, double* buffer,
                  Py_ssize_t n) noexcept nogil:
    """parameter, grad, buffer: (n,); buffer NULL without momentum; float32 is in optimizer_runs.c"""
    cdef double gradient
    cdef Py_ssize_t i
    for i in range(n):
        gradient = o.sign * grad[i]
        if o.weight_decay != 0:
            gradient = gradient + o.weight_decay * parameter[i]
        if buffer != NULL:
            buffer[i] = gradient if row.first else o.momentum * buffer[i] + o.keep * gradient
            gradient = gradient + o.momentum * buffer[i] if o.nesterov else buffer[i]
        parameter[i] = parameter[i] - o.lr * gradient


cdef void adam_run(const Adam* o, const Row* row, double* parameter, const double* grad, double* exp_avg,
                   double* exp_avg_sq, double* largest, Py_ssize_t n) noexcept nogil:
    """all arrays: (n,) with n up to BLOCK; largest NULL without amsgrad; float32 is in optimizer_runs.c

    One loop for each step of the algorithm, with the gradient and then the second moment in the cache: a loop over
    all five arrays has too many pointers for the compiler to prove that vector registers are safe.
    """
    cdef double scratch[BLOCK]
    cdef double decay = o.weight_decay, shrink = 1 - o.lr * o.weight_decay, sign = o.sign
    cdef double weight = 1 - o.beta1, rest = 1 - (1 - o.beta1), beta2 = o.beta2, keep = 1 - o.beta2
    cdef double step_size = row.step_size, root = row.root, eps = o.eps
    cdef Py_ssize_t i
    for i in range(n):
        scratch[i] = sign * grad[i]
    if o.weight_decay != 0:
        if o.decoupled:
            for i in range(n):
                parameter[i] *= shrink
        else:
            for i in range(n):
                scratch[i] += decay * parameter[i]
    if 1 - o.beta1 < 0.5:
        for i in range(n):
            exp_avg[i] += weight * (scratch[i] - exp_avg[i])
    else:
        for i in range(n):
            exp_avg[i] = scratch[i] - (scratch[i] - exp_avg[i]) * rest
    for i in range(n):
        exp_avg_sq[i] = beta2 * exp_avg_sq[i] + keep * scratch[i] * scratch[i]
        scratch[i] = exp_avg_sq[i]
    if largest != NULL:
        for i in range(n):
            largest[i] = largest[i] if largest[i] > scratch[i] else scratch[i]
            scratch[i] = largest[i]
    for i in range(n):
        parameter[i] -= step_size * exp_avg[i] / (sqrt(scratch[i]) / root + eps)


cdef void sgd_part(const SGD* o, const Row* row, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    """The n numbers of a parameter from ``at``."""
    cdef void* buffer = row.buffer
    cdef sgd_rule rule
    if row.is_float:
        rule = sgd_rule(<float>o.lr, <float>o.momentum, <float>o.keep, <float>o.weight_decay, <float>o.sign, o.nesterov)
        optimizer_runs_for(isa_level()).sgd(&rule, row.first, <float*>row.parameter + at, <const float*>row.grad + at,
                                            <float*>NULL if buffer == NULL else <float*>buffer + at, n)
    else:
        sgd_run(o, row, <double*>row.parameter + at, <const double*>row.grad + at,
                <double*>NULL if buffer == NULL else <double*>buffer + at, n)


cdef void adam_part(const Adam* o, const Row* row, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    cdef void* largest = row.largest
    if row.is_float:
        optimizer_runs_for(isa_level()).adam(
            &o.single, <float>row.step_size, <float>row.root, <float*>row.parameter + at, <const float*>row.grad + at,
            <float*>row.buffer + at, <float*>row.square + at,
            <float*>NULL if largest == NULL else <float*>largest + at, n)
        return
    while n > BLOCK:
        adam_part(o, row, at, BLOCK)
        at += BLOCK
        n -= BLOCK
    adam_run(o, row, <double*>row.parameter + at, <const double*>row.grad + at, <double*>row.buffer + at,
             <double*>row.square + at, <double*>NULL if largest == NULL else <double*>largest + at, n)


cdef void share(const SGD* sgd, const Adam* adam, const Table* table, Py_ssize_t first,
                Py_ssize_t last) noexcept nogil:
    """The numbers ``first`` to ``last`` of the table, by whichever optimizer is not NULL."""
    cdef Py_ssize_t r, start = 0, at, end
    for r in range(table.length):
        at = max(first - start, 0)
        end = min(last - start, table.rows[r].size)
        if at < end:
            if sgd != NULL:
                sgd_part(sgd, &table.rows[r], at, end - at)
            else:
                adam_part(adam, &table.rows[r], at, end - at)
        start += table.rows[r].size


cdef void work_off(const SGD* sgd, const Adam* adam, const Table* table, double microseconds):
    cdef int threads, t
    if microseconds < GIL_MICROSECONDS:
        share(sgd, adam, table, 0, table.total)
        return
    with nogil:
        threads = team(microseconds)
        if threads == 1:
            share(sgd, adam, table, 0, table.total)
        else:
            for t in prange(threads, num_threads=threads, schedule="static"):
                share(sgd, adam, table, table.total * t // threads, table.total * (t + 1) // threads)


cdef inline cnp.ndarray fitting(list arrays, Py_ssize_t i, cnp.ndarray parameter, bint written):
    """arrays[i] if it can be read (or written) through a pointer beside the parameter, else None."""
    cdef object array = <object>PyList_GET_ITEM(arrays, i)
    if float_type(array) != cnp.PyArray_TYPE(parameter) or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array):
        return None
    if written and not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>array):
        return None
    if cnp.PyArray_SIZE(<cnp.ndarray>array) != cnp.PyArray_SIZE(parameter):
        return None
    return array


cdef bint enter(Row* row, list parameters, list grads, Py_ssize_t i) except -1:
    """Fill in parameter, grad, size and dtype of a row; False if they are not for a kernel."""
    cdef object array = <object>PyList_GET_ITEM(parameters, i)
    if float_type(array) < 0:
        return False
    cdef cnp.ndarray parameter = fitting(parameters, i, array, True), grad = fitting(grads, i, array, False)
    if parameter is None or grad is None:
        return False
    row.parameter = cnp.PyArray_DATA(parameter)
    row.grad = cnp.PyArray_DATA(grad)
    row.size = cnp.PyArray_SIZE(parameter)
    row.is_float = cnp.PyArray_TYPE(parameter) == cnp.NPY_FLOAT
    row.buffer = row.square = row.largest = NULL
    return True


cdef bint enter_state(void** pointer, list arrays, Py_ssize_t i, list parameters) except -1:
    """Point at an array of the state that is changed in place; False if it is not for a kernel."""
    cdef cnp.ndarray array = fitting(arrays, i, <object>PyList_GET_ITEM(parameters, i), True)
    if array is None:
        return False
    pointer[0] = cnp.PyArray_DATA(array)
    return True


cdef Row* new_rows(Py_ssize_t length) except NULL:
    cdef Row* rows = <Row*>PyMem_Malloc(max(length, 1) * sizeof(Row))
    if rows == NULL:
        raise MemoryError(f"an optimizer step over {length} parameters finds no memory for its table")
    return rows


cdef void same_length(Py_ssize_t length, list others) except *:
    for other in others:
        if len(other) != length:
            raise ValueError(f"an optimizer step over {length} parameters got a list of {len(other)} entries; "
                             "all lists have one entry per parameter")


def sgd_step(list parameters not None, list grads not None, list momentum_buffers not None, list first not None,
             double lr, double momentum, double dampening, double weight_decay, bint nesterov, bint maximize):
    """One step of SGD; returns the indices of the parameters that were left alone."""
    cdef SGD o
    cdef Table table
    cdef Row* row
    cdef list left = []
    cdef Py_ssize_t i, length = PyList_GET_SIZE(parameters)
    same_length(length, [grads, momentum_buffers, first])
    o.lr, o.momentum, o.keep, o.weight_decay = lr, momentum, 1 - dampening, weight_decay
    o.sign, o.nesterov = -1 if maximize else 1, nesterov
    table.rows = new_rows(length)
    table.length = table.total = 0
    try:
        for i in range(length):
            row = &table.rows[table.length]
            if not enter(row, parameters, grads, i) or (
                    momentum != 0 and not enter_state(&row.buffer, momentum_buffers, i, parameters)):
                left.append(i)
                continue
            row.first = <object>PyList_GET_ITEM(first, i)
            table.length += 1
            table.total += row.size
        work_off(&o, NULL, &table, table.total * SGD_MICROSECONDS)
    finally:
        PyMem_Free(table.rows)
    return left


def adam_step(list parameters not None, list grads not None, list exp_avgs not None, list exp_avg_sqs not None,
              list max_exp_avg_sqs, list steps not None, double lr, double beta1, double beta2, double eps,
              double weight_decay, bint amsgrad, bint maximize, bint decoupled):
    """One step of Adam or AdamW; returns the indices of the parameters that were left alone."""
    cdef Adam o
    cdef Table table
    cdef Row* row
    cdef list left = []
    cdef Py_ssize_t i, length = PyList_GET_SIZE(parameters)
    cdef double step, last_step = -1, step_size = 0, root = 0
    same_length(length, [grads, exp_avgs, exp_avg_sqs, steps] + ([max_exp_avg_sqs] if amsgrad else []))
    o.lr, o.beta1, o.beta2, o.eps, o.weight_decay = lr, beta1, beta2, eps, weight_decay
    o.sign, o.decoupled = -1 if maximize else 1, decoupled
    o.single = adam_rule(1 - beta1, 1 - (1 - beta1), beta2, 1 - beta2, eps, weight_decay, 1 - lr * weight_decay, o.sign,
                         decoupled, 1 - beta1 < 0.5)
    table.rows = new_rows(length)
    table.length = table.total = 0
    try:
        for i in range(length):
            row = &table.rows[table.length]
            if not (enter(row, parameters, grads, i) and enter_state(&row.buffer, exp_avgs, i, parameters)
                    and enter_state(&row.square, exp_avg_sqs, i, parameters)) or (
                    amsgrad and not enter_state(&row.largest, max_exp_avg_sqs, i, parameters)):
                left.append(i)
                continue
            step = <object>PyList_GET_ITEM(steps, i)
            if step != last_step:
                step_size, root, last_step = lr / (1 - power(beta1, step)), sqrt(1 - power(beta2, step)), step
            row.step_size, row.root = step_size, root
            table.length += 1
            table.total += row.size
        work_off(NULL, &o, &table, table.total * ADAM_MICROSECONDS)
    finally:
        PyMem_Free(table.rows)
    return left
