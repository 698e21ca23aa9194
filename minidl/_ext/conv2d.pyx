"""2-d convolution and its gradients for float32 and float64.

For each direction the table in conv2d_table.pyx says which kernel a geometry gets, and a caller may name another one
that fits (tests compare them).  Those of this file:

    IM2COL      any geometry: im2col of one L2-sized tile of output pixels at a time, then a matrix product
    POINTWISE   1x1, stride 1, no padding: the image itself is the matrix, nothing is copied
    DEPTHWISE   one input channel per group: loops over shifted rows (conv2d_depthwise.pyx; in float32, but for the input
                gradient with a stride, conv2d_planes.c)

In the captions a plane is a row of its pixels, K = C*KH*KW counts the taps of one output channel, and C and OC are
those of one group.  Work is cut into numbered items of which each thread takes one contiguous share; sums over
threads are made in the order of the threads, so that the same geometry and thread count give the same bits.
Scratch memory comes from the caching allocator, one block per call.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from minidl._ext.arrays cimport both_float32, contiguous, new_planes, scratch
from minidl._ext.conv2d_batch cimport batch_backward_input
from minidl._ext.conv2d_depthwise cimport depthwise_backward_input, depthwise_backward_weight, depthwise_forward
from minidl._ext.conv2d_direct cimport direct_backward_input, direct_backward_weight, direct_forward
from minidl._ext.conv2d_panels cimport (packed_backward_input, packed_backward_weight, packed_forward,
                                        planes_backward_input, planes_backward_weight, planes_forward)
from minidl._ext.conv2d_table cimport (AUTO, BACKWARD_INPUT, BACKWARD_WEIGHT, DEPTHWISE, DIRECT_BATCH, DIRECT_CHANNELS,
                                       DIRECT_ROWS, FORWARD, IM2COL, PACKED, POINTWISE, WINOGRAD, WINOGRAD_F4, Kernel,
                                       kernel_for)
from minidl._ext.geometry cimport Conv2d, conv2d_fields
from minidl._ext.im2col cimport (Tile, Tiling, col2im, cut_output, has_padding, im2col, seen_cols, seen_rows,
                                 size_of_lines, stage, tile_at, unstage)
from minidl._ext.runs cimport gemm, real, sum_run
from minidl._ext.storage cimport new_array
from minidl._ext.threads cimport team

cnp.import_array()

cdef enum:
    TILE_BYTES = 384 * 1024     # of one tile's col: it stays in a second-level cache of 1 MB
    STAGED_BYTES = 512 * 1024   # of the image that backward_input adds up in scratch memory
    LEAST_PIXELS = 48           # of a tile: a narrower matrix product wastes its registers
    LEAST_CHANNELS = 8          # of a block in backward_input, for the same reason
    SMALL_WEIGHT = 800          # numbers: up to here BLAS is faster on grad_out @ col^T than on col @ grad_out^T
    GEMM_SPEED = 40000          # multiply-adds per microsecond and thread, for the thread policy
    SUM_SPEED = 8000            # additions per microsecond and thread

cdef struct Plan:               # how the work of one call is cut up
    Kernel kernel
    int threads
    Tiling tiling
    Py_ssize_t block            # channels of a group that are worked on at once
    Py_ssize_t items
    Py_ssize_t staged, lines    # scratch of one thread, in numbers: the staged image, then lines, ...
    Py_ssize_t share            # ... and all of it


cdef Plan plan(Kernel kernel, const Conv2d* g, size_t itemsize, bint by_blocks) except *:
    """Kernel, threads, tiles and scratch.  ``by_blocks``: an item is a block of channels of a whole image, else a tile
    of output pixels with all channels of a group."""
    cdef Plan p
    cdef Py_ssize_t C = g.C // g.groups, taps = g.KH * g.KW, planes = max(g.N * g.groups, 1)
    cdef Py_ssize_t pixels = g.OH * g.OW, wanted, image, rows, cols
    p.kernel = kernel
    p.threads = team(<double>g.N * g.OC * pixels * C * taps / GEMM_SPEED)
    p.block = C
    wanted = (p.threads + planes - 1) // planes                     # items of one image and group
    if by_blocks and p.kernel == IM2COL:
        image = seen_rows(g, g.OH) * seen_cols(g, g.OW) * itemsize
        p.block = min((C + wanted - 1) // wanted, max(STAGED_BYTES // image, LEAST_CHANNELS))
        wanted = 1
    if p.kernel == IM2COL:
        pixels = max(TILE_BYTES // (p.block * taps * <Py_ssize_t>itemsize), LEAST_PIXELS)
    p.tiling = cut_output(g, pixels, wanted)
    p.items = g.N * g.groups * ((C + p.block - 1) // p.block if by_blocks and p.kernel == IM2COL
                                else p.tiling.down * p.tiling.across)
    p.staged = p.lines = p.share = 0
    if p.kernel == IM2COL:
        rows = g.OH if by_blocks else p.tiling.rows
        cols = g.OW if by_blocks else p.tiling.cols
        p.staged = p.block * seen_rows(g, rows) * seen_cols(g, cols) if has_padding(g) else 0
        p.lines = size_of_lines(g, &p.tiling)
        p.share = whole_lines(p.staged + p.lines + p.block * taps * p.tiling.rows * p.tiling.cols)
    return p


cdef Py_ssize_t whole_lines(Py_ssize_t numbers) noexcept nogil:
    """At least so many numbers: the next thread's memory starts at a cache line of its own."""
    return (numbers + 31) // 32 * 32


