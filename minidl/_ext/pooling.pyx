"""Maximum, average and adaptive average pooling and their gradients for float32 and float64.

Threads share out planes (one image, one channel); a plane is computed by one thread, in one order.  Windows of 2x2
with stride 2 in float32 have loops of their own in windows.h; a caller may ask for the ``general`` loops instead
(tests compare them).
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.string cimport memset

from minidl._ext.arrays cimport both_float32, contiguous, new_planes
from minidl._ext.geometry cimport Pool2d, pool2d_fields
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.runs cimport real
from minidl._ext.threads cimport team

cnp.import_array()

cdef extern from *:
    """
    #include "lanes.h"
    #include "windows.h"
    KERNEL_TABLES(windows)
    """
    struct windows:
        void (*max_plane)(float* output, int* index, const float* input, Py_ssize_t W, Py_ssize_t OH,
                          Py_ssize_t OW) noexcept nogil
        void (*unmax_plane)(float* grad_input, const int* index, const float* grad_output, Py_ssize_t W, Py_ssize_t OH,
                            Py_ssize_t OW) noexcept nogil
        void (*sum_plane)(float* output, const float* input, Py_ssize_t W, Py_ssize_t OH, Py_ssize_t OW,
                          float factor) noexcept nogil
        void (*spread_plane)(float* grad_input, const float* grad_output, Py_ssize_t W, Py_ssize_t OH, Py_ssize_t OW,
                             float factor) noexcept nogil
    const windows* windows_for(int level) noexcept nogil

cdef enum:
    FAST_SPEED = 1500       # pixels per microsecond and thread, for the thread policy: the loops of windows.h,
    SPEED = 300             # and the loops here

cdef struct Span:           # the taps of a window that lie inside the input: pixels first, first + dilation ... < end
    Py_ssize_t first, end


cdef inline Span inside(Py_ssize_t window, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t kernel, Py_ssize_t dilation,
                        Py_ssize_t size) noexcept nogil:
    cdef Span span
    cdef Py_ssize_t start = window * stride - pad
    span.end = min(start + (kernel - 1) * dilation + 1, size)
    span.first = start + (-start + dilation - 1) // dilation * dilation if start < 0 else start
    return span


cdef inline bint is_2x2(const Pool2d* g) noexcept nogil:
    """Windows of 2x2, side by side, all of them inside the input."""
    return (g.KH == 2 and g.KW == 2 and g.stride_h == 2 and g.stride_w == 2 and g.dilation_h == 1
            and g.dilation_w == 1 and g.pad_h == 0 and g.pad_w == 0
            and 2 * g.OH <= g.H and 2 * g.OW <= g.W)


cdef inline bint covers_all(const Pool2d* g) noexcept nogil:
    """The 2x2 windows leave no pixel over."""
    return 2 * g.OH == g.H and 2 * g.OW == g.W


cdef inline int threads_for(const Pool2d* g, bint fast) noexcept nogil:
    return team(<double>g.N * g.C * g.H * g.W / (FAST_SPEED if fast else SPEED))


# ------------------------------------------------------------------------------------------------------------- maximum

def max_pool2d_forward(cnp.ndarray input, geometry, bint general=False):
    """output and indices (N, C, OH, OW): the maximum of each window of input (N, C, H, W), its place h * W + w."""
    cdef const Pool2d* g = pool2d_fields(geometry.packed)
    cdef bint is_float32 = both_float32(input, input)
    input = contiguous(input)
    cdef cnp.ndarray output = new_planes(g.N, g.C, g.OH, g.OW, cnp.PyArray_TYPE(input))
    cdef cnp.ndarray indices = new_planes(g.N, g.C, g.OH, g.OW, cnp.NPY_INT32)
    cdef int* places = int32_data(indices)
    if is_float32:
        max_forward(<float*>cnp.PyArray_DATA(output), places, <const float*>cnp.PyArray_DATA(input), g,
                    is_2x2(g) and not general)
    else:
        max_forward(<double*>cnp.PyArray_DATA(output), places, <const double*>cnp.PyArray_DATA(input), g, False)
    return output, indices


cdef inline int* int32_data(cnp.ndarray indices) except NULL:
    if cnp.PyArray_TYPE(indices) != cnp.NPY_INT32:
        raise TypeError(f"the indices of max_pool2d are int32, got {indices.dtype}")
    return <int*>cnp.PyArray_DATA(indices)


cdef void max_forward(real* output, int* indices, const real* input, const Pool2d* g, bint fast) noexcept:
    cdef Py_ssize_t planes = g.N * g.C
    cdef int thread, threads = threads_for(g, fast)
    with nogil:
        if threads == 1:
            max_planes(output, indices, input, g, fast, 0, planes)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                max_planes(output, indices, input, g, fast, planes * thread // threads,
                           planes * (thread + 1) // threads)


cdef void max_planes(real* output, int* indices, const real* input, const Pool2d* g, bint is_fast, Py_ssize_t first,
                     Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t plane, count = g.OH * g.OW
    cdef const windows* fast = windows_for(isa_level())
    for plane in range(first, last):
        if not is_fast:
            max_plane(output + plane * count, indices + plane * count, input + plane * g.H * g.W, g)
        elif real is float:
            fast.max_plane(output + plane * count, indices + plane * count, input + plane * g.H * g.W, g.W, g.OH, g.OW)

cdef void max_plane(real* out, int* index, const real* image, const Pool2d* g) noexcept nogil:
    cdef Py_ssize_t oh, ow, ih, iw, place
    cdef Span rows, cols
    cdef real best, value
    for oh in range(g.OH):
        rows = inside(oh, g.stride_h, g.pad_h, g.KH, g.dilation_h, g.H)
        for ow in range(g.OW):
            cols = inside(ow, g.stride_w, g.pad_w, g.KW, g.dilation_w, g.W)
            best = -INFINITY
            place = rows.first * g.W + cols.first if rows.first < rows.end and cols.first < cols.end else -1
            ih = rows.first
            while ih < rows.end:
                iw = cols.first
                while iw < cols.end:
                    value = image[ih * g.W + iw]
                    if value > best or value != value:
                        best = value
                        place = ih * g.W + iw
                    iw += g.dilation_w
                ih += g.dilation_h
            out[oh * g.OW + ow] = best
            index[oh * g.OW + ow] = <int>place


def max_pool2d_backward(cnp.ndarray grad_output, cnp.ndarray indices, geometry, bint general=False):
    """grad_input (N, C, H, W): each window's gradient where its maximum was."""
    cdef const Pool2d* g = pool2d_fields(geometry.packed)
    cdef bint is_float32 = both_float32(grad_output, grad_output)
    grad_output = contiguous(grad_output)
    indices = contiguous(indices)
    cdef const int* places = int32_data(indices)
    cdef cnp.ndarray grad_input = new_planes(g.N, g.C, g.H, g.W, cnp.PyArray_TYPE(grad_output))
    if is_float32:
        max_backward(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output), places, g,
                     is_2x2(g) and not general)
    else:
        max_backward(<double*>cnp.PyArray_DATA(grad_input), <const double*>cnp.PyArray_DATA(grad_output), places, g,
                     False)
    return grad_input


