"""Running an inner loop over arrays: broadcasting, strides, Python numbers as operands, threads.

An inner loop has NumPy's form, ``loop(data, count, steps, extra)``: one pointer and one step in bytes for each
operand, the result last.  ``run_flat`` runs it once over contiguous arrays; ``plan`` and ``run_walk`` run it along
the longest runs that broadcast or strided arrays leave.
"""

cimport numpy as cnp
from cpython.float cimport PyFloat_AsDouble
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cython.parallel cimport prange

from minidl._ext.threads cimport team

cnp.import_array()

US_PER_BYTE = 1e-4          # 10 GB/s
US_WORTH_THE_GIL = 5.0


cdef int store_number(object value, int typenum, bint exact, char* number) except -1:
    """Write a Python number as the dtype ``typenum``; 0 where it is none, or not ``exact`` though asked."""
    cdef int overflow = 0
    cdef long long whole
    if typenum == cnp.NPY_FLOAT:
        if isinstance(value, (float, int)):
            (<float*>number)[0] = <float>PyFloat_AsDouble(value)
            return 1
    elif typenum == cnp.NPY_DOUBLE:
        if isinstance(value, (float, int)):
            (<double*>number)[0] = PyFloat_AsDouble(value)
            return 1
    elif typenum == cnp.NPY_BOOL:
        if isinstance(value, bool):
            number[0] = value is True
            return 1
    elif isinstance(value, int):
        whole = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return 0
        if typenum == cnp.NPY_INT64:
            (<cnp.int64_t*>number)[0] = whole
            return 1
        if typenum == cnp.NPY_INT32:
            (<cnp.int32_t*>number)[0] = <cnp.int32_t>whole
            return not exact or <cnp.int32_t>whole == whole
        if typenum == cnp.NPY_INT16:
            (<cnp.int16_t*>number)[0] = <cnp.int16_t>whole
            return not exact or <cnp.int16_t>whole == whole
        if typenum == cnp.NPY_INT8:
            (<cnp.int8_t*>number)[0] = <cnp.int8_t>whole
            return not exact or <cnp.int8_t>whole == whole
        if typenum == cnp.NPY_UINT8:
            (<cnp.uint8_t*>number)[0] = <cnp.uint8_t>whole
            return not exact or <cnp.uint8_t>whole == whole
    return 0


cdef void run_part(Loop* loop, int operands, char** data, cnp.npy_intp* steps, cnp.npy_intp first,
                   cnp.npy_intp n) noexcept nogil:
    cdef char* shifted[OPERANDS]
    cdef int k
    for k in range(operands):
        shifted[k] = data[k] + first * steps[k]
    loop.function(shifted, &n, steps, loop.data)


cdef void run_flat(Loop* loop, int operands, char** data, cnp.npy_intp* steps, cnp.npy_intp n, double us) noexcept:
    """One run of n numbers, in equal parts over the threads that ``us`` of work deserve."""
    cdef int threads, part
    cdef cnp.npy_intp length
    if us < US_WORTH_THE_GIL:
        loop.function(data, &n, steps, loop.data)
        return
    with nogil:
        threads = team(us)
        if threads == 1:
            loop.function(data, &n, steps, loop.data)
        else:
            length = (n + threads - 1) // threads + 63 & ~63
            for part in prange(threads, num_threads=threads, schedule="static"):
                if part * length < n:
                    run_part(loop, operands, data, steps, part * length, min(length, n - part * length))


cdef void walk_rows(Loop* loop, Walk* walk, cnp.npy_intp first, cnp.npy_intp last) noexcept nogil:
    """The runs ``first .. last - 1``, counted over all dimensions but the innermost."""
    cdef cnp.npy_intp place[DIMS]
    cdef cnp.npy_intp steps[OPERANDS]
    cdef char* data[OPERANDS]
    cdef int inner = walk.ndim - 1, k, dim
    cdef cnp.npy_intp rest = first, row
    for k in range(walk.operands):
        data[k] = walk.data[k]
        steps[k] = walk.strides[k][inner]
    for dim in range(inner - 1, -1, -1):
        place[dim] = rest % walk.shape[dim]
        rest = rest // walk.shape[dim]
        for k in range(walk.operands):
            data[k] += place[dim] * walk.strides[k][dim]
    for row in range(first, last):
        loop.function(data, &walk.shape[inner], steps, loop.data)
        for dim in range(inner - 1, -1, -1):
            place[dim] += 1
            for k in range(walk.operands):
                data[k] += walk.strides[k][dim]
            if place[dim] < walk.shape[dim]:
                break
            place[dim] = 0
            for k in range(walk.operands):
                data[k] -= walk.shape[dim] * walk.strides[k][dim]


