"""Direct convolution of float32 images: no im2col, sums over a window that slides over the image.

The sums are made by the kernels of conv2d_direct_rows.c, with neighbours of a row in the lanes of a vector, or by those
of conv2d_direct_channels.c, with output channels in the lanes; conv2d_direct.h says what they compute.  Here is what
both need around them: the table of the taps' offsets, the cut into bands of rows that stay in the cache, and threads.

A thread takes a contiguous share of the bands of all images.  An output's sum is one chain over bias and taps, the same
whatever the band, the batch or the number of threads; a weight's gradient is added up per band, per thread, and then
over the threads in their order.

What conv2d_epilogue.c does may follow in the same pass: relu, or relu and 2x2 max pooling, where what is kept for the
way back is a byte per window (`codes`) and the convolution's output is never written.  Backward, each thread makes of
the pooled gradient and the codes the gradient of one image's output at a time.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from minidl._ext.arrays cimport scratch
from minidl._ext.conv2d_table cimport BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD
from minidl._ext.geometry cimport Conv2d
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.runs cimport sum_run
from minidl._ext.threads cimport team

cnp.import_array()

cdef extern from "conv2d_direct.h" nogil:
    enum:
        SLACK

    struct window:
        Py_ssize_t outputs, taps, cols, row_step, run
        const Py_ssize_t* offset

    struct weight_steps:
        Py_ssize_t output_step, channel_step, area

    struct staging:
        Py_ssize_t channels, H, W, top, left, rows, phases, pitch

    struct conv2d_direct:
        void (*stage)(float* to, const float* image, const staging* s) noexcept nogil
        Py_ssize_t (*packed_size)(const window* w) noexcept nogil
        Py_ssize_t (*sums_scratch)(const window* w, Py_ssize_t rows) noexcept nogil
        Py_ssize_t (*weight_scratch)(const window* w, Py_ssize_t rows) noexcept nogil
        void (*pack)(float* packed, const float* weight, const weight_steps* steps, const float* start,
                     const window* w) noexcept nogil
        void (*sums)(float* out, Py_ssize_t plane, const float* staged, const float* packed, float* scratch,
                     const window* w, Py_ssize_t rows) noexcept nogil
        Py_ssize_t (*total_size)(const window* w) noexcept nogil
        void (*weight_sums)(float* total, const float* grad, Py_ssize_t plane, const float* staged, float* scratch,
                            const window* w, Py_ssize_t rows) noexcept nogil
        void (*weight_result)(float* grad_weight, const float* total, const window* w) noexcept nogil

    struct conv2d_epilogue:
        void (*relu)(float* numbers, Py_ssize_t n) noexcept nogil
        void (*pool)(float* out, unsigned char* codes, Py_ssize_t out_plane, const float* planes, Py_ssize_t plane,
                     Py_ssize_t channels, Py_ssize_t rows, Py_ssize_t cols) noexcept nogil
        void (*unpool)(float* planes, const float* grad, const unsigned char* codes, Py_ssize_t channels,
                       Py_ssize_t H, Py_ssize_t W) noexcept nogil

    struct conv2d_direct_rows:
        conv2d_direct kernels

    struct conv2d_direct_channels:
        conv2d_direct kernels

    const conv2d_epilogue* conv2d_epilogue_for(int level) noexcept
    const conv2d_direct_rows* conv2d_direct_rows_for(int level) noexcept
    const conv2d_direct_channels* conv2d_direct_channels_for(int level) noexcept

cdef enum:
    BAND_BYTES = 256 * 1024     # of a staged band: half of a small second-level cache
    LANE_SPEED = 2500           # multiply-adds per microsecond, thread and lane, for the thread policy
    TURN_SUMS = 12              # taps for which the kernel computes as long as it turns results round, ...
    TURN_GRAD = 7               # ... and grad_output
    MOST_CHANNELS = 256 * 256   # products of input and output channels: beyond, a matrix product is faster
    FEW_CHANNELS = 64 * 64      # beyond, a matrix product is faster for 1x1

cdef double ROW_ENDS = 0.6      # vectors that the beginning and the end of a row cost in the weight's gradient

cdef struct Plan:               # how the work of one call is cut up
    const conv2d_direct* kernels
    const conv2d_epilogue* epilogue
    window w
    staging s
    Py_ssize_t N, rows          # images, rows of each of the results
    Py_ssize_t band, bands      # rows of a band, bands of an image
    Py_ssize_t stride, above    # the staged rows of a band that starts at row y begin at y * stride - above
    Py_ssize_t staged           # numbers
    int threads


cdef bint direct_fits_input(const Conv2d* g) noexcept nogil:
    """Whether the gradient of the input is a sum over a sliding window, too."""
    return g.stride_h == 1 and g.stride_w == 1


cdef Plan plan(bint channels, bint of_grad, const Conv2d* g) noexcept:
    """``of_grad``: the window slides over grad_output, with the taps turned round, else over the input."""
    cdef Plan p
    cdef int level = isa_level()
    cdef Py_ssize_t reach_h = g.dilation_h * (g.KH - 1), reach_w = g.dilation_w * (g.KW - 1), wanted
    p.kernels = &conv2d_direct_channels_for(level).kernels if channels else &conv2d_direct_rows_for(level).kernels
    p.epilogue = conv2d_epilogue_for(level)
    p.threads = team(<double>g.N * g.OC * g.OH * g.OW * g.C * g.KH * g.KW / (LANE_SPEED * (4 << level)))
    p.N = g.N
    if of_grad:
        p.w.outputs, p.s.channels, p.s.H, p.s.W = g.C, g.OC, g.OH, g.OW
        p.rows, p.w.cols = g.H, g.W
        p.stride, p.s.phases = 1, 1
        p.above, p.s.left = reach_h - g.pad_top, g.pad_left - reach_w
    else:
        p.w.outputs, p.s.channels, p.s.H, p.s.W = g.OC, g.C, g.H, g.W
        p.rows, p.w.cols = g.OH, g.OW
        p.stride, p.s.phases = g.stride_h, g.stride_w
        p.above, p.s.left = g.pad_top, -g.pad_left
    p.w.taps = p.s.channels * g.KH * g.KW
    p.w.run = g.KW if p.s.phases == 1 and g.dilation_w == 1 else 1
    p.s.pitch = p.w.cols + reach_w // p.s.phases
    p.w.row_step = p.stride * p.s.phases * p.s.pitch

    wanted = p.threads if p.N % p.threads and p.N < 8 * p.threads else 1
    p.band = even((p.rows + wanted - 1) // wanted)
    while p.band > 2 and staged_size(&p, reach_h) * <Py_ssize_t>sizeof(float) > BAND_BYTES:
        p.band = even((p.band + 1) // 2)
    p.bands = (p.rows + p.band - 1) // p.band
    p.staged = staged_size(&p, reach_h) + SLACK
    p.s.rows = (p.band - 1) * p.stride + reach_h + 1
    return p


cdef inline Py_ssize_t even(Py_ssize_t rows) noexcept nogil:
    """No band cuts a window of 2x2 pooling in two."""
    return (rows + 1) // 2 * 2


cdef Py_ssize_t staged_size(const Plan* p, Py_ssize_t reach_h) noexcept nogil:
    return p.s.channels * ((p.band - 1) * p.stride + reach_h + 1) * p.s.phases * p.s.pitch


cdef void fill_offsets(Py_ssize_t* offset, Plan* p, bint of_grad, const Conv2d* g) noexcept nogil:
    cdef Py_ssize_t c, kh, kw, x, col
    p.w.offset = offset
    for kw in range(g.KW):
        x = (g.KW - 1 - kw if of_grad else kw) * g.dilation_w
        col = x % p.s.phases * p.s.pitch + x // p.s.phases
        for c in range(p.s.channels):
            for kh in range(g.KH):
                offset[(c * g.KH + kh) * g.KW + kw] = col + (
                    c * p.s.rows + (g.KH - 1 - kh if of_grad else kh) * g.dilation_h) * p.s.phases * p.s.pitch


cdef inline Py_ssize_t lines(Py_ssize_t numbers) noexcept nogil:
    """At least so many numbers: what follows starts at a cache line of its own."""
    return (numbers + 15) // 16 * 16


cdef void stage_band(float* staged, const float* image, Py_ssize_t item, const Plan* p) noexcept nogil:
    cdef staging s = p.s
    s.top = item % p.bands * p.band * p.stride - p.above
    p.kernels.stage(staged, image, &s)


cdef inline Py_ssize_t rows_of(Py_ssize_t item, const Plan* p) noexcept nogil:
    return min(p.band, p.rows - item % p.bands * p.band)


cdef inline Py_ssize_t place_of(Py_ssize_t item, const Plan* p) noexcept nogil:
    """Where the band starts in (N, outputs, rows, cols)."""
    return (item // p.bands * p.w.outputs * p.rows + item % p.bands * p.band) * p.w.cols


# ------------------------------------------------------------------------------- forward, and the gradient of the input

cdef int direct_forward(bint channels, float* output, unsigned char* codes, bint relu, const float* input,
                        const float* weight, const float* bias, const Conv2d* g) except -1:
    # output (N, OC, OH, OW)   input (N, C, H, W)   weight (OC, C, KH, KW)   bias (OC,) or NULL
    # with codes: output, codes (N, OC, OH // 2, OW // 2)
    cdef Plan p = plan(channels, False, g)
    cdef weight_steps steps = weight_steps(g.C * g.KH * g.KW, g.KH * g.KW, g.KH * g.KW)
    slide(output, codes, relu, input, NULL, weight, bias, &p, False, &steps, g)
    return 0


cdef int direct_backward_input(bint channels, float* grad_input, const float* grad_output, const unsigned char* codes,
                               const float* weight, const Conv2d* g) except -1:
    # grad_input (N, C, H, W)   grad_output (N, OC, OH, OW)   weight (OC, C, KH, KW)
    # with codes: grad_output, codes (N, OC, OH // 2, OW // 2)
    cdef Plan p = plan(channels, True, g)
    cdef weight_steps steps = weight_steps(g.KH * g.KW, g.C * g.KH * g.KW, g.KH * g.KW)
    slide(grad_input, NULL, False, grad_output, codes, weight, NULL, &p, True, &steps, g)
    return 0


cdef int slide(float* output, unsigned char* codes, bint relu, const float* images, const unsigned char* image_codes,
               const float* weight, const float* start, Plan* p, bint of_grad, const weight_steps* steps,
               const Conv2d* g) except -1:
    # codes: of the windows of output; image_codes: the images are pooled gradients
    # scratch: the offsets, the packed weights, and for each thread a staged band, what the kernel asks for, and with
    # codes the band, or the image, that is not pooled
    cdef Py_ssize_t packed_size = lines(p.kernels.packed_size(&p.w))
    cdef Py_ssize_t whole = lines(p.s.channels * p.s.H * p.s.W) if image_codes != NULL else (
        lines(p.w.outputs * p.band * p.w.cols) if codes != NULL else 0)
    cdef Py_ssize_t share = whole + lines(p.staged) + lines(p.kernels.sums_scratch(&p.w, p.band))
    cdef cnp.ndarray memory = scratch((lines(2 * p.w.taps) + packed_size + p.threads * share) * sizeof(float))
    cdef float* packed = <float*>cnp.PyArray_DATA(memory) + lines(2 * p.w.taps)
    cdef float* mine = packed + packed_size
    cdef int thread
    with nogil:
        fill_offsets(<Py_ssize_t*>cnp.PyArray_DATA(memory), p, of_grad, g)
        p.kernels.pack(packed, weight, steps, start, &p.w)
        if p.threads == 1:
            slide_share(output, codes, relu, images, image_codes, packed, mine, mine + whole, p, 0)
        else:
            for thread in prange(p.threads, num_threads=p.threads, schedule="static", chunksize=1):
                slide_share(output, codes, relu, images, image_codes, packed, mine + thread * share,
                            mine + thread * share + whole, p, thread)
    return 0


cdef void slide_share(float* output, unsigned char* codes, bint relu, const float* images,
                      const unsigned char* image_codes, const float* packed, float* whole, float* staged,
                      const Plan* p, int thread) noexcept nogil:
    cdef Py_ssize_t items = p.N * p.bands, plane = p.rows * p.w.cols, image = p.s.channels * p.s.H * p.s.W
    cdef Py_ssize_t pooled_plane = p.rows // 2 * (p.w.cols // 2)
    cdef Py_ssize_t item, n, rows, o, at, unpooled = -1
    cdef const float* start
    for item in range(items * thread // p.threads, items * (thread + 1) // p.threads):
        n = item // p.bands
        rows = rows_of(item, p)
        start = images + n * image
        if image_codes != NULL:
            if n != unpooled:
                unpool_image(whole, images, image_codes, n, p.s.channels, p.s.H, p.s.W, p)
                unpooled = n
            start = whole
        stage_band(staged, start, item, p)
        if codes != NULL:
            p.kernels.sums(whole, rows * p.w.cols, staged, packed, staged + lines(p.staged), &p.w, rows)
            at = n * p.w.outputs * pooled_plane + item % p.bands * p.band // 2 * (p.w.cols // 2)
            p.epilogue.pool(output + at, codes + at, pooled_plane, whole, rows * p.w.cols, p.w.outputs, rows, p.w.cols)
            continue
        at = place_of(item, p)
        p.kernels.sums(output + at, plane, staged, packed, staged + lines(p.staged), &p.w, rows)
        if relu:
            for o in range(p.w.outputs):
                p.epilogue.relu(output + at + o * plane, rows * p.w.cols)


cdef void unpool_image(float* whole, const float* grads, const unsigned char* codes, Py_ssize_t n, Py_ssize_t channels,
                       Py_ssize_t H, Py_ssize_t W, const Plan* p) noexcept nogil:
    # whole (channels, H, W): the gradient of image n before pooling
    cdef Py_ssize_t at = n * channels * (H // 2) * (W // 2)
    p.epilogue.unpool(whole, grads + at, codes + at, channels, H, W)


# ----------------------------------------------------------------------------------------------- gradient of the weight

cdef int direct_backward_weight(bint channels, float* grad_weight, float* grad_bias, const float* grad_output,
                                const unsigned char* codes, const float* input, const Conv2d* g) except -1:
    # grad_weight (OC, C, KH, KW)   grad_output (N, OC, OH, OW)   input (N, C, H, W)   grad_bias (OC,) or NULL
    # with codes: grad_output, codes (N, OC, OH // 2, OW // 2), and grad_bias
    # scratch: the offsets, and for each thread its sums, a staged band, what the kernel asks for, and with codes one
    # image's gradient before pooling; then, with codes, the sum of each plane of it (N, OC)
    cdef Plan p = plan(channels, False, g)
    cdef Py_ssize_t sums = p.kernels.total_size(&p.w), i, n
    cdef Py_ssize_t whole = lines(g.OC * g.OH * g.OW) if codes != NULL else 0
    cdef Py_ssize_t share = lines(sums) + lines(p.staged) + lines(p.kernels.weight_scratch(&p.w, p.band)) + whole
    cdef Py_ssize_t planes = g.N * g.OC if codes != NULL else 0
    cdef cnp.ndarray memory = scratch((lines(2 * p.w.taps) + p.threads * share + planes) * sizeof(float))
    cdef float* total = <float*>cnp.PyArray_DATA(memory) + lines(2 * p.w.taps)
    cdef float* plane_sums = total + p.threads * share
    cdef double bias
    cdef int thread
    with nogil:
        fill_offsets(<Py_ssize_t*>cnp.PyArray_DATA(memory), &p, False, g)
        if p.threads == 1:
            weight_share(total, sums, total + share - whole, plane_sums, grad_output, codes, input, &p, 0)
        else:
            for thread in prange(p.threads, num_threads=p.threads, schedule="static", chunksize=1):
                weight_share(total + thread * share, sums, total + (thread + 1) * share - whole, plane_sums,
                             grad_output, codes, input, &p, thread)
        for thread in range(1, p.threads):
            for i in range(sums):
                total[i] += total[thread * share + i]
        p.kernels.weight_result(grad_weight, total, &p.w)
        if codes != NULL:
            for i in range(g.OC):
                bias = 0
                for n in range(g.N):
                    bias += plane_sums[n * g.OC + i]
                grad_bias[i] = <float>bias
    return 0


cdef void weight_share(float* total, Py_ssize_t sums, float* whole, float* plane_sums, const float* grad_output,
                       const unsigned char* codes, const float* input, const Plan* p, int thread) noexcept nogil:
    cdef Py_ssize_t items = p.N * p.bands, plane = p.rows * p.w.cols
    cdef Py_ssize_t item, n, o, unpooled = -1
    cdef float* staged = total + lines(sums)
    cdef const float* grad
    memset(total, 0, sums * sizeof(float))
    for item in range(items * thread // p.threads, items * (thread + 1) // p.threads):
        n = item // p.bands
        stage_band(staged, input + n * p.s.channels * p.s.H * p.s.W, item, p)
        grad = grad_output + place_of(item, p)
        if codes != NULL:
            if n != unpooled:
                unpool_image(whole, grad_output, codes, n, p.w.outputs, p.rows, p.w.cols, p)
                unpooled = n
            if item % p.bands == 0:
                for o in range(p.w.outputs):
                    plane_sums[n * p.w.outputs + o] = sum_run(<const float*>whole + o * plane, plane)
            grad = whole + item % p.bands * p.band * p.w.cols
        p.kernels.weight_sums(total, grad, plane, staged, staged + lines(p.staged), &p.w, rows_of(item, p))


# ----------------------------------------------------------------------------------------------------- when it is taken

cdef double rows_share(int direction, const Conv2d* g) noexcept nogil:
    """The share of its best speed that the kernel with lanes along rows reaches: the lanes that work.  For the weight,
    each row has a beginning and an end of its own, too."""
    cdef Py_ssize_t lanes = 4 << isa_level(), cols = g.W if direction == BACKWARD_INPUT else g.OW
    cdef double vectors = (cols + lanes - 1) // lanes
    return cols / (vectors * lanes) * (vectors / (vectors + ROW_ENDS) if direction == BACKWARD_WEIGHT else 1)


cdef double channels_share(int direction, const Conv2d* g) noexcept nogil:
    """The same for lanes along the output channels: the lanes that work, less the time for turning pixels round."""
    cdef Py_ssize_t lanes = 4 << isa_level(), outputs = g.C if direction == BACKWARD_INPUT else g.OC
    cdef double taps = (g.OC if direction == BACKWARD_INPUT else g.C) * g.KH * g.KW
    cdef double turn = TURN_GRAD if direction == BACKWARD_WEIGHT else TURN_SUMS
    return outputs / ((outputs + lanes - 1) // lanes * <double>lanes) * taps / (taps + turn)


cdef bint direct_wins(bint channels, int direction, const Conv2d* g) noexcept nogil:
    """Whether a direct kernel is faster than im2col, and this one the faster of the two.  Measured with AVX-512."""
    if g.C * g.OC > MOST_CHANNELS and direction != BACKWARD_WEIGHT:
        return False
    if direction == BACKWARD_INPUT and 2 * g.C * g.C * g.W < 5 * g.OC:      # few sums, each over many planes
        return False
    return channels == (channels_share(direction, g) > rows_share(direction, g))


cdef bint direct_wins_pointwise(int direction, const Conv2d* g) noexcept nogil:
    """Whether a 1x1 convolution is faster with lanes along rows than as a matrix product."""
    return direction != BACKWARD_INPUT and g.C * g.OC <= FEW_CHANNELS and rows_share(FORWARD, g) >= 0.8
