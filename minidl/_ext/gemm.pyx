"""Matrix products over BLAS: ``a @ b`` of any shapes, and the affine map of Linear with its gradients.

Here (m, n) = (m, k) @ (k, n).  A matrix whose rows or whose columns lie one after the other is handed to BLAS as
it is; only other layouts are copied.  BLAS runs on one thread: large products are cut along the longer side
of the result, batches by their matrices.

As in ``pointwise``, each function makes the fast version of a method of the reference device and leaves to that
method what it cannot do: integers, shapes that do not fit, sizes beyond BLAS's 32 bits.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.limits cimport INT_MAX
from libc.string cimport memcpy, memset

from minidl._ext.blas cimport gemm_f32, gemm_f64
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.storage cimport new_array, new_like
from minidl._ext.threads cimport team

cnp.import_array()

cdef extern from *:
    """
    #include "lanes.h"
    #include "few_rows.h"
    KERNEL_TABLES(few_rows)
    """
    Py_ssize_t MOST_FEW_ROWS
    struct few_rows:
        void (*forward)(float* output, const float* input, const float* weight, const float* bias, Py_ssize_t N,
                        Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t first, Py_ssize_t last) noexcept nogil
        void (*backward_input)(float* grad_input, const float* grad_output, const float* weight, Py_ssize_t N,
                               Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t first, Py_ssize_t last) noexcept nogil
        void (*backward_weight)(float* grad_weight, const float* grad_output, const float* input, Py_ssize_t N,
                                Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t first, Py_ssize_t last) noexcept nogil
    const few_rows* few_rows_for(int level) noexcept nogil

cdef enum:
    DIMS = 32
    SPLIT_FROM = 32         # rows or columns of a result that are worth cutting

cdef double US_PER_MULTIPLY_F32 = 2.0 / 60e3    # 60 GFLOP/s, half of what one core reaches at best
cdef double US_PER_MULTIPLY_F64 = 2.0 / 30e3
cdef double US_WORTH_THE_GIL = 5.0

cdef struct Matrix:
    # op(memory) (rows, columns): the matrix as it is used; ``trans`` where it lies in memory the other way round.
    char* data
    cnp.npy_intp rows
    cnp.npy_intp columns
    cnp.npy_intp ld
    bint trans


cdef inline bint real(cnp.ndarray x) noexcept:
    cdef int typenum = cnp.PyArray_TYPE(x)
    return ((typenum == cnp.NPY_FLOAT or typenum == cnp.NPY_DOUBLE) and cnp.PyArray_ISNOTSWAPPED(x)
            and cnp.PyArray_NDIM(x) <= DIMS and cnp.PyArray_NDIM(x) > 0)


cdef inline Matrix transposed(Matrix x) noexcept:
    return Matrix(x.data, x.columns, x.rows, x.ld, not x.trans)


cdef bint lay(Matrix* matrix, char* data, int itemsize, cnp.npy_intp rows, cnp.npy_intp columns,
              cnp.npy_intp row_stride, cnp.npy_intp column_stride) noexcept:
    """Describe strided memory to BLAS; 0 where neither its rows nor its columns are dense."""
    cdef cnp.npy_intp ld
    matrix.data, matrix.rows, matrix.columns = data, rows, columns
    if column_stride == itemsize or columns == 1:
        ld = columns if rows == 1 else row_stride // itemsize
        if ld >= columns and ld * itemsize == (row_stride if rows > 1 else ld * itemsize):
            matrix.ld, matrix.trans = ld, False
            return True
    if row_stride == itemsize or rows == 1:
        ld = rows if columns == 1 else column_stride // itemsize
        if ld >= rows and ld * itemsize == (column_stride if columns > 1 else ld * itemsize):
            matrix.ld, matrix.trans = ld, True
            return True
    return False


cdef cnp.ndarray dense(cnp.ndarray x):
    cdef cnp.ndarray result = new_like(x)
    cnp.PyArray_CopyInto(result, x)
    return result


cdef cnp.ndarray lay_rows(Matrix* matrix, cnp.ndarray x):
    """x (..., n) as a matrix (rows, n).  Returns what owns the memory: x, or a dense copy of it."""
    cdef int ndim = cnp.PyArray_NDIM(x), itemsize = cnp.PyArray_ITEMSIZE(x)
    cdef cnp.npy_intp n = cnp.PyArray_DIMS(x)[ndim - 1], rows = 1
    cdef int dim
    if ndim == 2 and cnp.PyArray_ISALIGNED(x):
        if lay(matrix, cnp.PyArray_BYTES(x), itemsize, cnp.PyArray_DIMS(x)[0], n,
               cnp.PyArray_STRIDES(x)[0], cnp.PyArray_STRIDES(x)[1]):
            return x
    if not cnp.PyArray_ISCARRAY_RO(x):
        x = dense(x)
    for dim in range(ndim - 1):
        rows *= cnp.PyArray_DIMS(x)[dim]
    matrix[0] = Matrix(cnp.PyArray_BYTES(x), rows, n, n, False)
    return x


cdef inline bint fits(Matrix* a, Matrix* b) noexcept:
    """Whether BLAS can count the sizes of a @ b."""
    return (a.rows <= INT_MAX and a.columns <= INT_MAX and b.columns <= INT_MAX
            and a.ld <= INT_MAX and b.ld <= INT_MAX)


cdef double cost(int typenum, double m, double n, double k) noexcept nogil:
    return m * n * k * (US_PER_MULTIPLY_F32 if typenum == cnp.NPY_FLOAT else US_PER_MULTIPLY_F64)


cdef void multiply(int typenum, Matrix a, Matrix b, bint accumulate, char* c) noexcept nogil:
    """c (m, n) = a (m, k) @ b (k, n), or += where ``accumulate``; c is dense.  On the calling thread."""
    cdef int m = <int>a.rows, n = <int>b.columns, k = <int>a.columns
    multiply_part(typenum, a, b, accumulate, c, 0, m, 0, n)


cdef void multiply_part(int typenum, Matrix a, Matrix b, bint accumulate, char* c,
                        cnp.npy_intp first_row, cnp.npy_intp rows, cnp.npy_intp first_column,
                        cnp.npy_intp columns) noexcept nogil:
    """Some rows and columns of the product."""
    cdef int itemsize = 4 if typenum == cnp.NPY_FLOAT else 8
    cdef cnp.npy_intp n = b.columns, row
    cdef char* start_a = a.data + first_row * itemsize * (1 if a.trans else a.ld)
    cdef char* start_b = b.data + first_column * itemsize * (b.ld if b.trans else 1)
    cdef char* start_c = c + (first_row * n + first_column) * itemsize
    if rows == 0 or columns == 0:
        return
    if a.columns == 0:
        if not accumulate:
            for row in range(rows):
                memset(start_c + row * n * itemsize, 0, columns * itemsize)
        return
    if typenum == cnp.NPY_FLOAT:
        gemm_f32(a.trans, b.trans, <int>rows, <int>columns, <int>a.columns, 1, <const float*>start_a, <int>a.ld,
                 <const float*>start_b, <int>b.ld, accumulate, <float*>start_c, <int>n)
    else:
        gemm_f64(a.trans, b.trans, <int>rows, <int>columns, <int>a.columns, 1, <const double*>start_a, <int>a.ld,
                 <const double*>start_b, <int>b.ld, accumulate, <double*>start_c, <int>n)


cdef void multiply_shared(int typenum, Matrix a, Matrix b, bint accumulate, char* c) noexcept:
    """As ``multiply``, cut along the longer side over the threads that the work deserves."""
    cdef double us = cost(typenum, a.rows, b.columns, a.columns)
    cdef int threads, part
    cdef cnp.npy_intp length, side = max(a.rows, b.columns)
    if us < US_WORTH_THE_GIL:
        multiply(typenum, a, b, accumulate, c)
        return
    with nogil:
        threads = team(us) if side >= SPLIT_FROM else 1
        if threads == 1:
            multiply(typenum, a, b, accumulate, c)
        else:
            length = (side + threads - 1) // threads + 15 & ~15
            for part in prange(threads, num_threads=threads, schedule="static"):
                if part * length < side:
                    if a.rows >= b.columns:
                        multiply_part(typenum, a, b, accumulate, c, part * length, min(length, side - part * length),
                                      0, b.columns)
                    else:
                        multiply_part(typenum, a, b, accumulate, c, 0, a.rows,
                                      part * length, min(length, side - part * length))


cdef enum FewRows:
    FORWARD
    BACKWARD_INPUT
    BACKWARD_WEIGHT

cdef double US_PER_FEW_ROWS_NUMBER = 1 / 16e3   # of the weight, read or written once for each four rows


cdef inline bint is_few_rows(int typenum, Matrix* x, Matrix* y) noexcept:
    """Whether the kernels of few_rows.h do these two arguments of a product; both have to be dense there."""
    return (typenum == cnp.NPY_FLOAT and x.rows <= MOST_FEW_ROWS and x.rows > 0 and not x.trans and not y.trans
            and x.ld == x.columns and y.ld == y.columns)


cdef void few_rows_shared(FewRows which, char* result, char* x, char* y, char* bias, cnp.npy_intp N, cnp.npy_intp n_in,
                          cnp.npy_intp n_out) noexcept:
    """A kernel of few_rows.h over the threads that the work deserves, cut along what it computes."""
    cdef double us = n_in * n_out * US_PER_FEW_ROWS_NUMBER * (1 if which == BACKWARD_WEIGHT else (N + 3) // 4)
    cdef int threads, part
    cdef cnp.npy_intp length, side = n_in if which == BACKWARD_INPUT else n_out
    if us < US_WORTH_THE_GIL:
        few_rows_part(which, result, x, y, bias, N, n_in, n_out, 0, side)
        return
    with nogil:
        threads = team(us)
        length = (side + threads - 1) // threads + 63 & ~63
        if threads == 1 or length >= side:
            few_rows_part(which, result, x, y, bias, N, n_in, n_out, 0, side)
        else:
            for part in prange(threads, num_threads=threads, schedule="static"):
                few_rows_part(which, result, x, y, bias, N, n_in, n_out, min(part * length, side),
                              min((part + 1) * length, side))


cdef void few_rows_part(FewRows which, char* result, char* x, char* y, char* bias, cnp.npy_intp N, cnp.npy_intp n_in,
                        cnp.npy_intp n_out, cnp.npy_intp first, cnp.npy_intp last) noexcept nogil:
    cdef const few_rows* kernels = few_rows_for(isa_level())
    if which == FORWARD:
        kernels.forward(<float*>result, <const float*>x, <const float*>y, <const float*>bias, N, n_in, n_out, first,
                        last)
    elif which == BACKWARD_INPUT:
        kernels.backward_input(<float*>result, <const float*>x, <const float*>y, N, n_in, n_out, first, last)
    else:
        kernels.backward_weight(<float*>result, <const float*>x, <const float*>y, N, n_in, n_out, first, last)


cdef cnp.ndarray rows_result(cnp.ndarray x, cnp.npy_intp columns):
    """A fresh array with the shape of x (..., n), but with ``columns`` in the last place."""
    cdef cnp.npy_intp shape[DIMS]
    cdef int ndim = cnp.PyArray_NDIM(x)
    memcpy(shape, cnp.PyArray_DIMS(x), ndim * sizeof(cnp.npy_intp))
    shape[ndim - 1] = columns
    return new_array(ndim, shape, cnp.PyArray_TYPE(x))


cdef object apply_linear(reference, cnp.ndarray input, cnp.ndarray weight, object bias):
    cdef Matrix x, w
    cdef int typenum = cnp.PyArray_TYPE(input), itemsize
    cdef cnp.npy_intp row
    cdef cnp.ndarray offset = None
    cdef char* c
    if not (real(input) and cnp.PyArray_TYPE(weight) == typenum and real(weight) and cnp.PyArray_NDIM(weight) == 2
            and cnp.PyArray_DIMS(input)[cnp.PyArray_NDIM(input) - 1] == cnp.PyArray_DIMS(weight)[1]):
        return reference(input, weight, bias)
    if bias is not None:
        offset = bias
        if (cnp.PyArray_TYPE(offset) != typenum or cnp.PyArray_NDIM(offset) != 1
                or cnp.PyArray_DIMS(offset)[0] != cnp.PyArray_DIMS(weight)[0]):
            return reference(input, weight, bias)
        if not cnp.PyArray_ISCARRAY_RO(offset):
            offset = dense(offset)
    input = lay_rows(&x, input)
    weight = lay_rows(&w, weight)
    cdef cnp.ndarray output = rows_result(input, w.rows)
    c = cnp.PyArray_BYTES(output)
    if is_few_rows(typenum, &x, &w):
        few_rows_shared(FORWARD, c, x.data, w.data, NULL if offset is None else cnp.PyArray_BYTES(offset), x.rows,
                        w.columns, w.rows)
        return output
    w = transposed(w)
    if not fits(&x, &w):
        return reference(input, weight, bias)
    if offset is not None:
        itemsize = cnp.PyArray_ITEMSIZE(offset)
        for row in range(x.rows):
            memcpy(c + row * w.columns * itemsize, cnp.PyArray_DATA(offset), w.columns * itemsize)
    multiply_shared(typenum, x, w, offset is not None, c)
    return output


def linear(reference):
    """input (..., in), weight (out, in), bias (out,) or None -> (..., out)"""

    def method(cnp.ndarray input not None, cnp.ndarray weight not None, bias):
        return apply_linear(reference, input, weight, bias)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def linear_backward_input(reference):
    """grad_output (..., out), weight (out, in) -> (..., in)"""

    def method(cnp.ndarray grad_output not None, cnp.ndarray weight not None):
        cdef Matrix g, w
        cdef cnp.ndarray grad_input
        if (cnp.PyArray_TYPE(grad_output) != cnp.PyArray_TYPE(weight) or not real(grad_output) or not real(weight)
                or cnp.PyArray_NDIM(weight) != 2):
            return reference(grad_output, weight)
        grad_output = lay_rows(&g, grad_output)
        weight = lay_rows(&w, weight)
        if g.columns != w.rows or not fits(&g, &w):
            return reference(grad_output, weight)
        grad_input = rows_result(grad_output, w.columns)
        if is_few_rows(cnp.PyArray_TYPE(weight), &g, &w):
            few_rows_shared(BACKWARD_INPUT, cnp.PyArray_BYTES(grad_input), g.data, w.data, NULL, g.rows, w.columns, w.rows)
            return grad_input
        multiply_shared(cnp.PyArray_TYPE(weight), g, w, False, cnp.PyArray_BYTES(grad_input))
        return grad_input

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def linear_backward_weight(reference):
    """grad_output (..., out), input (..., in) -> (out, in)"""

    def method(cnp.ndarray grad_output not None, cnp.ndarray input not None):
        cdef Matrix g, x
        cdef cnp.npy_intp shape[2]
        cdef cnp.ndarray grad_weight
        if cnp.PyArray_TYPE(grad_output) != cnp.PyArray_TYPE(input) or not real(grad_output) or not real(input):
            return reference(grad_output, input)
        grad_output = lay_rows(&g, grad_output)
        input = lay_rows(&x, input)
        if g.rows != x.rows or not fits(&g, &x):
            return reference(grad_output, input)
        shape[0], shape[1] = g.columns, x.columns
        grad_weight = new_array(2, shape, cnp.PyArray_TYPE(input))
        if is_few_rows(cnp.PyArray_TYPE(input), &g, &x):
            few_rows_shared(BACKWARD_WEIGHT, cnp.PyArray_BYTES(grad_weight), g.data, x.data, NULL, x.rows, x.columns,
                            g.columns)
            return grad_weight
        g = transposed(g)
        multiply_shared(cnp.PyArray_TYPE(input), g, x, False, cnp.PyArray_BYTES(grad_weight))
        return grad_weight

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


cdef cnp.ndarray lay_last(Matrix* matrix, cnp.ndarray x, bint column):
    """The last two dimensions of x as a matrix; a 1-D x is a column or a row.  Returns what owns the memory."""
    cdef int ndim = cnp.PyArray_NDIM(x), itemsize = cnp.PyArray_ITEMSIZE(x), attempt
    cdef cnp.npy_intp* shape
    cdef cnp.npy_intp* strides
    cdef bint done
    for attempt in range(2):
        shape, strides = cnp.PyArray_DIMS(x), cnp.PyArray_STRIDES(x)
        if not cnp.PyArray_ISALIGNED(x):
            done = False
        elif ndim == 1 and column:
            done = lay(matrix, cnp.PyArray_BYTES(x), itemsize, shape[0], 1, strides[0], 0)
        elif ndim == 1:
            done = lay(matrix, cnp.PyArray_BYTES(x), itemsize, 1, shape[0], 0, strides[0])
        else:
            done = lay(matrix, cnp.PyArray_BYTES(x), itemsize, shape[ndim - 2], shape[ndim - 1],
                       strides[ndim - 2], strides[ndim - 1])
        if done:
            break
        x = dense(x)
    return x


cdef void multiply_batch(int typenum, Matrix a, Matrix b, char* c, int ndim, cnp.npy_intp* shape,
                         cnp.npy_intp* strides_a, cnp.npy_intp* strides_b, cnp.npy_intp first,
                         cnp.npy_intp last) noexcept nogil:
    """The products ``first .. last - 1`` of a batch of ``shape``; strides in bytes, 0 where an argument repeats."""
    cdef int itemsize = 4 if typenum == cnp.NPY_FLOAT else 8, dim
    cdef cnp.npy_intp product, rest, place
    cdef Matrix one_a = a, one_b = b
    for product in range(first, last):
        one_a.data, one_b.data = a.data, b.data
        rest = product
        for dim in range(ndim - 1, -1, -1):
            place = rest % shape[dim]
            rest = rest // shape[dim]
            one_a.data += place * strides_a[dim]
            one_b.data += place * strides_b[dim]
        multiply(typenum, one_a, one_b, False, c + product * a.rows * b.columns * itemsize)


cdef object apply_matmul(reference, cnp.ndarray a, cnp.ndarray b):
    cdef Matrix x, y
    cdef cnp.npy_intp shape[DIMS]
    cdef cnp.npy_intp strides[2][DIMS]
    cdef int typenum = cnp.PyArray_TYPE(a), dim, ndim, batch_a, batch_b, lead, side, threads, part
    cdef cnp.npy_intp size, products = 1, length
    cdef cnp.ndarray array, result
    cdef double us
    if not (real(a) and real(b) and cnp.PyArray_TYPE(b) == typenum):
        return reference(a, b)
    a = lay_last(&x, a, False)
    b = lay_last(&y, b, True)
    if x.columns != y.rows:
        return reference(a, b)
    batch_a, batch_b = max(cnp.PyArray_NDIM(a) - 2, 0), max(cnp.PyArray_NDIM(b) - 2, 0)
    ndim = max(batch_a, batch_b)
    if ndim > DIMS - 2:
        return reference(a, b)
    for dim in range(ndim):
        shape[dim] = 1
        strides[0][dim] = strides[1][dim] = 0
    for side in range(2):
        array = b if side else a
        lead = ndim - (batch_b if side else batch_a)
        for dim in range(lead, ndim):
            size = cnp.PyArray_DIMS(array)[dim - lead]
            if size != 1:
                if shape[dim] != 1 and shape[dim] != size:
                    return reference(a, b)
                shape[dim] = size
                strides[side][dim] = cnp.PyArray_STRIDES(array)[dim - lead]
    for dim in range(ndim):
        products *= shape[dim]
    dim = ndim
    if cnp.PyArray_NDIM(a) > 1:
        shape[dim] = x.rows
        dim += 1
    if cnp.PyArray_NDIM(b) > 1:
        shape[dim] = y.columns
        dim += 1
    result = new_array(dim, shape, typenum)
    if cnp.PyArray_NDIM(b) <= 2 and batch_a > 0 and cnp.PyArray_ISCARRAY_RO(a):
        # One matrix for the whole batch: its matrices are rows of a single product.
        x = Matrix(cnp.PyArray_BYTES(a), products * x.rows, x.columns, x.columns, False)
        products = 1
    if not fits(&x, &y):
        return reference(a, b)
    if products == 1:
        multiply_shared(typenum, x, y, False, cnp.PyArray_BYTES(result))
        return result
    us = products * cost(typenum, x.rows, y.columns, x.columns)
    with nogil:
        threads = team(us)
        length = (products + threads - 1) // threads
        if threads == 1:
            multiply_batch(typenum, x, y, cnp.PyArray_BYTES(result), ndim, shape, strides[0], strides[1],
                           0, products)
        else:
            for part in prange(threads, num_threads=threads, schedule="static"):
                if part * length < products:
                    multiply_batch(typenum, x, y, cnp.PyArray_BYTES(result), ndim, shape, strides[0], strides[1],
                                   part * length, min((part + 1) * length, products))
    return result


def matmul(reference):
    """a (..., m, k) @ b (..., k, n) -> (..., m, n), with 1-D arguments and broadcast batches"""

    def method(cnp.ndarray a not None, cnp.ndarray b not None):
        return apply_matmul(reference, a, b)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method