cdef void run_walk(Loop* loop, Walk* walk, double us) noexcept:
    cdef cnp.npy_intp rows = 1, length
    cdef cnp.npy_intp steps[OPERANDS]
    cdef int dim, k, threads, part
    if walk.ndim == 1:
        for k in range(walk.operands):
            steps[k] = walk.strides[k][0]
        run_flat(loop, walk.operands, walk.data, steps, walk.shape[0], us)
        return
    for dim in range(walk.ndim - 1):
        rows *= walk.shape[dim]
    if us < US_WORTH_THE_GIL:
        walk_rows(loop, walk, 0, rows)
        return
    with nogil:
        threads = team(us)
        if threads == 1:
            walk_rows(loop, walk, 0, rows)
        else:
            length = (rows + threads - 1) // threads
            for part in prange(threads, num_threads=threads, schedule="static"):
                if part * length < rows:
                    walk_rows(loop, walk, part * length, min((part + 1) * length, rows))


cdef int common_shape(int operands, cnp.PyObject** arrays, cnp.npy_intp* shape) noexcept:
    """Broadcast shape of the arrays (NULL: a number) into ``shape``; its length, or -1 where there is none."""
    cdef int ndim = 0, k, dim, lead
    cdef cnp.npy_intp size
    cdef cnp.ndarray array
    for k in range(operands):
        if arrays[k] != NULL:
            ndim = max(ndim, cnp.PyArray_NDIM(<cnp.ndarray>arrays[k]))
    for dim in range(ndim):
        shape[dim] = 1
    for k in range(operands):
        if arrays[k] != NULL:
            array = <cnp.ndarray>arrays[k]
            lead = ndim - cnp.PyArray_NDIM(array)
            for dim in range(lead, ndim):
                size = cnp.PyArray_DIMS(array)[dim - lead]
                if size != 1:
                    if shape[dim] != 1 and shape[dim] != size:
                        return -1
                    shape[dim] = size
    return ndim


cdef void plan(Walk* walk, int operands, cnp.PyObject** arrays, char** data, int ndim, cnp.npy_intp* shape) noexcept:
    """Lay the operands (NULL: a number, stride 0) over ``shape`` and merge neighbouring dimensions into long runs."""
    cdef cnp.npy_intp strides[OPERANDS]
    cdef cnp.ndarray array
    cdef int k, dim, own, last
    cdef bint merge
    walk.operands = operands
    walk.ndim = 0
    for k in range(operands):
        walk.data[k] = data[k]
    for dim in range(ndim):
        if shape[dim] == 1:
            continue
        for k in range(operands):
            strides[k] = 0
            if arrays[k] != NULL:
                array = <cnp.ndarray>arrays[k]
                own = dim - (ndim - cnp.PyArray_NDIM(array))
                if own >= 0 and cnp.PyArray_DIMS(array)[own] != 1:
                    strides[k] = cnp.PyArray_STRIDES(array)[own]
        last = walk.ndim - 1
        merge = last >= 0
        if merge:
            for k in range(operands):
                merge = merge and walk.strides[k][last] == strides[k] * shape[dim]
        if merge:
            walk.shape[last] *= shape[dim]
        else:
            last += 1
            walk.ndim += 1
            walk.shape[last] = shape[dim]
        for k in range(operands):
            walk.strides[k][last] = strides[k]
    if walk.ndim == 0:
        walk.ndim = 1
        walk.shape[0] = 1
        for k in range(operands):
            walk.strides[k][0] = NUMBER_BYTES


cdef void extent(cnp.ndarray x, size_t* low, size_t* high) noexcept:
    """The addresses between which the numbers of x lie."""
    cdef int axis
    cdef cnp.npy_intp reach
    low[0] = high[0] = <size_t>cnp.PyArray_DATA(x)
    for axis in range(cnp.PyArray_NDIM(x)):
        reach = (cnp.PyArray_DIMS(x)[axis] - 1) * cnp.PyArray_STRIDES(x)[axis]
        if reach < 0:
            low[0] += reach
        else:
            high[0] += reach
    high[0] += cnp.PyArray_ITEMSIZE(x)


cdef bint disjoint(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef size_t low_a, high_a, low_b, high_b
    extent(a, &low_a, &high_a)
    extent(b, &low_b, &high_b)
    return high_a <= low_b or high_b <= low_a