cdef void max_backward(real* grad_input, const real* grad_output, const int* indices, const Pool2d* g,
                       bint fast) noexcept:
    cdef Py_ssize_t planes = g.N * g.C
    cdef int thread, threads = threads_for(g, fast)
    with nogil:
        if threads == 1:
            unmax_planes(grad_input, grad_output, indices, g, fast, 0, planes)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                unmax_planes(grad_input, grad_output, indices, g, fast, planes * thread // threads,
                             planes * (thread + 1) // threads)


cdef void unmax_planes(real* grad_input, const real* grad_output, const int* indices, const Pool2d* g, bint is_fast,
                       Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t plane, count = g.OH * g.OW, i
    cdef const windows* fast = windows_for(isa_level())
    if not (is_fast and covers_all(g)):
        memset(grad_input + first * g.H * g.W, 0, (last - first) * g.H * g.W * sizeof(real))
    for plane in range(first, last):
        if not is_fast:
            for i in range(plane * count, (plane + 1) * count):
                if indices[i] >= 0:
                    grad_input[plane * g.H * g.W + indices[i]] += grad_output[i]
        elif real is float:
            fast.unmax_plane(grad_input + plane * g.H * g.W, indices + plane * count, grad_output + plane * count, g.W,
                             g.OH, g.OW)


def max_pool2d_gather(cnp.ndarray input, cnp.ndarray indices, geometry):
    """output (N, C, OH, OW): input (N, C, H, W) at the places that are the indices; zero where an index is -1."""
    cdef const Pool2d* g = pool2d_fields(geometry.packed)
    cdef bint is_float32 = both_float32(input, input)
    input = contiguous(input)
    indices = contiguous(indices)
    cdef const int* places = int32_data(indices)
    cdef cnp.ndarray output = new_planes(g.N, g.C, g.OH, g.OW, cnp.PyArray_TYPE(input))
    if is_float32:
        gather(<float*>cnp.PyArray_DATA(output), <const float*>cnp.PyArray_DATA(input), places, g)
    else:
        gather(<double*>cnp.PyArray_DATA(output), <const double*>cnp.PyArray_DATA(input), places, g)
    return output


cdef void gather(real* output, const real* input, const int* indices, const Pool2d* g) noexcept:
    cdef Py_ssize_t plane, count = g.OH * g.OW, i
    with nogil:
        for plane in prange(g.N * g.C, num_threads=team(<double>g.N * g.C * count / SPEED), schedule="static"):
            for i in range(plane * count, (plane + 1) * count):
                output[i] = input[plane * g.H * g.W + indices[i]] if indices[i] >= 0 else <real>0


# ------------------------------------------------------------------------------------------------------------- average

cdef inline double divisor(Py_ssize_t oh, Py_ssize_t ow, Span rows, Span cols, bint count_include_pad,
                           Py_ssize_t override, const Pool2d* g) noexcept nogil:
    """`override` unless it is 0, else the pixels of a window, counting the padding (but nothing beyond) or not."""
    cdef Py_ssize_t top, left
    if override != 0:
        return override
    if not count_include_pad:
        return (rows.end - rows.first) * (cols.end - cols.first)
    top = oh * g.stride_h - g.pad_h
    left = ow * g.stride_w - g.pad_w
    return (min(top + g.KH, g.H + g.pad_h) - top) * (min(left + g.KW, g.W + g.pad_w) - left)


def avg_pool2d_forward(cnp.ndarray input, geometry, bint count_include_pad, Py_ssize_t divisor_override,
                       bint general=False):
    """output (N, C, OH, OW): the mean of each window of input (N, C, H, W); divisor_override 0 means none."""
    cdef const Pool2d* g = pool2d_fields(geometry.packed)
    cdef bint is_float32 = both_float32(input, input)
    input = contiguous(input)
    cdef cnp.ndarray output = new_planes(g.N, g.C, g.OH, g.OW, cnp.PyArray_TYPE(input))
    if is_float32:
        avg_forward(<float*>cnp.PyArray_DATA(output), <const float*>cnp.PyArray_DATA(input), g, count_include_pad,
                    divisor_override, is_2x2(g) and not general)
    else:
        avg_forward(<double*>cnp.PyArray_DATA(output), <const double*>cnp.PyArray_DATA(input), g, count_include_pad,
                    divisor_override, False)
    return output


cdef void avg_forward(real* output, const real* input, const Pool2d* g, bint count_include_pad, Py_ssize_t override,
                      bint fast) noexcept:
    cdef Py_ssize_t planes = g.N * g.C
    cdef int thread, threads = threads_for(g, fast)
    with nogil:
        if threads == 1:
            avg_planes(output, input, g, count_include_pad, override, fast, 0, planes)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                avg_planes(output, input, g, count_include_pad, override, fast, planes * thread // threads,
                           planes * (thread + 1) // threads)


cdef void avg_planes(real* output, const real* input, const Pool2d* g, bint count_include_pad, Py_ssize_t override,
                     bint is_fast, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t plane, count = g.OH * g.OW
    cdef const windows* fast = windows_for(isa_level())
    cdef float factor = 1.0 / (override if override != 0 else 4)
    for plane in range(first, last):
        if not is_fast:
            avg_plane(output + plane * count, input + plane * g.H * g.W, g, count_include_pad, override)
        elif real is float:
            fast.sum_plane(output + plane * count, input + plane * g.H * g.W, g.W, g.OH, g.OW, factor)


cdef void avg_plane(real* out, const real* image, const Pool2d* g, bint count_include_pad,
                    Py_ssize_t override) noexcept nogil:
    cdef Py_ssize_t oh, ow, ih, iw
    cdef Span rows, cols
    cdef real sum
    for oh in range(g.OH):
        rows = inside(oh, g.stride_h, g.pad_h, g.KH, 1, g.H)
        for ow in range(g.OW):
            cols = inside(ow, g.stride_w, g.pad_w, g.KW, 1, g.W)
            sum = 0
            for ih in range(rows.first, rows.end):
                for iw in range(cols.first, cols.end):
                    sum += image[ih * g.W + iw]
            out[oh * g.OW + ow] = <real>(sum / divisor(oh, ow, rows, cols, count_include_pad, override, g))


def avg_pool2d_backward(cnp.ndarray grad_output, geometry, bint count_include_pad, Py_ssize_t divisor_override,
                        bint general=False):
    """grad_input (N, C, H, W): each window's gradient over its divisor, in all of its pixels."""
    cdef const Pool2d* g = pool2d_fields(geometry.packed)
    cdef bint is_float32 = both_float32(grad_output, grad_output)
    grad_output = contiguous(grad_output)
    cdef cnp.ndarray grad_input = new_planes(g.N, g.C, g.H, g.W, cnp.PyArray_TYPE(grad_output))
    if is_float32:
        avg_backward(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output), g,
                     count_include_pad, divisor_override, is_2x2(g) and not general)
    else:
        avg_backward(<double*>cnp.PyArray_DATA(grad_input), <const double*>cnp.PyArray_DATA(grad_output), g,
                     count_include_pad, divisor_override, False)
    return grad_input


cdef void avg_backward(real* grad_input, const real* grad_output, const Pool2d* g, bint count_include_pad,
                       Py_ssize_t override, bint fast) noexcept:
    cdef Py_ssize_t planes = g.N * g.C
    cdef int thread, threads = threads_for(g, fast)
    with nogil:
        if threads == 1:
            unavg_planes(grad_input, grad_output, g, count_include_pad, override, fast, 0, planes)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                unavg_planes(grad_input, grad_output, g, count_include_pad, override, fast,
                             planes * thread // threads, planes * (thread + 1) // threads)


cdef void unavg_planes(real* grad_input, const real* grad_output, const Pool2d* g, bint count_include_pad,
                       Py_ssize_t override, bint is_fast, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t plane, count = g.OH * g.OW
    cdef const windows* fast = windows_for(isa_level())
    cdef float factor = 1.0 / (override if override != 0 else 4)
    if not (is_fast and covers_all(g)):
        memset(grad_input + first * g.H * g.W, 0, (last - first) * g.H * g.W * sizeof(real))
    for plane in range(first, last):
        if not is_fast:
            unavg_plane(grad_input + plane * g.H * g.W, grad_output + plane * count, g, count_include_pad, override)
        elif real is float:
            fast.spread_plane(grad_input + plane * g.H * g.W, grad_output + plane * count, g.W, g.OH, g.OW, factor)


cdef void unavg_plane(real* grad_image, const real* grad_out, const Pool2d* g, bint count_include_pad,
                      Py_ssize_t override) noexcept nogil:
    cdef Py_ssize_t oh, ow, ih, iw
    cdef Span rows, cols
    cdef real share
    for oh in range(g.OH):
        rows = inside(oh, g.stride_h, g.pad_h, g.KH, 1, g.H)
        for ow in range(g.OW):
            cols = inside(ow, g.stride_w, g.pad_w, g.KW, 1, g.W)
            share = <real>(grad_out[oh * g.OW + ow] / divisor(oh, ow, rows, cols, count_include_pad, override, g))
            for ih in range(rows.first, rows.end):
                for iw in range(cols.first, cols.end):
                    grad_image[ih * g.W + iw] += share
