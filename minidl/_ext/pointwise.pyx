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
from libc.string cimport memset, strcmp

from minidl._ext.inner_loops cimport (
    DIMS, NUMBER_BYTES, TYPES, US_PER_BYTE, Loop, Walk, common_shape, disjoint, inner_loop, plain, plan, run_flat,
    run_walk, same_shape, store_number, usable,
)
from minidl._ext.storage cimport new_array

cnp.import_array()
cnp.import_ufunc()

# From NumPy's header, which has kept these fields; its .pxd has them in some releases only.
cdef extern from "numpy/ufuncobject.h":
    ctypedef struct PyUFuncObject:
        int nin
        int nargs
        int ntypes
        void** functions
        void** data
        const char* types

cdef extern from *:
    """
    #include <stddef.h>
    #include <string.h>

    typedef void (*own_loop)(char **, npy_intp *, npy_intp *, void *);

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

    static const struct { const char *name; own_loop f32, f64; } own_loops[] = {
        {"relu", relu_f32, relu_f64},
        {"sign", sign_f32, sign_f64},
        {"relu_backward", relu_backward_f32, relu_backward_f64},
        {"tanh_backward", tanh_backward_f32, tanh_backward_f64},
        {"sigmoid_backward", sigmoid_backward_f32, sigmoid_backward_f64},
    };
    #define OWN_LOOPS (int)(sizeof(own_loops) / sizeof(own_loops[0]))

    """
    struct OwnLoop:
        const char* name
        inner_loop f32
        inner_loop f64
    OwnLoop own_loops[1]
    int OWN_LOOPS
    void one_over_one_plus_f32(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil
    void one_over_one_plus_f64(char**, cnp.npy_intp*, cnp.npy_intp*, void*) noexcept nogil

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
        cdef PyUFuncObject* fields = <PyUFuncObject*>ufunc
        cdef const char* types = fields.types
        for number in range(fields.ntypes):
            typenum, last = types[0], types[fields.nargs - 1]
            if typenum < TYPES and types[fields.nin - 1] == typenum and self.of_type[typenum].function == NULL:
                if not floats_only or typenum == cnp.NPY_FLOAT or typenum == cnp.NPY_DOUBLE:
                    self.of_type[typenum] = Loop(<inner_loop>fields.functions[number], fields.data[number], last)
            types += fields.nargs


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
