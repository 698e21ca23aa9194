"""Sums and means of float32 and float64, accumulated in double, block by block, in a fixed order.

A reduction over some dimensions of a contiguous array is one over (K, R, k, r): neighbouring dimensions that are
both kept (K, k) or both reduced (R, r) merge, and ``y[K, k] = sum over R, r of x[K, R, k, r]``.  Sums over all
numbers, over leading, trailing or middle dimensions, and over (0, 2, 3) of an (N, C, H, W) array all have this
form; what has not is left to the reference, as are integers.

Results depend on the number of threads only where a single sum is cut into parts, and never on timing.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from minidl._ext.storage cimport new_array, new_like
from minidl._ext.threads cimport team

cnp.import_array()

cdef enum:
    DIMS = 32
    LANES = 8               # partial sums of a row, which add up side by side
    BLOCK = 4 * 2 * 8       # numbers of a row whose lanes add up before they go to double
    STRIP = 256             # columns that are summed together down the rows
    THREADS = 256

cdef double US_PER_BYTE = 1e-4      # 10 GB/s
cdef double US_WORTH_THE_GIL = 5.0

ctypedef fused real:
    float
    double

cdef struct Groups:
    cnp.npy_intp K
    cnp.npy_intp R
    cnp.npy_intp k
    cnp.npy_intp r


cdef double sum_row(const real* x, cnp.npy_intp n) noexcept nogil:
    """Blocks add up in lanes of x's own precision, four numbers to a lane, and the lanes in double."""
    cdef double wide[LANES]
    cdef real lane[2 * LANES]
    cdef double total = 0
    cdef cnp.npy_intp i = 0
    cdef int j, step
    for j in range(LANES):
        wide[j] = 0
    while i + BLOCK <= n:
        for j in range(2 * LANES):
            lane[j] = x[i + j]
        for step in range(1, 4):
            for j in range(2 * LANES):
                lane[j] += x[i + step * 2 * LANES + j]
        for j in range(LANES):
            wide[j] += lane[j] + lane[j + LANES]
        i += BLOCK
    while i + LANES <= n:
        for j in range(LANES):
            wide[j] += x[i + j]
        i += LANES
    while i < n:
        total += x[i]
        i += 1
    return ((wide[0] + wide[4]) + (wide[2] + wide[6])) + ((wide[1] + wide[5]) + (wide[3] + wide[7])) + total


cdef void sum_rows(real* y, const real* x, Groups* size, double divisor, cnp.npy_intp first,
                   cnp.npy_intp last) noexcept nogil:
    """Results ``first .. last - 1`` of y (K * k), where the innermost dimension r is reduced."""
    cdef cnp.npy_intp place, outer, inner, row
    cdef double total
    for place in range(first, last):
        outer, inner = place // size.k, place % size.k
        total = 0
        for row in range(size.R):
            total += sum_row(x + ((outer * size.R + row) * size.k + inner) * size.r, size.r)
        y[place] = <real>(total / divisor)


cdef void sum_columns(real* y, const real* x, Groups* size, double divisor, cnp.npy_intp first,
                      cnp.npy_intp last) noexcept nogil:
    """Strips ``first .. last - 1`` of y (K, k), where the innermost dimension is k: rows add up side by side,
    four in x's own precision before they go to double."""
    cdef cnp.npy_intp strips = (size.k + STRIP - 1) // STRIP, strip, outer, column, row, width, j
    cdef cnp.npy_intp k = size.k
    cdef double total[STRIP]
    cdef const real* line
    for strip in range(first, last):
        outer, column = strip // strips, strip % strips * STRIP
        width = min(size.k - column, <cnp.npy_intp>STRIP)
        memset(total, 0, width * sizeof(double))
        line = x + outer * size.R * size.k + column
        row = 0
        while row + 4 <= size.R:
            for j in range(width):
                total[j] += (line[j] + line[k + j]) + (line[2 * k + j] + line[3 * k + j])
            line += 4 * k
            row += 4
        while row < size.R:
            for j in range(width):
                total[j] += line[j]
            line += k
            row += 1
        for j in range(width):
            y[outer * size.k + column + j] = <real>(total[j] / divisor)


