"""Images kept as bytes, gathered into a batch of float32 numbers in one pass."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint8_t

from minidl._ext.instruction_set cimport isa_level
from minidl._ext.storage cimport new_array
from minidl._ext.threads cimport team

cnp.import_array()

cdef extern from *:
    """
    #include "lanes.h"
    #include "pixel_runs.h"
    KERNEL_TABLES(pixel_runs)
    """
    struct pixel_runs:
        void (*scale)(float* to, const uint8_t* start, float mean, float std, Py_ssize_t n) noexcept nogil
    const pixel_runs* pixel_runs_for(int level) noexcept nogil

cdef enum:
    DIMS = 64

cdef double MICROSECONDS = 0.00015      # for one number, on one thread


def gather_scaled(cnp.ndarray images not None, cnp.ndarray rows not None, float mean, float std):
    """images (N, ...) uint8, rows (n,) int64 -> (images[rows] / 255 - mean) / std, a fresh (n, ...) float32.

    Negative rows count from the end.  None where the arrays are not C-contiguous or of other dtypes.

    Raises ``IndexError`` for a row out of range.
    """
    cdef cnp.npy_intp shape[DIMS]
    cdef cnp.npy_intp count, size, each = 1, i
    cdef int dim, ndim = cnp.PyArray_NDIM(images), threads
    if (ndim < 1 or cnp.PyArray_NDIM(rows) != 1 or cnp.PyArray_TYPE(images) != cnp.NPY_UINT8
            or cnp.PyArray_TYPE(rows) != cnp.NPY_INT64 or not cnp.PyArray_IS_C_CONTIGUOUS(images)
            or not cnp.PyArray_ISCARRAY(rows)):
        return None
    count, size = cnp.PyArray_DIM(rows, 0), cnp.PyArray_DIM(images, 0)
    shape[0] = count
    for dim in range(1, ndim):
        shape[dim] = cnp.PyArray_DIM(images, dim)
        each *= shape[dim]
    cdef const cnp.int64_t* row = <const cnp.int64_t*>cnp.PyArray_DATA(rows)
    for i in range(count):
        if not -size <= row[i] < size:
            raise IndexError(f"index {row[i]} is out of bounds for axis 0 with size {size}")
    cdef cnp.ndarray batch = new_array(ndim, shape, cnp.NPY_FLOAT)
    cdef float* to = <float*>cnp.PyArray_DATA(batch)
    cdef const uint8_t* start = <const uint8_t*>cnp.PyArray_DATA(images)
    cdef const pixel_runs* kernels = pixel_runs_for(isa_level())
    with nogil:
        threads = team(count * each * MICROSECONDS)
        if threads == 1:
            for i in range(count):
                kernels.scale(to + i * each, start + (row[i] + size if row[i] < 0 else row[i]) * each, mean, std, each)
        else:
            for i in prange(count, num_threads=threads, schedule="static"):
                kernels.scale(to + i * each, start + (row[i] + size if row[i] < 0 else row[i]) * each, mean, std, each)
    return batch
