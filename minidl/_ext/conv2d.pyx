"""2-d convolution and its gradients for float32 and float64.

Three kernels for each direction; ``choose_kernel`` says which one a geometry gets, and a caller may name another one
that fits (tests compare them):

    IM2COL      any geometry: im2col of one L2-sized tile of output pixels at a time, then a matrix product
    POINTWISE   1x1, stride 1, no padding: the image itself is the matrix, nothing is copied
    DEPTHWISE   one input channel per group: loops over shifted rows (conv2d_depthwise.pyx)

In the captions a plane is a row of its pixels, K = C*KH*KW counts the taps of one output channel, and C and OC are
those of one group.  Work is cut into numbered items of which each thread takes one contiguous share; sums over
threads are made in the order of the threads, so that the same geometry and thread count give the same bits.
Scratch memory comes from the caching allocator, one block per call.  Arrays are C-contiguous and of one dtype, bias
may be None: the caller (minidl/_devices/cpu/conv.py) sees to that.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from minidl._ext.conv2d_depthwise cimport depthwise_backward_input, depthwise_backward_weight, depthwise_forward
from minidl._ext.geometry cimport Conv2d, conv2d_fields
from minidl._ext.im2col cimport (Tile, Tiling, col2im_by_pixels, cut_output, has_padding, im2col_by_pixels,
                                 im2col_by_taps, seen_cols, seen_rows, stage_pixels, stage_planes, tile_at,
                                 unstage_pixels)
from minidl._ext.runs cimport both_float32, gemm, real, sum_run
from minidl._ext.storage cimport new_array
from minidl._ext.threads cimport team

cnp.import_array()

cpdef enum Kernel:
    AUTO
    IM2COL
    POINTWISE
    DEPTHWISE

cdef enum:
    TILE_BYTES = 384 * 1024     # of one tile's col: it stays in a second-level cache of 1 MB
    STAGED_BYTES = 512 * 1024   # of the image that backward_input adds up in scratch memory
    LEAST_PIXELS = 48           # of a tile: a narrower matrix product wastes its registers
    LEAST_CHANNELS = 8          # of a block in backward_input, for the same reason
    FEW_CHANNELS = 4            # fewer than this make runs of KW*C numbers too short
    GEMM_SPEED = 40000          # multiply-adds per microsecond and thread, for the thread policy
    SUM_SPEED = 8000            # additions per microsecond and thread


cdef bint fits(Kernel kernel, const Conv2d* g) noexcept nogil:
    if kernel == POINTWISE:
        return g.KH == 1 and g.KW == 1 and g.stride_h == 1 and g.stride_w == 1 and not has_padding(g)
    if kernel == DEPTHWISE:
        return g.groups == g.C
    return True


cdef Kernel choose_kernel(const Conv2d* g) noexcept nogil:
    """The kernel of all three directions for this geometry."""
    if g.C > 1 and fits(DEPTHWISE, g):
        return DEPTHWISE
    if fits(POINTWISE, g):
        return POINTWISE
    return IM2COL


cdef Kernel resolve(Kernel kernel, const Conv2d* g) except *:
    if kernel == AUTO:
        return choose_kernel(g)
    if not fits(kernel, g):
        raise ValueError(f"conv2d: kernel {kernel} does not fit this geometry")
    return kernel


def kernel_of(geometry):
    """Which kernel a convolution of this geometry gets."""
    return Kernel(choose_kernel(conv2d_fields(geometry.packed)))


# ------------------------------------------------------------------------------------------------------------ forward

def conv2d_forward(cnp.ndarray output, cnp.ndarray input, cnp.ndarray weight, cnp.ndarray bias, geometry,
                   Kernel kernel=AUTO):
    """output (N, OC, OH, OW) = the convolution of input (N, C, H, W) with weight (OC, C/groups, KH, KW), plus bias."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef const void* add = NULL if bias is None else cnp.PyArray_DATA(bias)
    kernel = resolve(kernel, g)
    if both_float32(input, weight):
        forward(<float*>cnp.PyArray_DATA(output), <const float*>cnp.PyArray_DATA(input),
                <const float*>cnp.PyArray_DATA(weight), <const float*>add, g, kernel)
    else:
        forward(<double*>cnp.PyArray_DATA(output), <const double*>cnp.PyArray_DATA(input),
                <const double*>cnp.PyArray_DATA(weight), <const double*>add, g, kernel)


