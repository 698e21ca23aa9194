"""A dilated convolution with stride 1 as one without dilation, on the phases of the image.

An output row meets input rows that are ``dilation`` apart, so rows and columns with the same remainder (a phase) see only
each other: dilation_h * dilation_w smaller images, each convolved as it is.  They are copied out with the padding that they
need, convolved as more images of a batch, and put back between each other (Shi et al. 2016, https://arxiv.org/abs/1609.05158,
call the way back a pixel shuffle).
"""

from cython.parallel cimport prange


cdef void split_phases(float* phases, const float* images, const Phases* p, int threads) noexcept nogil:
    # phases (N, dilation_h, dilation_w, C, PH, PW)   images (N, C, H, W)
    # Row j of phase a is row a - top + dilation_h * j of the image, or of the padding; columns are alike.
    cdef Py_ssize_t item
    if threads == 1:
        for item in range(p.N * p.C):
            split_plane(phases, images, p, item // p.C, item % p.C)
    else:
        for item in prange(p.N * p.C, num_threads=threads, schedule="static"):
            split_plane(phases, images, p, item // p.C, item % p.C)


cdef void split_plane(float* phases, const float* images, const Phases* p, Py_ssize_t n, Py_ssize_t c) noexcept nogil:
    cdef const float* image = images + (n * p.C + c) * p.H * p.W
    cdef const float* line
    cdef float* row
    cdef Py_ssize_t a, b, i, j, h, first, begin, end
    for a in range(p.dilation_h):
        for b in range(p.dilation_w):
            first = b - p.left
            begin = min(-(first // p.dilation_w) if first < 0 else 0, p.PW)     # the first column inside
            if first + begin * p.dilation_w < 0:
                begin += 1
            end = max(min((p.W - first + p.dilation_w - 1) // p.dilation_w, p.PW), begin)
            for j in range(p.PH):
                row = phases + ((((n * p.dilation_h + a) * p.dilation_w + b) * p.C + c) * p.PH + j) * p.PW
                h = a - p.top + p.dilation_h * j
                if h < 0 or h >= p.H:
                    for i in range(p.PW):
                        row[i] = 0
                    continue
                line = image + h * p.W + first
                for i in range(begin):
                    row[i] = 0
                for i in range(begin, end):
                    row[i] = line[i * p.dilation_w]
                for i in range(end, p.PW):
                    row[i] = 0


cdef void join_phases(float* images, const float* phases, const Phases* p, int threads) noexcept nogil:
    # images (N, C, H, W)   phases (N, dilation_h, dilation_w, C, PH, PW), rows and columns beyond the image left out
    cdef Py_ssize_t item
    if threads == 1:
        for item in range(p.N * p.C):
            join_plane(images, phases, p, item // p.C, item % p.C)
    else:
        for item in prange(p.N * p.C, num_threads=threads, schedule="static"):
            join_plane(images, phases, p, item // p.C, item % p.C)


cdef void join_plane(float* images, const float* phases, const Phases* p, Py_ssize_t n, Py_ssize_t c) noexcept nogil:
    cdef const float* row
    cdef float* line
    cdef Py_ssize_t h, b, i
    for h in range(p.H):
        line = images + ((n * p.C + c) * p.H + h) * p.W
        for b in range(min(p.dilation_w, p.W)):
            row = phases + ((((n * p.dilation_h + h % p.dilation_h) * p.dilation_w + b) * p.C + c) * p.PH
                            + h // p.dilation_h) * p.PW
            for i in range((p.W - b + p.dilation_w - 1) // p.dilation_w):
                line[b + i * p.dilation_w] = row[i]