# ------------------------------------------------------------------------------------------------------------ forward

def conv2d_forward(cnp.ndarray input, cnp.ndarray weight, cnp.ndarray bias, geometry, Kernel kernel=AUTO):
    """output (N, OC, OH, OW): input (N, C, H, W) convolved with weight (OC, C/groups, KH, KW), plus bias or None."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef bint is_float32 = both_float32(input, weight)
    cdef const void* add = NULL
    input = contiguous(input)
    weight = contiguous(weight)
    if bias is not None:
        both_float32(input, bias)
        if cnp.PyArray_SIZE(bias) != g.OC:
            raise RuntimeError(f"conv2d: expected bias to be 1-dimensional with {g.OC} elements, one per output "
                               f"channel, but got bias of size {[bias.shape[d] for d in range(bias.ndim)]}")
        bias = contiguous(bias)
        add = cnp.PyArray_DATA(bias)
    cdef cnp.ndarray output = new_planes(g.N, g.OC, g.OH, g.OW, cnp.PyArray_TYPE(input))
    kernel = kernel_for(kernel, FORWARD, g, is_float32)
    if kernel == PACKED or kernel == WINOGRAD or kernel == WINOGRAD_F4:
        packed_forward(<float*>cnp.PyArray_DATA(output), <const float*>cnp.PyArray_DATA(input),
                       <const float*>cnp.PyArray_DATA(weight), <const float*>add, g, kernel)
    elif kernel == DEPTHWISE and is_float32:
        planes_forward(<float*>cnp.PyArray_DATA(output), <const float*>cnp.PyArray_DATA(input),
                       <const float*>cnp.PyArray_DATA(weight), <const float*>add, g)
    elif is_float32:
        forward(<float*>cnp.PyArray_DATA(output), <const float*>cnp.PyArray_DATA(input),
                <const float*>cnp.PyArray_DATA(weight), <const float*>add, g, kernel)
    else:
        forward(<double*>cnp.PyArray_DATA(output), <const double*>cnp.PyArray_DATA(input),
                <const double*>cnp.PyArray_DATA(weight), <const double*>add, g, kernel)
    return output


cdef int forward(real* output, const real* input, const real* weight, const real* bias, const Conv2d* g,
                 Kernel kernel) except -1:
    if real is float and kernel in (DIRECT_ROWS, DIRECT_CHANNELS):
        return direct_forward(kernel == DIRECT_CHANNELS, output, NULL, False, input, weight, bias, g)
    cdef Plan p = plan(kernel, g, sizeof(real), False)
    cdef cnp.ndarray memory = scratch(p.threads * p.share * sizeof(real))
    cdef real* mine = <real*>cnp.PyArray_DATA(memory)
    cdef int thread
    with nogil:
        if p.kernel == DEPTHWISE:
            depthwise_forward(output, input, weight, bias, g)
        elif p.threads == 1:
            forward_share(output, input, weight, bias, g, &p, mine, 0)
        else:
            for thread in prange(p.threads, num_threads=p.threads, schedule="static", chunksize=1):
                forward_share(output, input, weight, bias, g, &p, mine + thread * p.share, thread)
    return 0


cdef void forward_share(real* output, const real* input, const real* weight, const real* bias, const Conv2d* g,
                        const Plan* p, real* staged, int thread) noexcept nogil:
    # out (OC, pixels of the tile) = weight (OC, K) @ col (K, pixels of the tile), on top of the bias
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, K = C * g.KH * g.KW
    cdef Py_ssize_t tiles = p.tiling.down * p.tiling.across, plane = g.OH * g.OW
    cdef Py_ssize_t item, n, group, oc, start, pixels, i
    cdef real* lines = staged + p.staged
    cdef real* col = lines + p.lines
    cdef real* out
    cdef real value
    cdef const real* image
    cdef Tile tile
    for item in range(p.items * thread // p.threads, p.items * (thread + 1) // p.threads):
        n = item // tiles // g.groups
        group = item // tiles % g.groups
        tile = tile_at(g, &p.tiling, item % tiles)
        start = tile.oh * g.OW + tile.ow
        pixels = tile.rows * tile.cols
        image = input + (n * g.C + group * C) * g.H * g.W
        out = output + (n * g.OC + group * OC) * plane + start
        if bias != NULL:
            for oc in range(OC):
                value = bias[group * OC + oc]
                for i in range(pixels):
                    out[oc * plane + i] = value
        if p.kernel == POINTWISE:
            gemm(False, False, OC, pixels, K, weight + group * OC * K, K, image + start, plane, <real>(bias != NULL),
                 out, plane)
        else:
            see(col, lines, staged, image, C, tile, g)
            gemm(False, False, OC, pixels, K, weight + group * OC * K, K, <const real*>col, pixels,
                 <real>(bias != NULL), out, plane)


cdef void see(real* col, real* lines, real* staged, const real* image, Py_ssize_t C, Tile tile,
              const Conv2d* g) noexcept nogil:
    # col (K, pixels of the tile): im2col of what the tile sees of image (C, H, W)
    cdef Py_ssize_t top = tile.oh * g.stride_h - g.pad_top, left = tile.ow * g.stride_w - g.pad_left
    cdef Py_ssize_t rows, cols
    if has_padding(g):
        rows = seen_rows(g, tile.rows)
        cols = seen_cols(g, tile.cols)
        stage(staged, image, C, top, left, rows, cols, g)
        im2col(col, lines, <const real*>staged, rows * cols, cols, C, tile, g)
    else:
        im2col(col, lines, image + top * g.W + left, g.H * g.W, g.W, C, tile, g)


# ----------------------------------------------------------------------------------------------------- backward, input

def conv2d_backward_input(cnp.ndarray grad_output, cnp.ndarray weight, geometry, Kernel kernel=AUTO):
    """grad_input (N, C, H, W) from grad_output (N, OC, OH, OW) and weight (OC, C/groups, KH, KW)."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef bint is_float32 = both_float32(grad_output, weight)
    grad_output = contiguous(grad_output)
    weight = contiguous(weight)
    cdef cnp.ndarray grad_input = new_planes(g.N, g.C, g.H, g.W, cnp.PyArray_TYPE(weight))
    kernel = kernel_for(kernel, BACKWARD_INPUT, g, is_float32)
    if kernel == PACKED or kernel == WINOGRAD or kernel == WINOGRAD_F4:
        packed_backward_input(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output),
                              <const float*>cnp.PyArray_DATA(weight), g, kernel)
    elif kernel == DIRECT_BATCH:
        batch_backward_input(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output), NULL,
                             <const float*>cnp.PyArray_DATA(weight), g)
    elif kernel == DEPTHWISE and is_float32 and g.stride_h == g.stride_w == 1:
        planes_backward_input(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output),
                              <const float*>cnp.PyArray_DATA(weight), g)
    elif is_float32:
        backward_input(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output),
                       <const float*>cnp.PyArray_DATA(weight), g, kernel)
    else:
        backward_input(<double*>cnp.PyArray_DATA(grad_input), <const double*>cnp.PyArray_DATA(grad_output),
                       <const double*>cnp.PyArray_DATA(weight), g, kernel)
    return grad_input