cdef void sum_groups(real* y, const real* x, Groups* size, double divisor, double us) noexcept nogil:
    """y (K, k) = sum of x (K, R, k, r) / divisor, over the threads that ``us`` of work deserve."""
    cdef int threads = min(team(us), <int>THREADS), part
    cdef double partial[THREADS]
    cdef double total = 0
    cdef cnp.npy_intp pieces, length
    cdef bint rows = size.r > 1 or size.k == 1
    pieces = size.K * (size.k if rows else (size.k + STRIP - 1) // STRIP)
    if pieces == 1 and rows and size.R == 1 and threads > 1:
        length = (size.r + threads - 1) // threads
        for part in prange(threads, num_threads=threads, schedule="static"):
            partial[part] = sum_row(x + part * length, max(min(length, size.r - part * length), <cnp.npy_intp>0))
        for part in range(threads):
            total += partial[part]
        y[0] = <real>(total / divisor)
    elif pieces < threads or threads == 1:
        if rows:
            sum_rows(y, x, size, divisor, 0, pieces)
        else:
            sum_columns(y, x, size, divisor, 0, pieces)
    else:
        length = (pieces + threads - 1) // threads
        for part in prange(threads, num_threads=threads, schedule="static"):
            if rows:
                sum_rows(y, x, size, divisor, part * length, min((part + 1) * length, pieces))
            else:
                sum_columns(y, x, size, divisor, part * length, min((part + 1) * length, pieces))


cdef bint group(cnp.ndarray x, const bint* reduced, Groups* size) noexcept:
    """Merge the dimensions of x into (K, R, k, r); 0 where more groups are needed."""
    cdef cnp.npy_intp groups[4]
    cdef int dim, at = 0
    groups[0] = groups[1] = groups[2] = groups[3] = 1
    for dim in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIMS(x)[dim] == 1:
            continue
        if reduced[dim] != (at & 1):
            at += 1
            if at == 4:
                return False
        groups[at] *= cnp.PyArray_DIMS(x)[dim]
    size[0] = Groups(groups[0], groups[1], groups[2], groups[3])
    if size.r == 1 and size.R == 1:
        size.K, size.k = 1, size.K      # nothing is reduced: one row of columns
    elif size.r == 1 and size.k == 1:
        size.R, size.r = 1, size.R      # nothing is kept behind R: its numbers lie in one row
    return True


cdef object reduce(cnp.ndarray x, const bint* reduced, bint mean, int ndim, cnp.npy_intp* shape):
    """The sum or mean of a float array, as a fresh array of ``shape``; None where the groups are too many."""
    cdef Groups size
    cdef cnp.ndarray dense
    if not group(x, reduced, &size):
        return None
    if not cnp.PyArray_ISCARRAY_RO(x):
        dense = new_like(x)
        cnp.PyArray_CopyInto(dense, x)
        x = dense
    cdef cnp.ndarray result = new_array(ndim, shape, cnp.PyArray_TYPE(x))
    cdef double divisor = size.R * size.r if mean else 1
    cdef double us = cnp.PyArray_NBYTES(x) * US_PER_BYTE
    cdef void* y = cnp.PyArray_DATA(result)
    cdef void* data = cnp.PyArray_DATA(x)
    cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    if us < US_WORTH_THE_GIL:
        if single:
            sum_groups(<float*>y, <const float*>data, &size, divisor, us)
        else:
            sum_groups(<double*>y, <const double*>data, &size, divisor, us)
    else:
        with nogil:
            if single:
                sum_groups(<float*>y, <const float*>data, &size, divisor, us)
            else:
                sum_groups(<double*>y, <const double*>data, &size, divisor, us)
    return result


cdef inline bint summable(cnp.ndarray x) noexcept:
    cdef int typenum = cnp.PyArray_TYPE(x)
    return (typenum == cnp.NPY_FLOAT or typenum == cnp.NPY_DOUBLE) and cnp.PyArray_NDIM(x) <= DIMS


cdef object apply(reference, cnp.ndarray x, object dims, bint keepdim, bint mean):
    cdef bint reduced[DIMS]
    cdef cnp.npy_intp shape[DIMS]
    cdef int dim, ndim = 0
    cdef object result = None
    if summable(x):
        for dim in range(cnp.PyArray_NDIM(x)):
            reduced[dim] = dims is None
        if dims is not None:
            for dim in dims:
                if dim < cnp.PyArray_NDIM(x):
                    reduced[dim] = True
        for dim in range(cnp.PyArray_NDIM(x)):
            if keepdim or not reduced[dim]:
                shape[ndim] = 1 if reduced[dim] else cnp.PyArray_DIMS(x)[dim]
                ndim += 1
        result = reduce(x, reduced, mean, ndim, shape)
    return reference(x, dims, keepdim) if result is None else result


def sum(reference):
    """The fast version of ``sum(self, x, dims, keepdim)``."""

    def method(cnp.ndarray x not None, dims, bint keepdim):
        return apply(reference, x, dims, keepdim, False)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def mean(reference):
    """The fast version of ``mean(self, x, dims, keepdim)``."""

    def method(cnp.ndarray x not None, dims, bint keepdim):
        return apply(reference, x, dims, keepdim, True)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def sum_to(reference):
    """The fast version of ``sum_to(self, x, shape)``."""

    def method(cnp.ndarray x not None, tuple shape not None):
        cdef bint reduced[DIMS]
        cdef cnp.npy_intp sizes[DIMS]
        cdef int dim, ndim = len(shape), lead = cnp.PyArray_NDIM(x) - ndim
        cdef object result = None
        if summable(x) and lead >= 0:
            for dim in range(cnp.PyArray_NDIM(x)):
                reduced[dim] = dim < lead
            for dim in range(ndim):
                sizes[dim] = shape[dim]
                reduced[lead + dim] = sizes[dim] == 1
            result = reduce(x, reduced, False, ndim, sizes)
        return reference(x, shape) if result is None else result

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def linear_backward_bias(reference):
    """grad_output (..., out) -> (out,)"""

    def method(cnp.ndarray grad_output not None):
        cdef bint reduced[DIMS]
        cdef int dim, last = cnp.PyArray_NDIM(grad_output) - 1
        cdef object result = None
        if summable(grad_output) and last >= 0:
            for dim in range(last):
                reduced[dim] = True
            reduced[last] = False
            result = reduce(grad_output, reduced, False, 1, &cnp.PyArray_DIMS(grad_output)[last])
        return reference(grad_output) if result is None else result

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method
