"""Adaptive average pooling and its gradient for float32 and float64.  Threads share out planes."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from minidl._ext.arrays cimport both_float32, contiguous, new_planes
from minidl._ext.runs cimport real
from minidl._ext.threads cimport team

cnp.import_array()

cdef enum:
    SPEED = 300             # pixels per microsecond and thread, for the thread policy

cdef struct Span:           # pixels first ... < end
    Py_ssize_t first, end


cdef inline Span adaptive(Py_ssize_t window, Py_ssize_t size, Py_ssize_t windows) noexcept nogil:
    """From floor(window * size / windows) to ceil((window + 1) * size / windows)."""
    cdef Span span
    span.first = window * size // windows
    span.end = ((window + 1) * size + windows - 1) // windows
    return span


def adaptive_avg_pool2d_forward(cnp.ndarray input, Py_ssize_t OH, Py_ssize_t OW):
    """output (N, C, OH, OW): the means of OH x OW windows that cover input (N, C, H, W)."""
    cdef bint is_float32 = both_float32(input, input)
    input = contiguous(input)
    cdef cnp.npy_intp* shape = cnp.PyArray_DIMS(input)
    cdef cnp.ndarray output = new_planes(shape[0], shape[1], OH, OW, cnp.PyArray_TYPE(input))
    if is_float32:
        adaptive_forward(<float*>cnp.PyArray_DATA(output), <const float*>cnp.PyArray_DATA(input), shape[0] * shape[1],
                         shape[2], shape[3], OH, OW)
    else:
        adaptive_forward(<double*>cnp.PyArray_DATA(output), <const double*>cnp.PyArray_DATA(input),
                         shape[0] * shape[1], shape[2], shape[3], OH, OW)
    return output


cdef void adaptive_forward(real* output, const real* input, Py_ssize_t planes, Py_ssize_t H, Py_ssize_t W,
                           Py_ssize_t OH, Py_ssize_t OW) noexcept:
    cdef Py_ssize_t plane
    with nogil:
        for plane in prange(planes, num_threads=team(<double>planes * H * W / SPEED), schedule="static"):
            adaptive_plane(output + plane * OH * OW, input + plane * H * W, H, W, OH, OW)


cdef void adaptive_plane(real* out, const real* image, Py_ssize_t H, Py_ssize_t W, Py_ssize_t OH,
                         Py_ssize_t OW) noexcept nogil:
    cdef Py_ssize_t oh, ow, ih, iw
    cdef Span rows, cols
    cdef real sum
    for oh in range(OH):
        rows = adaptive(oh, H, OH)
        for ow in range(OW):
            cols = adaptive(ow, W, OW)
            sum = 0
            for ih in range(rows.first, rows.end):
                for iw in range(cols.first, cols.end):
                    sum += image[ih * W + iw]
            out[oh * OW + ow] = sum / ((rows.end - rows.first) * (cols.end - cols.first))


def adaptive_avg_pool2d_backward(cnp.ndarray grad_output, Py_ssize_t H, Py_ssize_t W):
    """grad_input (N, C, H, W): each window's gradient, shared equally by its pixels."""
    cdef bint is_float32 = both_float32(grad_output, grad_output)
    grad_output = contiguous(grad_output)
    cdef cnp.npy_intp* shape = cnp.PyArray_DIMS(grad_output)
    cdef cnp.ndarray grad_input = new_planes(shape[0], shape[1], H, W, cnp.PyArray_TYPE(grad_output))
    if is_float32:
        adaptive_backward(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output),
                          shape[0] * shape[1], H, W, shape[2], shape[3])
    else:
        adaptive_backward(<double*>cnp.PyArray_DATA(grad_input), <const double*>cnp.PyArray_DATA(grad_output),
                          shape[0] * shape[1], H, W, shape[2], shape[3])
    return grad_input


cdef void adaptive_backward(real* grad_input, const real* grad_output, Py_ssize_t planes, Py_ssize_t H, Py_ssize_t W,
                            Py_ssize_t OH, Py_ssize_t OW) noexcept:
    cdef Py_ssize_t plane
    with nogil:
        for plane in prange(planes, num_threads=team(<double>planes * H * W / SPEED), schedule="static"):
            unadaptive_plane(grad_input + plane * H * W, grad_output + plane * OH * OW, H, W, OH, OW)


cdef void unadaptive_plane(real* grad_image, const real* grad_out, Py_ssize_t H, Py_ssize_t W, Py_ssize_t OH,
                           Py_ssize_t OW) noexcept nogil:
    cdef Py_ssize_t oh, ow, ih, iw
    cdef Span rows, cols
    cdef real share
    memset(grad_image, 0, H * W * sizeof(real))
    for oh in range(OH):
        rows = adaptive(oh, H, OH)
        for ow in range(OW):
            cols = adaptive(ow, W, OW)
            share = grad_out[oh * OW + ow] / ((rows.end - rows.first) * (cols.end - cols.first))
            for ih in range(rows.first, rows.end):
                for iw in range(cols.first, cols.end):
                    grad_image[ih * W + iw] += share