cdef int backward_input(real* grad_input, const real* grad_output, const real* weight, const Conv2d* g,
                        Kernel kernel) except -1:
    if real is float and kernel in (DIRECT_ROWS, DIRECT_CHANNELS):
        return direct_backward_input(kernel == DIRECT_CHANNELS, grad_input, grad_output, NULL, weight, g)
    cdef Plan p = plan(kernel, g, sizeof(real), True)
    cdef cnp.ndarray memory = scratch(p.threads * p.share * sizeof(real))
    cdef real* mine = <real*>cnp.PyArray_DATA(memory)
    cdef int thread
    with nogil:
        if p.kernel == DEPTHWISE:
            depthwise_backward_input(grad_input, grad_output, weight, g)
        elif p.threads == 1:
            backward_input_share(grad_input, grad_output, weight, g, &p, mine, 0)
        else:
            for thread in prange(p.threads, num_threads=p.threads, schedule="static", chunksize=1):
                backward_input_share(grad_input, grad_output, weight, g, &p, mine + thread * p.share, thread)
    return 0


cdef void backward_input_share(real* grad_input, const real* grad_output, const real* weight, const Conv2d* g,
                               const Plan* p, real* scratch, int thread) noexcept nogil:
    cdef Py_ssize_t first = p.items * thread // p.threads, last = p.items * (thread + 1) // p.threads
    if p.kernel == POINTWISE:
        backward_input_pointwise(grad_input, grad_output, weight, g, p, first, last)
    else:
        backward_input_im2col(grad_input, grad_output, weight, g, p, scratch, first, last)


