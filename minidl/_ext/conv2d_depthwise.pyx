"""Depthwise convolution (one input channel per group): loops over rows, no im2col.

With one input channel a matrix product would have one column per tap and leave most of its registers empty.  Here
each tap adds a whole shifted row at once.  M = OC / C output channels look at the same input channel.  A thread
works on whole planes, so nothing is shared and every sum has a fixed order.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from minidl._ext.geometry cimport Conv2d
from minidl._ext.runs cimport dot_run, real, scaled_add_run
from minidl._ext.threads cimport team

cdef enum:
    SPEED = 3000        # multiply-adds per microsecond and thread, for the thread policy

cdef struct Span:       # the output columns whose tap kw lies inside the input, and where the first of them looks
    Py_ssize_t ow, count, iw


cdef inline Span columns_inside(Py_ssize_t kw, const Conv2d* g) noexcept nogil:
    cdef Span span
    cdef Py_ssize_t offset = kw * g.dilation_w - g.pad_left
    cdef Py_ssize_t last = g.W - 1 - offset                         # ow * stride_w may be 0 ... last
    span.ow = (-offset + g.stride_w - 1) // g.stride_w if offset < 0 else 0
    span.count = max(min(last // g.stride_w + 1, g.OW) - span.ow, 0) if last >= 0 else 0
    span.iw = span.ow * g.stride_w + offset
    return span


cdef inline double work(const Conv2d* g) noexcept nogil:
    return <double>g.N * g.OC * g.OH * g.OW * g.KH * g.KW / SPEED


cdef void depthwise_forward(real* output, const real* input, const real* weight, const real* bias,
                            const Conv2d* g) noexcept nogil:
    # output (N, C, M, OH, OW)   input (N, C, H, W)   weight (C, M, KH, KW)   bias (C, M) or NULL
    cdef Py_ssize_t M = g.OC // g.C, item
    for item in prange(g.N * g.OC, num_threads=team(work(g)), schedule="static"):
        forward_plane(output + item * g.OH * g.OW, input + item // M * g.H * g.W,
                      weight + item % g.OC * g.KH * g.KW, bias[item % g.OC] if bias != NULL else <real>0, g)


cdef void forward_plane(real* out, const real* plane, const real* weight, real bias, const Conv2d* g) noexcept nogil:
    cdef Py_ssize_t kh, kw, oh, ow, ih
    cdef Span span
    for oh in range(g.OH):
        for ow in range(g.OW):
            out[ow] = bias
        for kh in range(g.KH):
            ih = oh * g.stride_h + kh * g.dilation_h - g.pad_top
            if ih < 0 or ih >= g.H:
                continue
            for kw in range(g.KW):
                span = columns_inside(kw, g)
                scaled_add_run(out + span.ow, 1, plane + ih * g.W + span.iw, g.stride_w, weight[kh * g.KW + kw],
                               span.count)
        out += g.OW


cdef void depthwise_backward_input(real* grad_input, const real* grad_output, const real* weight,
                                   const Conv2d* g) noexcept nogil:
    # grad_input (N, C, H, W)   grad_output (N, C, M, OH, OW)   weight (C, M, KH, KW)
    cdef Py_ssize_t M = g.OC // g.C, item
    for item in prange(g.N * g.C, num_threads=team(work(g)), schedule="static"):
        backward_input_plane(grad_input + item * g.H * g.W, grad_output + item * M * g.OH * g.OW,
                             weight + item % g.C * M * g.KH * g.KW, M, g)


cdef void backward_input_plane(real* grad_plane, const real* grad_out, const real* weight, Py_ssize_t M,
                               const Conv2d* g) noexcept nogil:
    cdef Py_ssize_t m, kh, kw, oh, ih
    cdef Span span
    memset(grad_plane, 0, g.H * g.W * sizeof(real))
    for m in range(M):
        for oh in range(g.OH):
            for kh in range(g.KH):
                ih = oh * g.stride_h + kh * g.dilation_h - g.pad_top
                if ih < 0 or ih >= g.H:
                    continue
                for kw in range(g.KW):
                    span = columns_inside(kw, g)
                    scaled_add_run(grad_plane + ih * g.W + span.iw, g.stride_w, grad_out + span.ow, 1,
                                   weight[kh * g.KW + kw], span.count)
            grad_out += g.OW
        weight += g.KH * g.KW


cdef void depthwise_backward_weight(real* grad_weight, const real* grad_output, const real* input,
                                    const Conv2d* g) noexcept nogil:
    # grad_weight (C, M, KH, KW)   grad_output (N, C, M, OH, OW)   input (N, C, H, W)
    cdef Py_ssize_t M = g.OC // g.C, oc
    for oc in prange(g.OC, num_threads=team(work(g)), schedule="static"):
        backward_weight_channel(grad_weight + oc * g.KH * g.KW, grad_output + oc * g.OH * g.OW,
                                input + oc // M * g.H * g.W, g)


cdef void backward_weight_channel(real* grad_weight, const real* grad_out, const real* plane,
                                  const Conv2d* g) noexcept nogil:
    # grad_out and plane are those of the first image; the next image's follow OC and C planes later
    cdef Py_ssize_t n, kh, kw, oh, ih
    cdef Span span
    memset(grad_weight, 0, g.KH * g.KW * sizeof(real))
    for n in range(g.N):
        for oh in range(g.OH):
            for kh in range(g.KH):
                ih = oh * g.stride_h + kh * g.dilation_h - g.pad_top
                if ih < 0 or ih >= g.H:
                    continue
                for kw in range(g.KW):
                    span = columns_inside(kw, g)
                    grad_weight[kh * g.KW + kw] += dot_run(grad_out + oh * g.OW + span.ow, plane + ih * g.W + span.iw,
                                                           g.stride_w, span.count)
        grad_out += g.OC * g.OH * g.OW
        plane += g.C * g.H * g.W
