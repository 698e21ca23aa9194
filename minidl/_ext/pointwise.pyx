"""Elementwise kernels: NumPy's vectorised inner loops and a few of our own, behind a thin and cheap front.

A NumPy ufunc keeps one C loop per dtype (``ufunc->functions``), chosen at import for the instruction set at
hand.  Those loops are as fast as any, but the machinery before them (type resolution, iterator, error state)
costs 1 to 3 us per call.  Here they are called directly: contiguous arguments in one go, others along the
longest run that broadcasting and strides leave, into memory of the caching allocator, over several threads
where the work is worth it.  The operations that NumPy lacks have loops of the same form below.

``unary(reference)`` and ``binary(reference)`` make the fast version of a method of the reference device; what
they cannot do (an unusual dtype, shapes that do not broadcast) is left to that method, which also knows the
errors.  Floating-point exceptions are never looked at, so nothing warns.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.float cimport PyFloat_AsDouble
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cython.parallel cimport prange
from libc.string cimport memcpy, memmove, memset, strcmp

from minidl._ext.storage cimport new_array, new_like
from minidl._ext.threads cimport team

cnp.import_array()
cnp.import_ufunc()

cdef extern from *:
    """
    #include <stddef.h>
    #include <string.h>

    typedef void (*inner_loop)(char **, npy_intp *, npy_intp *, void *);

    /* name_f32 and name_f64: y[i] = expression of a (= x[i]), in NumPy's form of a loop.
       The contiguous case stands apart so that the compiler vectorises it. */
    #define UNARY_LOOP(name, type, expression)                                                              \\
        static void name(char **args, npy_intp *count, npy_intp *steps, void *data) {                       \\
            const npy_intp n = count[0], step_x = steps[0], step_y = steps[1];                              \\
            if (step_x == sizeof(type) && step_y == sizeof(type)) {                                         \\
                const type *x = (const type *)args[0]; type *y = (type *)args[1];                           \\
                for (npy_intp i = 0; i < n; i++) { const type a = x[i]; y[i] = expression; }                \\
                return;                                                                                     \\
            }                                                                                               \\
            for (npy_intp i = 0; i < n; i++) {                                                              \\
                const type a = *(const type *)(args[0] + i * step_x);                                       \\
                *(type *)(args[1] + i * step_y) = expression;                                               \\
            }                                                                                               \\
        }
    #define UNARY(name, expression)                                                                         \\
        UNARY_LOOP(name##_f32, float, expression) UNARY_LOOP(name##_f64, double, expression)

    #define BINARY_LOOP(name, type, expression)                                                             \\
        static void name(char **args, npy_intp *count, npy_intp *steps, void *data) {                       \\
            const npy_intp n = count[0], step_x = steps[0], step_y = steps[1], step_z = steps[2];           \\
            if (step_x == sizeof(type) && step_y == sizeof(type) && step_z == sizeof(type)) {               \\
                const type *x = (const type *)args[0], *y = (const type *)args[1]; type *z = (type *)args[2]; \\
                for (npy_intp i = 0; i < n; i++) { const type a = x[i], b = y[i]; z[i] = expression; }      \\
                return;                                                                                     \\
            }                                                                                               \\
            for (npy_intp i = 0; i < n; i++) {                                                              \\
                const type a = *(const type *)(args[0] + i * step_x), b = *(const type *)(args[1] + i * step_y); \\
                *(type *)(args[2] + i * step_z) = expression;                                               \\
            }                                                                                               \\
        }
    #define BINARY(name, expression)                                                                        \\
        BINARY_LOOP(name##_f32, float, expression) BINARY_LOOP(name##_f64, double, expression)

    UNARY(relu, a < 0 ? 0 : a)                       /* NaN < 0 is false: NaN stays NaN */
    BINARY(relu_backward, b <= 0 ? 0 : a)            /* a = grad_output, b = output */
    BINARY(tanh_backward, a * (1 - b * b))
    BINARY(sigmoid_backward, a * ((1 - b) * b))
    UNARY(sign, (a > 0) - (a < 0))                   /* 0 for NaN, as in PyTorch */
    UNARY(one_over_one_plus, 1 / (1 + a))

    static const struct { const char *name; inner_loop f32, f64; } own_loops[] = {
        {"relu", relu_f32, relu_f64},
        {"sign", sign_f32, sign_f64},
        {"relu_backward", relu_backward_f32, relu_backward_f64},
        {"tanh_backward", tanh_backward_f32, tanh_backward_f64},
        {"sigmoid_backward", sigmoid_backward_f32, sigmoid_backward_f64},
    };
    #define OWN_LOOPS (int)(sizeof(own_loops) / sizeof(own_loops[0]))

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
    ctypedef void (*inner_loop)(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    struct OwnLoop:
        const char* name
        inner_loop f32
        inner_loop f64
    OwnLoop own_loops[1]
    int OWN_LOOPS
    void one_over_one_plus_f32(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void one_over_one_plus_f64(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void where_1(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void where_2(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void where_4(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void where_8(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void fill(char* data, cnp.npy_intp n, int itemsize, const char* value) noexcept nogil

cdef enum:
    TYPES = 14              # the type numbers of NumPy's booleans, integers and real floats lie below
    OPERANDS = 4
    DIMS = 32
    NUMBER_BYTES = 8        # of the largest dtype that a Python number is stored as

cdef double US_PER_BYTE = 1e-4      # 10 GB/s
cdef double US_WORTH_THE_GIL = 5.0

cdef struct Loop:
    inner_loop function
    void* data
    int result              # type number

cdef struct Walk:
    # The operands, result last, over the dimensions that are left after runs were merged.
    int operands
    int ndim
    cnp.npy_intp shape[DIMS]
    cnp.npy_intp strides[OPERANDS][DIMS]
    char* data[OPERANDS]


cdef struct SigmoidSteps:
    Loop negative
    Loop exp
    inner_loop finish       # y -> 1 / (1 + y)
    cnp.npy_intp itemsize

cdef SigmoidSteps _sigmoid_steps[2]     # float32, float64


cdef void sigmoid_loop(char** args, cnp.npy_intp* count, cnp.npy_intp* steps, void* data) noexcept nogil:
    """1 / (1 + exp(-x)) in pieces that stay in the first-level cache; the result is contiguous."""
    cdef SigmoidSteps* step = <SigmoidSteps*>data
    cdef cnp.npy_intp first = 0, n
    cdef cnp.npy_intp x_to_y[2]
    cdef cnp.npy_intp y_to_y[2]
    cdef char* x_y[2]
    cdef char* y_y[2]
    x_to_y[0], x_to_y[1] = steps[0], step.itemsize
    y_to_y[0] = y_to_y[1] = step.itemsize
    while first < count[0]:
        n = min(count[0] - first, <cnp.npy_intp>1024)
        x_y[0] = args[0] + first * steps[0]
        x_y[1] = y_y[0] = y_y[1] = args[1] + first * step.itemsize
        step.negative.function(x_y, &n, x_to_y, step.negative.data)
        step.exp.function(y_y, &n, y_to_y, step.exp.data)
        step.finish(y_y, &n, y_to_y, NULL)
        first += n


@cython.final
cdef class Loops:
    """One operation: its inner loop for each dtype of input, its cost, and the method that does the rest."""
    cdef Loop of_type[TYPES]
    cdef double us_per_number
    cdef object reference

    def __cinit__(self, reference, double nanoseconds, bint floats_only, ufunc=None):
        self.reference = reference
        self.us_per_number = nanoseconds * 1e-3
        memset(self.of_type, 0, sizeof(self.of_type))
        cdef bytes name = reference.__name__.encode()
        cdef int i
        for i in range(OWN_LOOPS):
            if strcmp(own_loops[i].name, name) == 0:
                self.of_type[<int>cnp.NPY_FLOAT] = Loop(own_loops[i].f32, NULL, cnp.NPY_FLOAT)
                self.of_type[<int>cnp.NPY_DOUBLE] = Loop(own_loops[i].f64, NULL, cnp.NPY_DOUBLE)
                return
        self._borrow(ufunc or reference.ufunc, floats_only)

    cdef _borrow(self, cnp.ufunc ufunc, bint floats_only):
        """Take the loops of a ufunc whose inputs are all of one dtype; the first one counts, as in NumPy."""
        cdef int number, typenum, last
        cdef const char* types = <const char*>ufunc.types
        for number in range(ufunc.ntypes):
            typenum, last = types[0], types[ufunc.nargs - 1]
            if typenum < TYPES and types[ufunc.nin - 1] == typenum and self.of_type[typenum].function == NULL:
                if not floats_only or typenum == cnp.NPY_FLOAT or typenum == cnp.NPY_DOUBLE:
                    self.of_type[typenum] = Loop(<inner_loop><void*>ufunc.functions[number], ufunc.data[number], last)
            types += ufunc.nargs


cdef inline bint plain(cnp.ndarray x) noexcept:
    return cnp.PyArray_ISCARRAY_RO(x)


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int axis
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for axis in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[axis] != cnp.PyArray_DIMS(b)[axis]:
            return False
    return True


cdef inline bint usable(cnp.ndarray x) noexcept:
    return (cnp.PyArray_TYPE(x) < TYPES and cnp.PyArray_ISALIGNED(x) and cnp.PyArray_ISNOTSWAPPED(x)
            and cnp.PyArray_NDIM(x) <= DIMS)


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


cdef object apply_unary(Loops loops, cnp.ndarray x):
    cdef int typenum = cnp.PyArray_TYPE(x)
    if not usable(x) or loops.of_type[typenum].function == NULL:
        return loops.reference(x)
    cdef Loop* loop = &loops.of_type[typenum]
    cdef cnp.ndarray result = new_array(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), loop.result)
    cdef char* data[2]
    cdef cnp.npy_intp steps[2]
    cdef cnp.PyObject* arrays[2]
    cdef Walk walk
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(x)
    if n == 0:
        return result
    cdef double us = n * (2 * cnp.PyArray_ITEMSIZE(x) * US_PER_BYTE + loops.us_per_number)
    data[0], data[1] = cnp.PyArray_BYTES(x), cnp.PyArray_BYTES(result)
    if plain(x):
        steps[0], steps[1] = cnp.PyArray_ITEMSIZE(x), cnp.PyArray_ITEMSIZE(result)
        run_flat(loop, 2, data, steps, n, us)
    else:
        arrays[0], arrays[1] = <cnp.PyObject*>x, <cnp.PyObject*>result
        plan(&walk, 2, arrays, data, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x))
        run_walk(loop, &walk, us)
    return result


cdef object apply_binary(Loops loops, object a, object b):
    """Arrays of one dtype, or an array and a Python number."""
    cdef cnp.PyObject* arrays[3]
    cdef char* data[3]
    cdef cnp.npy_intp steps[3]
    cdef cnp.npy_intp shape[DIMS]
    cdef char number[NUMBER_BYTES]
    cdef Walk walk
    cdef cnp.ndarray first, result
    cdef Loop* loop
    cdef bint flat
    cdef int typenum, k, ndim
    arrays[0] = <cnp.PyObject*>a if isinstance(a, cnp.ndarray) else NULL
    arrays[1] = <cnp.PyObject*>b if isinstance(b, cnp.ndarray) else NULL
    if arrays[0] == NULL and arrays[1] == NULL:
        return loops.reference(a, b)
    first = <cnp.ndarray>(arrays[0] if arrays[0] != NULL else arrays[1])
    typenum = cnp.PyArray_TYPE(first)
    if not usable(first) or loops.of_type[typenum].function == NULL:
        return loops.reference(a, b)
    loop = &loops.of_type[typenum]
    for k in range(2):
        steps[k] = cnp.PyArray_ITEMSIZE(first)
        if arrays[k] == NULL:
            # A comparison takes a number by its value: 300 is larger than every uint8.
            if not store_number(b if k else a, typenum, loop.result != typenum, number):
                return loops.reference(a, b)
            data[k] = number
            steps[k] = 0
        else:
            data[k] = cnp.PyArray_BYTES(<cnp.ndarray>arrays[k])
    if arrays[0] != NULL and arrays[1] != NULL:
        if cnp.PyArray_TYPE(<cnp.ndarray>b) != typenum or not usable(<cnp.ndarray>b):
            return loops.reference(a, b)
        flat = plain(<cnp.ndarray>a) and plain(<cnp.ndarray>b) and same_shape(<cnp.ndarray>a, <cnp.ndarray>b)
    else:
        flat = plain(first)
    if flat:
        result = new_array(cnp.PyArray_NDIM(first), cnp.PyArray_DIMS(first), loop.result)
    else:
        ndim = common_shape(2, arrays, shape)
        if ndim < 0:
            return loops.reference(a, b)
        result = new_array(ndim, shape, loop.result)
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(result)
    if n == 0:
        return result
    cdef double us = n * (3 * cnp.PyArray_ITEMSIZE(first) * US_PER_BYTE + loops.us_per_number)
    data[2] = cnp.PyArray_BYTES(result)
    if flat:
        steps[2] = cnp.PyArray_ITEMSIZE(result)
        run_flat(loop, 3, data, steps, n, us)
    else:
        arrays[2] = <cnp.PyObject*>result
        plan(&walk, 3, arrays, data, ndim, shape)
        run_walk(loop, &walk, us)
    return result


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


cdef object apply_in_place(Loops loops, cnp.ndarray destination, object source):
    """``destination = destination op source``; arguments that share memory in another way than whole are NumPy's."""
    cdef cnp.PyObject* arrays[3]
    cdef char* data[3]
    cdef cnp.npy_intp steps[3]
    cdef cnp.npy_intp shape[DIMS]
    cdef char number[NUMBER_BYTES]
    cdef Walk walk
    cdef int typenum = cnp.PyArray_TYPE(destination), k
    cdef bint flat = plain(destination)
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(destination)
    if (not usable(destination) or loops.of_type[typenum].function == NULL
            or not cnp.PyArray_ISWRITEABLE(destination)):
        return loops.reference(destination, source)
    cdef Loop* loop = &loops.of_type[typenum]
    for k in range(3):
        arrays[k] = <cnp.PyObject*>destination
        data[k] = cnp.PyArray_BYTES(destination)
        steps[k] = cnp.PyArray_ITEMSIZE(destination)
    if isinstance(source, cnp.ndarray):
        if cnp.PyArray_TYPE(<cnp.ndarray>source) != typenum or not usable(<cnp.ndarray>source):
            return loops.reference(destination, source)
        arrays[1] = <cnp.PyObject*>source
        data[1] = cnp.PyArray_BYTES(<cnp.ndarray>source)
        flat = flat and plain(<cnp.ndarray>source) and same_shape(destination, <cnp.ndarray>source)
        if not (flat and data[0] == data[1]) and not disjoint(destination, <cnp.ndarray>source):
            return loops.reference(destination, source)
    elif store_number(source, typenum, False, number):
        arrays[1] = NULL
        data[1] = number
        steps[1] = 0
    else:
        return loops.reference(destination, source)
    if n == 0:
        return None
    cdef double us = n * (3 * cnp.PyArray_ITEMSIZE(destination) * US_PER_BYTE + loops.us_per_number)
    if flat:
        run_flat(loop, 3, data, steps, n, us)
        return None
    cdef int ndim = common_shape(2, arrays, shape)
    if ndim != cnp.PyArray_NDIM(destination):
        return loops.reference(destination, source)
    for k in range(ndim):
        if shape[k] != cnp.PyArray_DIMS(destination)[k] or cnp.PyArray_STRIDES(destination)[k] == 0:
            return loops.reference(destination, source)
    plan(&walk, 3, arrays, data, ndim, shape)
    run_walk(loop, &walk, us)
    return None


def unary(reference, double nanoseconds=0.0, bint floats_only=False):
    """The fast version of ``reference(self, x)``; ``nanoseconds`` per number beyond the traffic to memory."""
    cdef Loops loops = Loops(reference, nanoseconds, floats_only)

    def method(cnp.ndarray x not None):
        return apply_unary(loops, x)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def binary(reference, double nanoseconds=0.0, bint floats_only=False):
    """The fast version of ``reference(self, a, b)``."""
    cdef Loops loops = Loops(reference, nanoseconds, floats_only)

    def method(a, b):
        return apply_binary(loops, a, b)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def backward(reference):
    """The fast version of ``reference(self, grad_output, output)``."""
    cdef Loops loops = Loops(reference, 0.0, False)

    def method(grad_output, output):
        return apply_binary(loops, grad_output, output)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def in_place(reference, ufunc):
    """The fast version of ``reference(self, destination, source)``: ``ufunc`` with its result in ``destination``."""
    cdef Loops loops = Loops(reference, 0.0, False, ufunc)

    def method(cnp.ndarray destination not None, source):
        return apply_in_place(loops, destination, source)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


def sigmoid(reference):
    """The fast version of ``sigmoid(self, x)``, made of NumPy's loops for -x and exp."""
    cdef Loops loops = Loops(reference, 2.0, True, np.exp)
    cdef Loops negative = Loops(reference, 0.0, True, np.negative)
    _sigmoid_steps[0] = SigmoidSteps(negative.of_type[<int>cnp.NPY_FLOAT], loops.of_type[<int>cnp.NPY_FLOAT],
                                     one_over_one_plus_f32, sizeof(float))
    _sigmoid_steps[1] = SigmoidSteps(negative.of_type[<int>cnp.NPY_DOUBLE], loops.of_type[<int>cnp.NPY_DOUBLE],
                                     one_over_one_plus_f64, sizeof(double))
    loops.of_type[<int>cnp.NPY_FLOAT] = Loop(sigmoid_loop, &_sigmoid_steps[0], cnp.NPY_FLOAT)
    loops.of_type[<int>cnp.NPY_DOUBLE] = Loop(sigmoid_loop, &_sigmoid_steps[1], cnp.NPY_DOUBLE)

    def method(cnp.ndarray x not None):
        return apply_unary(loops, x)

    method.__name__, method.__doc__ = reference.__name__, reference.__doc__
    return method


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


def copy_same_dtype(cnp.ndarray destination not None, cnp.ndarray source not None):
    """Write ``source`` into ``destination`` where both have one dtype and one shape; False where they have not."""
    if cnp.PyArray_TYPE(destination) != cnp.PyArray_TYPE(source) or not same_shape(destination, source):
        return False
    if plain(destination) and plain(source) and cnp.PyArray_ISWRITEABLE(destination):
        move_bytes(cnp.PyArray_BYTES(destination), cnp.PyArray_BYTES(source), cnp.PyArray_NBYTES(source))
        return True
    return False


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