cdef void backward_input_pointwise(real* grad_input, const real* grad_output, const real* weight, const Conv2d* g,
                                   const Plan* p, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # grad_image (C, pixels of the tile) = weight (OC, C)^T @ grad_out (OC, pixels of the tile)
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, tiles = p.tiling.down * p.tiling.across
    cdef Py_ssize_t item, n, group, start, plane = g.H * g.W
    cdef Tile tile
    for item in range(first, last):
        n = item // tiles // g.groups
        group = item // tiles % g.groups
        tile = tile_at(g, &p.tiling, item % tiles)
        start = tile.oh * g.OW + tile.ow
        gemm(True, False, C, tile.rows * tile.cols, OC, weight + group * OC * C, C,
             grad_output + (n * g.OC + group * OC) * plane + start, plane, <real>0,
             grad_input + (n * g.C + group * C) * plane + start, plane)


cdef void backward_input_im2col(real* grad_input, const real* grad_output, const real* weight, const Conv2d* g,
                                const Plan* p, real* staged, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # col (C*KH*KW, pixels of the tile) = weight (OC, C*KH*KW)^T @ grad_out (OC, pixels of the tile), then col2im.
    # An item is a block of C channels of one image, added up by one thread: in place, or with padding in `staged`.
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, taps = g.KH * g.KW
    cdef Py_ssize_t blocks = (C + p.block - 1) // p.block, rows = g.H, cols = g.W
    cdef Py_ssize_t item, n, group, c, size, index
    cdef real* lines = staged + p.staged
    cdef real* col = lines + p.lines
    cdef real* grad_image
    cdef real* seen
    cdef Tile tile
    if has_padding(g):
        rows = seen_rows(g, g.OH)
        cols = seen_cols(g, g.OW)
    for item in range(first, last):
        n = item // blocks // g.groups
        group = item // blocks % g.groups
        c = item % blocks * p.block
        size = min(p.block, C - c)
        grad_image = grad_input + (n * g.C + group * C + c) * g.H * g.W
        seen = staged if has_padding(g) else grad_image
        memset(seen, 0, size * rows * cols * sizeof(real))
        for index in range(p.tiling.down * p.tiling.across):
            tile = tile_at(g, &p.tiling, index)
            gemm(True, False, size * taps, tile.rows * tile.cols, OC, weight + (group * OC * C + c) * taps, C * taps,
                 grad_output + ((n * g.OC + group * OC) * g.OH + tile.oh) * g.OW + tile.ow, g.OH * g.OW, <real>0, col,
                 tile.rows * tile.cols)
            col2im(seen + tile.oh * g.stride_h * cols + tile.ow * g.stride_w, lines, <const real*>col, rows * cols,
                   cols, size, tile, g)
        if has_padding(g):
            unstage(grad_image, <const real*>staged, size, rows, cols, g)


# ---------------------------------------------------------------------------------------------------- backward, weight

def conv2d_backward_weight(cnp.ndarray grad_output, cnp.ndarray input, geometry, Kernel kernel=AUTO):
    """grad_weight (OC, C/groups, KH, KW) from grad_output (N, OC, OH, OW) and input (N, C, H, W)."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef bint is_float32 = both_float32(grad_output, input)
    grad_output = contiguous(grad_output)
    input = contiguous(input)
    cdef cnp.ndarray grad_weight = new_planes(g.OC, g.C // g.groups, g.KH, g.KW, cnp.PyArray_TYPE(input))
    kernel = kernel_for(kernel, BACKWARD_WEIGHT, g, is_float32)
    if kernel == PACKED:
        packed_backward_weight(<float*>cnp.PyArray_DATA(grad_weight), <const float*>cnp.PyArray_DATA(grad_output),
                               <const float*>cnp.PyArray_DATA(input), g)
    elif kernel == DEPTHWISE and is_float32:
        planes_backward_weight(<float*>cnp.PyArray_DATA(grad_weight), <const float*>cnp.PyArray_DATA(grad_output),
                               <const float*>cnp.PyArray_DATA(input), g)
    elif is_float32:
        backward_weight(<float*>cnp.PyArray_DATA(grad_weight), <const float*>cnp.PyArray_DATA(grad_output),
                        <const float*>cnp.PyArray_DATA(input), g, kernel)
    else:
        backward_weight(<double*>cnp.PyArray_DATA(grad_weight), <const double*>cnp.PyArray_DATA(grad_output),
                        <const double*>cnp.PyArray_DATA(input), g, kernel)
    return grad_weight


cdef int backward_weight(real* grad_weight, const real* grad_output, const real* input, const Conv2d* g,
                         Kernel kernel) except -1:
    if real is float and kernel in (DIRECT_ROWS, DIRECT_CHANNELS):
        return direct_backward_weight(kernel == DIRECT_CHANNELS, grad_weight, NULL, grad_output, NULL, input, g)
    cdef Plan p = plan(kernel, g, sizeof(real), False)
    cdef Py_ssize_t OC = g.OC // g.groups, K = g.C // g.groups * g.KH * g.KW
    cdef bint turned = OC * K > SMALL_WEIGHT
    cdef Py_ssize_t sums = whole_lines(g.OC * K)
    cdef Py_ssize_t share = sums + p.share + (whole_lines(OC * p.tiling.rows * p.tiling.cols) if turned else 0)
    cdef cnp.ndarray memory = scratch(p.threads * share * sizeof(real))
    cdef real* partial = <real*>cnp.PyArray_DATA(memory)
    cdef int thread
    with nogil:
        if p.kernel == DEPTHWISE:
            depthwise_backward_weight(grad_weight, grad_output, input, g)
        elif p.threads == 1:
            backward_weight_share(partial, grad_output, input, g, &p, turned, partial + sums, 0)
            add_partial_sums(grad_weight, <const real*>partial, share, 1, turned, g)
        else:
            for thread in prange(p.threads, num_threads=p.threads, schedule="static", chunksize=1):
                backward_weight_share(partial + thread * share, grad_output, input, g, &p, turned,
                                      partial + thread * share + sums, thread)
            add_partial_sums(grad_weight, <const real*>partial, share, p.threads, turned, g)
    return 0


cdef void backward_weight_share(real* sums, const real* grad_output, const real* input, const Conv2d* g, const Plan* p,
                                bint turned, real* staged, int thread) noexcept nogil:
    # sums (OC, K) += grad_out (OC, pixels of the tile) @ col (K, pixels of the tile)^T
    # turned: sums (K, OC) += col (K, pixels of the tile) @ grad_out^T (pixels of the tile, OC)
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups, K = C * g.KH * g.KW
    cdef Py_ssize_t tiles = p.tiling.down * p.tiling.across, plane = g.OH * g.OW
    cdef Py_ssize_t item, n, group, start, pixels, ld, oc, i
    cdef real* lines = staged + p.staged
    cdef real* col = lines + p.lines
    cdef real* turned_grad = staged + p.share
    cdef real* group_sums
    cdef const real* image
    cdef const real* grad_out
    cdef const real* matrix
    cdef Tile tile
    memset(sums, 0, g.OC * K * sizeof(real))
    for item in range(p.items * thread // p.threads, p.items * (thread + 1) // p.threads):
        n = item // tiles // g.groups
        group = item // tiles % g.groups
        tile = tile_at(g, &p.tiling, item % tiles)
        start = tile.oh * g.OW + tile.ow
        pixels = tile.rows * tile.cols
        image = input + (n * g.C + group * C) * g.H * g.W
        grad_out = grad_output + (n * g.OC + group * OC) * plane + start
        group_sums = sums + group * OC * K
        if p.kernel == POINTWISE:
            matrix = image + start
            ld = plane
        else:
            see(col, lines, staged, image, C, tile, g)
            matrix = col
            ld = pixels
        if turned:
            for oc in range(OC):
                for i in range(pixels):
                    turned_grad[i * OC + oc] = grad_out[oc * plane + i]
            gemm(False, False, K, OC, pixels, matrix, ld, <const real*>turned_grad, OC, <real>1, group_sums, OC)
        else:
            gemm(False, True, OC, K, pixels, grad_out, plane, matrix, ld, <real>1, group_sums, K)


cdef void add_partial_sums(real* grad_weight, const real* partial, Py_ssize_t share, int threads, bint turned,
                           const Conv2d* g) noexcept nogil:
    # grad_weight (groups, OC, K)
    # partial     one per thread, `share` numbers apart: (groups, OC, K), or turned (groups, K, OC)
    cdef Py_ssize_t OC = g.OC // g.groups, K = g.C // g.groups * g.KH * g.KW, oc
    cdef int helpers = team(<double>g.OC * K * threads / SUM_SPEED)
    if helpers == 1:
        for oc in range(g.OC):
            add_row(grad_weight + oc * K, partial + (oc // OC * OC * K + oc % OC if turned else oc * K),
                    OC if turned else 1, K, share, threads)
    else:
        for oc in prange(g.OC, num_threads=helpers, schedule="static"):
            add_row(grad_weight + oc * K, partial + (oc // OC * OC * K + oc % OC if turned else oc * K),
                    OC if turned else 1, K, share, threads)


cdef void add_row(real* row, const real* partial, Py_ssize_t step, Py_ssize_t K, Py_ssize_t share,
                  int threads) noexcept nogil:
    # row (K,) = the sum over threads of partial[0], partial[step], ..., the next thread's `share` numbers further
    cdef Py_ssize_t k
    cdef int thread
    for k in range(K):
        row[k] = partial[k * step]
    for thread in range(1, threads):
        partial += share
        for k in range(K):
            row[k] += partial[k * step]


# ------------------------------------------------------------------------------------------------------ backward, bias

def conv2d_backward_bias(cnp.ndarray grad_output):
    """grad_bias (OC,) = grad_output (N, OC, OH, OW) summed over images and pixels; float32 adds planes in float64."""
    cdef bint is_float32 = both_float32(grad_output, grad_output)
    grad_output = contiguous(grad_output)
    cdef cnp.npy_intp* shape = cnp.PyArray_DIMS(grad_output)
    cdef cnp.ndarray grad_bias = new_array(1, shape + 1, cnp.PyArray_TYPE(grad_output))
    if is_float32:
        backward_bias(<float*>cnp.PyArray_DATA(grad_bias), <const float*>cnp.PyArray_DATA(grad_output),
                      shape[0], shape[1], shape[2] * shape[3])
    else:
        backward_bias(<double*>cnp.PyArray_DATA(grad_bias), <const double*>cnp.PyArray_DATA(grad_output),
                      shape[0], shape[1], shape[2] * shape[3])
    return grad_bias


cdef void backward_bias(real* grad_bias, const real* grad_output, Py_ssize_t N, Py_ssize_t OC,
                        Py_ssize_t plane) noexcept:
    cdef Py_ssize_t oc
    cdef int threads = team(<double>N * OC * plane / SUM_SPEED)
    with nogil:
        if threads == 1:
            for oc in range(OC):
                grad_bias[oc] = channel_sum(grad_output + oc * plane, N, OC, plane)
        else:
            for oc in prange(OC, num_threads=threads, schedule="static"):
                grad_bias[oc] = channel_sum(grad_output + oc * plane, N, OC, plane)


cdef real channel_sum(const real* grad_output, Py_ssize_t N, Py_ssize_t OC, Py_ssize_t plane) noexcept nogil:
    cdef Py_ssize_t n
    cdef double total = 0
    for n in range(N):
        total += sum_run(grad_output + n * OC * plane, plane)
    return <real>total
