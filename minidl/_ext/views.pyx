"""Views of an array without Python in between, and the shapes and keys that they are asked for with.

``whole_shape`` and ``plain_key`` answer the frequent, right questions at once; for everything else they return None, and
the caller looks closer and finds the words for an error.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.slice cimport PySlice_Check

from minidl._ext.array_over cimport array_over

cnp.import_array()

cdef extern from "Python.h":
    ctypedef struct PySliceObject:
        PyObject* step

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArray_Dims:
        cnp.npy_intp* ptr
        int len
    cnp.ndarray PyArray_Newshape(cnp.ndarray array, PyArray_Dims* shape, cnp.NPY_ORDER order)
    cnp.ndarray PyArray_Transpose(cnp.ndarray array, PyArray_Dims* order)

cdef enum:
    DIMS = 64

cdef long long TOO_LARGE = 1LL << 48    # no size or index; products of it with a number of places stay in 64 bits


def strided(cnp.ndarray x not None, shape, strides, cnp.npy_intp offset):
    """The view of the memory of x with ``shape``, ``strides`` and ``offset`` in bytes.  Bounds are the caller's."""
    cdef cnp.npy_intp sizes[DIMS]
    cdef cnp.npy_intp steps[DIMS]
    cdef int dim, ndim = len(shape)
    if ndim > DIMS or len(strides) != ndim:
        raise ValueError(f"a view has one stride per size and at most {DIMS} of them, got {shape} and {strides}")
    for dim in range(ndim):
        sizes[dim], steps[dim] = shape[dim], strides[dim]
    cdef cnp.dtype descr = <cnp.dtype><object>cnp.PyArray_DESCR(x)
    cdef int flags = cnp.NPY_ARRAY_WRITEABLE if cnp.PyArray_ISWRITEABLE(x) else 0
    return array_over(x, cnp.PyArray_BYTES(x) + offset, descr, ndim, sizes, steps, flags)


cdef int places(object numbers, cnp.npy_intp* into) except -1:
    """Whole numbers from a sequence; how many."""
    cdef int count = 0
    for number in numbers:
        if count == DIMS:
            raise ValueError(f"an array has at most {DIMS} dimensions, got {len(numbers)}")
        into[count] = number
        count += 1
    return count


def reshape(cnp.ndarray x not None, shape):
    """x (any shape) in another one of as many numbers: a view where the strides allow it, otherwise a copy."""
    cdef cnp.npy_intp sizes[DIMS]
    cdef PyArray_Dims wanted
    wanted.ptr, wanted.len = sizes, places(shape, sizes)
    cdef cnp.npy_intp total = 1
    cdef int dim
    for dim in range(wanted.len):
        total = -1 if sizes[dim] < 0 or total < 0 else total * sizes[dim]
    if total != cnp.PyArray_SIZE(x):
        raise RuntimeError(f"reshape: shape {tuple(shape)} does not hold the {x.size} numbers of input of shape "
                           f"{tuple((<object>x).shape)}")
    return PyArray_Newshape(x, &wanted, cnp.NPY_CORDER)


def expand(cnp.ndarray x not None, shape):
    """The view of x in which sizes of one repeat with stride 0, and new dimensions stand in front; None: no such."""
    cdef cnp.npy_intp sizes[DIMS]
    cdef cnp.npy_intp steps[DIMS]
    cdef int dim, ndim = places(shape, sizes), lead = ndim - cnp.PyArray_NDIM(x)
    if lead < 0:
        return None
    for dim in range(ndim):
        steps[dim] = 0
        if dim >= lead:
            if cnp.PyArray_DIM(x, dim - lead) == sizes[dim]:
                steps[dim] = cnp.PyArray_STRIDE(x, dim - lead)
            elif cnp.PyArray_DIM(x, dim - lead) != 1:
                return None
    cdef int flags = cnp.NPY_ARRAY_WRITEABLE if cnp.PyArray_ISWRITEABLE(x) else 0
    return array_over(x, cnp.PyArray_BYTES(x), <cnp.dtype><object>cnp.PyArray_DESCR(x), ndim, sizes, steps, flags)


def permute(cnp.ndarray x not None, dims):
    """The view of x with its dimensions in the order ``dims``."""
    cdef cnp.npy_intp order[DIMS]
    cdef PyArray_Dims wanted
    wanted.ptr, wanted.len = order, places(dims, order)
    return PyArray_Transpose(x, &wanted)


def slice_view(x, tuple key not None):
    """The view ``x[key]`` for ints, slices, ``None`` and ``Ellipsis``; 0-d when nothing is left."""
    cdef bint open_ended = False
    for entry in key:
        if entry is Ellipsis:
            open_ended = True
        elif PySlice_Check(entry) and <object>(<PySliceObject*>entry).step is not None and entry.step <= 0:
            raise ValueError(f"slice: step must be greater than zero, got {entry.step}; use flip to reverse")
    return x[key if open_ended else key + (Ellipsis,)]


cdef inline long long small(object number) except? -2:
    """The value of a Python int, TOO_LARGE for one beyond it."""
    cdef int overflow = 0
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return TOO_LARGE if overflow or value > TOO_LARGE or value < -TOO_LARGE else value


def whole_shape(tuple given not None, Py_ssize_t total):
    """The shape of ``total`` numbers that Python ints, one by one or as one tuple or list, name; one may be -1.

    None where they are not that, or do not fit.
    """
    cdef object sizes = given
    cdef Py_ssize_t i, known = 1, open_at = -1
    cdef long long size
    if len(given) == 1 and not PyLong_CheckExact(given[0]):
        sizes = given[0]
        if not isinstance(sizes, (tuple, list)):
            return None
    for i in range(len(sizes)):
        if not PyLong_CheckExact(sizes[i]):
            return None
        size = small(sizes[i])
        if size == -1 and open_at < 0:
            open_at = i
        elif size < 0 or (known and size > TOO_LARGE // known):
            return None
        else:
            known *= size
    if open_at < 0:
        return None if known != total else sizes if type(sizes) is tuple else tuple(sizes)
    if known == 0 or total % known:
        return None
    cdef list whole = list(sizes)
    whole[open_at] = total // known
    return tuple(whole)


def plain_key(key, tuple shape not None):
    """A key of ints within bounds, slices, ``None`` and at most one ``Ellipsis`` as a tuple, for an array of ``shape``.

    None where the key is another one, or does not fit.
    """
    cdef tuple parts = key if type(key) is tuple else (key,)
    cdef Py_ssize_t ndim = len(shape), taken = 0, dim = 0
    cdef bint open_ended = False
    cdef object part, step
    cdef long long index, size
    for part in parts:
        if PyLong_CheckExact(part):
            taken += 1
        elif PySlice_Check(part):
            step = <object>(<PySliceObject*>part).step
            if step is not None and not (PyLong_CheckExact(step) and small(step) > 0):
                return None
            taken += 1
        elif part is Ellipsis:
            if open_ended:
                return None
            open_ended = True
        elif part is not None:
            return None
    if taken > ndim:
        return None
    for part in parts:
        if PyLong_CheckExact(part):
            index, size = small(part), shape[dim]
            if not -size <= index < size:
                return None
            dim += 1
        elif part is Ellipsis:
            dim += ndim - taken
        elif part is not None:
            dim += 1
    return parts