cdef int forward(real* output, const real* input, const real* weight, const real* bias, const Conv2d* g,
                 Kernel kernel) except -1:
    if kernel == DEPTHWISE:
        with nogil:
            depthwise_forward(output, input, weight, bias, g)
        return 0
    cdef Py_ssize_t C = g.C // g.groups, K = C * g.KH * g.KW
    cdef int thread, threads = team(<double>g.N * g.OC * g.OH * g.OW * K / GEMM_SPEED)
    cdef Tiling tiling = cut_for_threads(g, K * sizeof(real), threads, kernel == POINTWISE)
    cdef Py_ssize_t items = g.N * g.groups * tiling.down * tiling.across
    cdef Py_ssize_t staged = C * seen_rows(g, tiling.rows) * seen_cols(g, tiling.cols) if has_padding(g) else 0
    cdef Py_ssize_t share = 0 if kernel == POINTWISE else whole_lines(staged + K * tiling.rows * tiling.cols,
                                                                      sizeof(real))
    cdef cnp.ndarray memory = scratch(threads * share * sizeof(real))
    cdef real* seen = <real*>cnp.PyArray_DATA(memory)
    with nogil:
        for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            forward_items(output, input, weight, bias, g, &tiling, kernel == POINTWISE, seen + thread * share,
                          seen + thread * share + staged, items * thread // threads, items * (thread + 1) // threads)
    return 0


cdef void forward_items(real* output, const real* input, const real* weight, const real* bias, const Conv2d* g,
                        const Tiling* tiling, bint pointwise, real* staged, real* col, Py_ssize_t first,
                        Py_ssize_t last) noexcept nogil:
    # out (OC, pixels of the tile) = weight (OC, K) @ col (K, pixels of the tile), on top of the bias
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, K = C * g.KH * g.KW, tiles = tiling.down * tiling.across
    cdef Py_ssize_t item, n, group, oc, start, pixels, i, rows, cols
    cdef Tile tile
    cdef const real* image
    cdef real* out
    for item in range(first, last):
        n = item // tiles // g.groups
        group = item // tiles % g.groups
        tile = tile_at(g, tiling, item % tiles)
        start = tile.oh * g.OW + tile.ow
        pixels = tile.rows * tile.cols
        image = input + (n * g.C + group * C) * g.H * g.W
        out = output + (n * g.OC + group * OC) * g.OH * g.OW + start
        if bias != NULL:
            for oc in range(OC):
                for i in range(pixels):
                    out[oc * g.OH * g.OW + i] = bias[group * OC + oc]
        if pointwise:
            gemm(False, False, OC, pixels, K, weight + group * OC * K, K, image + start, g.H * g.W,
                 <real>(bias != NULL), out, g.OH * g.OW)
            continue
        if has_padding(g):
            rows = seen_rows(g, tile.rows)
            cols = seen_cols(g, tile.cols)
            stage_planes(staged, image, C, tile.oh * g.stride_h - g.pad_top, tile.ow * g.stride_w - g.pad_left,
                         rows, cols, g)
            im2col_by_taps(col, <const real*>staged, rows * cols, cols, C, tile, g)
        else:
            im2col_by_taps(col, image + tile.oh * g.stride_h * g.W + tile.ow * g.stride_w, g.H * g.W, g.W, C, tile, g)
        gemm(False, False, OC, pixels, K, weight + group * OC * K, K, <const real*>col, pixels, <real>(bias != NULL),
             out, g.OH * g.OW)


# ----------------------------------------------------------------------------------------------------- backward, input

def conv2d_backward_input(cnp.ndarray grad_input, cnp.ndarray grad_output, cnp.ndarray weight, geometry,
                          Kernel kernel=AUTO):
    """grad_input (N, C, H, W) from grad_output (N, OC, OH, OW) and weight (OC, C/groups, KH, KW)."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    kernel = resolve(kernel, g)
    if both_float32(grad_output, weight):
        backward_input(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output),
                       <const float*>cnp.PyArray_DATA(weight), g, kernel)
    else:
        backward_input(<double*>cnp.PyArray_DATA(grad_input), <const double*>cnp.PyArray_DATA(grad_output),
                       <const double*>cnp.PyArray_DATA(weight), g, kernel)


cdef int backward_input(real* grad_input, const real* grad_output, const real* weight, const Conv2d* g,
                        Kernel kernel) except -1:
    if kernel == DEPTHWISE:
        with nogil:
            depthwise_backward_input(grad_input, grad_output, weight, g)
        return 0
    cdef Py_ssize_t C = g.C // g.groups, taps = g.KH * g.KW
    cdef int thread, threads = team(<double>g.N * g.OC * g.OH * g.OW * C * taps / GEMM_SPEED)
    cdef Tiling tiling
    cdef Py_ssize_t items
    if kernel == POINTWISE:
        tiling = cut_for_threads(g, 1, threads, True)
        items = g.N * g.groups * tiling.down * tiling.across
        with nogil:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                backward_input_pointwise_items(grad_input, grad_output, weight, g, &tiling,
                                               items * thread // threads, items * (thread + 1) // threads)
        return 0
    # An image's gradient is added up by one thread; where images are few or large, block by block of channels.
    cdef Py_ssize_t rows = seen_rows(g, g.OH), cols = seen_cols(g, g.OW)
    cdef Py_ssize_t wanted = (threads + g.N * g.groups - 1) // max(g.N * g.groups, 1)
    cdef Py_ssize_t block = max(STAGED_BYTES // (rows * cols * <Py_ssize_t>sizeof(real)), LEAST_CHANNELS)
    block = max(min(block, (C + wanted - 1) // max(wanted, 1)), 1)
    tiling = cut_output(g, max(TILE_BYTES // (taps * block * <Py_ssize_t>sizeof(real)), LEAST_PIXELS), 1)
    items = g.N * g.groups * ((C + block - 1) // block)
    cdef Py_ssize_t packed = whole_lines(g.OC * C * taps, sizeof(real))
    cdef Py_ssize_t staged = whole_lines(rows * cols * block, sizeof(real))
    cdef Py_ssize_t share = staged + whole_lines(tiling.rows * tiling.cols * taps * block, sizeof(real))
    cdef cnp.ndarray memory = scratch((packed + threads * share) * sizeof(real))
    cdef real* weight_by_pixels = <real*>cnp.PyArray_DATA(memory)
    cdef real* seen = weight_by_pixels + packed
    with nogil:
        weight_to_pixels(weight_by_pixels, weight, block, g)
        for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            backward_input_items(grad_input, grad_output, <const real*>weight_by_pixels, g, &tiling, block,
                                 seen + thread * share, seen + thread * share + staged,
                                 items * thread // threads, items * (thread + 1) // threads)
    return 0


cdef void weight_to_pixels(real* packed, const real* weight, Py_ssize_t block, const Conv2d* g) noexcept nogil:
    # packed (groups, blocks of C, OC, KH*KW*block)   the order in which im2col by pixels counts the taps
    # weight (groups, OC, C, KH*KW)
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, taps = g.KH * g.KW
    cdef Py_ssize_t group, index, start, size, oc, tap, c
    for group in range(g.groups):
        for index in range((C + block - 1) // block):
            start = index * block
            size = min(block, C - start)
            for oc in range(OC):
                for tap in range(taps):
                    for c in range(size):
                        packed[c] = weight[((group * OC + oc) * C + start + c) * taps + tap]
                    packed += size


cdef void backward_input_items(real* grad_input, const real* grad_output, const real* packed, const Conv2d* g,
                               const Tiling* tiling, Py_ssize_t block, real* staged, real* col, Py_ssize_t first,
                               Py_ssize_t last) noexcept nogil:
    # col (pixels of the tile, KH*KW*C) = grad_out (OC, pixels of the tile)^T @ weight (OC, KH*KW*C), then col2im;
    # an item is a block of C channels of one image
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, taps = g.KH * g.KW, blocks = (C + block - 1) // block
    cdef Py_ssize_t rows = seen_rows(g, g.OH), cols = seen_cols(g, g.OW)
    cdef Py_ssize_t item, n, group, start, size, index
    cdef Tile tile
    cdef const real* grad_out
    for item in range(first, last):
        n = item // blocks // g.groups
        group = item // blocks % g.groups
        start = item % blocks * block
        size = min(block, C - start)
        memset(staged, 0, rows * cols * size * sizeof(real))
        for index in range(tiling.down * tiling.across):
            tile = tile_at(g, tiling, index)
            grad_out = grad_output + ((n * g.OC + group * OC) * g.OH + tile.oh) * g.OW + tile.ow
            gemm(True, False, tile.rows * tile.cols, taps * size, OC, grad_out, g.OH * g.OW,
                 packed + (group * C + start) * OC * taps, taps * size, <real>0, col, taps * size)
            col2im_by_pixels(staged + (tile.oh * g.stride_h * cols + tile.ow * g.stride_w) * size, <const real*>col,
                             cols * size, size, tile, g)
        unstage_pixels(grad_input + (n * g.C + group * C + start) * g.H * g.W, <const real*>staged, size, rows, cols,
                       g)


cdef void backward_input_pointwise_items(real* grad_input, const real* grad_output, const real* weight,
                                         const Conv2d* g, const Tiling* tiling, Py_ssize_t first,
                                         Py_ssize_t last) noexcept nogil:
    # grad_image (C, pixels of the tile) = weight (OC, C)^T @ grad_out (OC, pixels of the tile)
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, plane = g.H * g.W, tiles = tiling.down * tiling.across
    cdef Py_ssize_t item, n, group, start
    cdef Tile tile
    for item in range(first, last):
        n = item // tiles // g.groups
        group = item // tiles % g.groups
        tile = tile_at(g, tiling, item % tiles)
        start = tile.oh * g.OW + tile.ow
        gemm(True, False, C, tile.rows * tile.cols, OC, weight + group * OC * C, C,
             grad_output + (n * g.OC + group * OC) * plane + start, plane, <real>0,
             grad_input + (n * g.C + group * C) * plane + start, plane)


# ---------------------------------------------------------------------------------------------------- backward, weight

def conv2d_backward_weight(cnp.ndarray grad_weight, cnp.ndarray grad_output, cnp.ndarray input, geometry,
                           Kernel kernel=AUTO):
    """grad_weight (OC, C/groups, KH, KW) from grad_output (N, OC, OH, OW) and input (N, C, H, W)."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    kernel = resolve(kernel, g)
    if both_float32(grad_output, input):
        backward_weight(<float*>cnp.PyArray_DATA(grad_weight), <const float*>cnp.PyArray_DATA(grad_output),
                        <const float*>cnp.PyArray_DATA(input), g, kernel)
    else:
        backward_weight(<double*>cnp.PyArray_DATA(grad_weight), <const double*>cnp.PyArray_DATA(grad_output),
                        <const double*>cnp.PyArray_DATA(input), g, kernel)


cdef int backward_weight(real* grad_weight, const real* grad_output, const real* input, const Conv2d* g,
                         Kernel kernel) except -1:
    if kernel == DEPTHWISE:
        with nogil:
            depthwise_backward_weight(grad_weight, grad_output, input, g)
        return 0
    cdef Py_ssize_t C = g.C // g.groups, K = C * g.KH * g.KW
    cdef bint by_taps = kernel == POINTWISE or C < FEW_CHANNELS
    cdef int thread, threads = team(<double>g.N * g.OC * g.OH * g.OW * K / GEMM_SPEED)
    cdef Tiling tiling = cut_for_threads(g, K * sizeof(real), threads, kernel == POINTWISE)
    cdef Py_ssize_t items = g.N * g.groups * tiling.down * tiling.across
    cdef Py_ssize_t sums = whole_lines(g.OC * K, sizeof(real))
    cdef Py_ssize_t staged = C * seen_rows(g, tiling.rows) * seen_cols(g, tiling.cols)
    cdef Py_ssize_t share = sums
    if kernel != POINTWISE:
        share += whole_lines(staged + K * tiling.rows * tiling.cols, sizeof(real))
    cdef cnp.ndarray memory = scratch(threads * share * sizeof(real))
    cdef real* partial = <real*>cnp.PyArray_DATA(memory)
    with nogil:
        for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            backward_weight_items(partial + thread * share, grad_output, input, g, &tiling, kernel == POINTWISE,
                                  partial + thread * share + sums, partial + thread * share + sums + staged,
                                  items * thread // threads, items * (thread + 1) // threads)
        add_partial_sums(grad_weight, <const real*>partial, share, threads, by_taps, g)
    return 0


cdef void backward_weight_items(real* sums, const real* grad_output, const real* input, const Conv2d* g,
                                const Tiling* tiling, bint pointwise, real* staged, real* col, Py_ssize_t first,
                                Py_ssize_t last) noexcept nogil:
    # sums (OC, K) += grad_out (OC, pixels of the tile) @ col (pixels of the tile, K)
    # or, for few channels,                             @ col (K, pixels of the tile)^T
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, K = C * g.KH * g.KW, tiles = tiling.down * tiling.across
    cdef Py_ssize_t item, n, group, start, pixels, top, left, rows, cols
    cdef Tile tile
    cdef const real* image
    cdef const real* grad_out
    cdef real* group_sums
    memset(sums, 0, g.OC * K * sizeof(real))
    for item in range(first, last):
        n = item // tiles // g.groups
        group = item // tiles % g.groups
        tile = tile_at(g, tiling, item % tiles)
        start = tile.oh * g.OW + tile.ow
        pixels = tile.rows * tile.cols
        image = input + (n * g.C + group * C) * g.H * g.W
        grad_out = grad_output + (n * g.OC + group * OC) * g.OH * g.OW + start
        group_sums = sums + group * OC * K
        if pointwise:
            gemm(False, True, OC, K, pixels, grad_out, g.OH * g.OW, image + start, g.H * g.W, <real>1, group_sums, K)
            continue
        top = tile.oh * g.stride_h - g.pad_top
        left = tile.ow * g.stride_w - g.pad_left
        rows = seen_rows(g, tile.rows)
        cols = seen_cols(g, tile.cols)
        if C < FEW_CHANNELS:
            stage_planes(staged, image, C, top, left, rows, cols, g)
            im2col_by_taps(col, <const real*>staged, rows * cols, cols, C, tile, g)
            gemm(False, True, OC, K, pixels, grad_out, g.OH * g.OW, <const real*>col, pixels, <real>1, group_sums, K)
        else:
            stage_pixels(staged, image, C, top, left, rows, cols, g)
            im2col_by_pixels(col, <const real*>staged, cols * C, C, tile, g)
            gemm(False, False, OC, K, pixels, grad_out, g.OH * g.OW, <const real*>col, K, <real>1, group_sums, K)


cdef void add_partial_sums(real* grad_weight, const real* partial, Py_ssize_t share, int threads, bint by_taps,
                           const Conv2d* g) noexcept nogil:
    # grad_weight (OC, C, KH*KW) of all groups
    # partial     one per thread, `share` numbers apart: (OC, C, KH*KW) by taps, (OC, KH*KW, C) by pixels
    cdef Py_ssize_t C = g.C // g.groups, taps = g.KH * g.KW, oc, c, tap, place
    cdef int thread
    cdef real total
    for oc in prange(g.OC, num_threads=team(<double>g.OC * C * taps * threads / SUM_SPEED), schedule="static"):
        for c in range(C):
            for tap in range(taps):
                place = oc * C * taps + (c * taps + tap if by_taps else tap * C + c)
                total = partial[place]
                for thread in range(1, threads):
                    total = total + partial[thread * share + place]
                grad_weight[(oc * C + c) * taps + tap] = total


# ------------------------------------------------------------------------------------------------------ backward, bias

def conv2d_backward_bias(cnp.ndarray grad_bias, cnp.ndarray grad_output):
    """grad_bias (OC,) = grad_output (N, OC, OH, OW) summed over images and pixels; float32 adds planes in float64."""
    cdef cnp.npy_intp* shape = cnp.PyArray_DIMS(grad_output)
    if both_float32(grad_output, grad_bias):
        backward_bias(<float*>cnp.PyArray_DATA(grad_bias), <const float*>cnp.PyArray_DATA(grad_output),
                      shape[0], shape[1], shape[2] * shape[3])
    else:
        backward_bias(<double*>cnp.PyArray_DATA(grad_bias), <const double*>cnp.PyArray_DATA(grad_output),
                      shape[0], shape[1], shape[2] * shape[3])


cdef void backward_bias(real* grad_bias, const real* grad_output, Py_ssize_t N, Py_ssize_t OC,
                        Py_ssize_t plane) noexcept:
    cdef Py_ssize_t n, oc
    cdef double total
    with nogil:
        for oc in prange(OC, num_threads=team(<double>N * OC * plane / SUM_SPEED), schedule="static"):
            total = 0
            for n in range(N):
                total = total + sum_run(grad_output + (n * OC + oc) * plane, plane)
            grad_bias[oc] = <real>total


# ------------------------------------------------------------------------------------------------------------- helpers

cdef Tiling cut_for_threads(const Conv2d* g, Py_ssize_t bytes_per_pixel, int threads, bint pointwise) noexcept nogil:
    """Tiles whose col fits the cache (POINTWISE has none), enough of them for all threads."""
    cdef Py_ssize_t planes = max(g.N * g.groups, 1)
    cdef Py_ssize_t pixels = g.OH * g.OW if pointwise else max(TILE_BYTES // bytes_per_pixel, LEAST_PIXELS)
    return cut_output(g, pixels, (threads + planes - 1) // planes)


cdef Py_ssize_t whole_lines(Py_ssize_t numbers, Py_ssize_t itemsize) noexcept nogil:
    """At least so many numbers, so that the next thread's memory starts at a cache line of its own."""
    return (numbers * itemsize + 127) // 128 * 128 // itemsize


cdef cnp.ndarray scratch(Py_ssize_t nbytes):
    cdef cnp.npy_intp size = nbytes
    return new_array(1, &size, cnp.NPY_UINT8)
