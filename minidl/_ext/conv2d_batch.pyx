"""The gradient of a convolution's input with images in the lanes of a vector: float32, few channels, many images.

Where rows are short, or padded by the reach of the kernel, lanes along rows (conv2d_direct_rows.c) compute much that
is zero or thrown away; with an image per lane only taps that exist are multiplied (conv2d_direct_batch.c).  Images
that do not fill a vector go to the other direct kernels, unless a vector that is partly empty is faster.  An item is a
band of rows of one vector of images, and a thread takes a contiguous share of them.  The bits are those of the other
direct kernels, whatever the batch and the number of threads.
"""

cimport numpy as cnp
from cython.parallel cimport prange

from minidl._ext.arrays cimport scratch
from minidl._ext.conv2d_direct cimport (channels_share, direct_backward_input, direct_fits_input, direct_wins,
                                        rows_share)
from minidl._ext.conv2d_table cimport BACKWARD_INPUT
from minidl._ext.geometry cimport Conv2d
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.threads cimport team

cnp.import_array()

cdef extern from "conv2d_batch.h" nogil:
    struct conv2d_direct_batch:
        void (*pack)(float* packed, const float* weight, const batch_shape* s) noexcept nogil
        Py_ssize_t (*scratch_size)(const batch_shape* s, Py_ssize_t rows) noexcept nogil
        void (*band)(float* grad_input, const float* grad, const unsigned char* codes, Py_ssize_t images,
                     const float* packed, float* scratch, const batch_shape* s, Py_ssize_t y,
                     Py_ssize_t rows) noexcept nogil

    const conv2d_direct_batch* conv2d_direct_batch_for(int level) noexcept

cdef enum:
    BAND_BYTES = 512 * 1024     # of a thread's scratch: it stays in a second-level cache
    LANE_SPEED = 2500           # multiply-adds per microsecond, thread and lane, for the thread policy
    MOST_BYTES = 1024 * 1024    # of scratch for a band of one row: beyond, it comes from memory for each row anew
    TURN = 12                   # taps for which the kernel computes as long as it turns pixels round

cdef double IM2COL_SHARE = 0.6  # with a stride: of the time that im2col needs for a vector of images

cdef struct Plan:               # how the work of one call is cut up
    const conv2d_direct_batch* kernels
    batch_shape s
    Py_ssize_t N, lanes         # images, and those of a vector
    Py_ssize_t band, bands      # rows of a band, bands of an image
    Py_ssize_t items, share     # bands of all vectors; numbers of a thread's scratch
    int threads


cdef Plan plan(Py_ssize_t N, const Conv2d* g) noexcept nogil:
    cdef Plan p
    cdef int level = isa_level()
    cdef Py_ssize_t vectors, wanted
    p.kernels = conv2d_direct_batch_for(level)
    p.s = batch_shape(g.C, g.H, g.W, g.OC, g.OH, g.OW, g.KH, g.KW, g.stride_h, g.stride_w, g.pad_top, g.pad_left,
                      g.dilation_h, g.dilation_w)
    p.N, p.lanes = N, 4 << level
    vectors = (N + p.lanes - 1) // p.lanes
    p.threads = team(<double>vectors * g.OC * g.OH * g.OW * g.C * g.KH * g.KW / LANE_SPEED)
    wanted = p.threads if vectors % p.threads and vectors < 8 * p.threads else 1
    p.band = (g.H + wanted - 1) // wanted
    while p.band > 1 and p.kernels.scratch_size(&p.s, p.band) * <Py_ssize_t>sizeof(float) > BAND_BYTES:
        p.band = (p.band + 1) // 2
    p.bands = (g.H + p.band - 1) // p.band
    p.items = vectors * p.bands
    p.share = lines(p.kernels.scratch_size(&p.s, p.band))
    return p


cdef inline Py_ssize_t lines(Py_ssize_t numbers) noexcept nogil:
    """At least so many numbers: what follows starts at a cache line of its own."""
    return (numbers + 15) // 16 * 16


cdef int batch_backward_input(float* grad_input, const float* grad_output, const unsigned char* codes,
                              const float* weight, const Conv2d* g) except -1:
    # grad_input (N, C, H, W)   grad_output (N, OC, OH, OW)   weight (OC, C, KH, KW)
    # with codes: grad_output, codes (N, OC, OH // 2, OW // 2)
    cdef Py_ssize_t lanes = 4 << isa_level(), left = g.N % lanes, first
    cdef Py_ssize_t image = g.OC * (g.OH * g.OW if codes == NULL else (g.OH // 2) * (g.OW // 2))
    cdef Conv2d rest = g[0]
    if not direct_fits_input(g) or left >= least_images(g):
        left = 0
    first = rest.N = g.N - left
    if first:
        whole_vectors(grad_input, grad_output, codes, weight, &rest)
    if left:
        rest.N = left
        direct_backward_input(direct_wins(True, BACKWARD_INPUT, g), grad_input + first * g.C * g.H * g.W,
                              grad_output + first * image, codes + first * image if codes != NULL else NULL, weight,
                              &rest)
    return 0


cdef int whole_vectors(float* grad_input, const float* grad_output, const unsigned char* codes, const float* weight,
                       const Conv2d* g) except -1:
    # scratch: the packed weight, then what the kernel asks for, for each thread
    cdef Plan p = plan(g.N, g)
    cdef Py_ssize_t packed_size = lines(g.OC * g.C * g.KH * g.KW)
    cdef cnp.ndarray memory = scratch((packed_size + p.threads * p.share) * sizeof(float))
    cdef float* packed = <float*>cnp.PyArray_DATA(memory)
    cdef float* mine = packed + packed_size
    cdef int thread
    with nogil:
        p.kernels.pack(packed, weight, &p.s)
        if p.threads == 1:
            bands(grad_input, grad_output, codes, packed, mine, &p, 0)
        else:
            for thread in prange(p.threads, num_threads=p.threads, schedule="static", chunksize=1):
                bands(grad_input, grad_output, codes, packed, mine + thread * p.share, &p, thread)
    return 0


cdef void bands(float* grad_input, const float* grad_output, const unsigned char* codes, const float* packed,
                float* mine, const Plan* p, int thread) noexcept nogil:
    cdef Py_ssize_t item, n, y, image = p.s.OC * p.s.OH * p.s.OW
    if codes != NULL:
        image = p.s.OC * (p.s.OH // 2) * (p.s.OW // 2)
    for item in range(p.items * thread // p.threads, p.items * (thread + 1) // p.threads):
        n = item // p.bands * p.lanes
        y = item % p.bands * p.band
        p.kernels.band(grad_input + n * p.s.C * p.s.H * p.s.W, grad_output + n * image,
                       codes + n * image if codes != NULL else NULL, min(p.N - n, p.lanes), packed, mine, &p.s, y,
                       min(p.band, p.s.H - y))


# ----------------------------------------------------------------------------------------------------- when it is taken

cdef Py_ssize_t existing_taps(Py_ssize_t size, Py_ssize_t out_size, Py_ssize_t taps, Py_ssize_t dilation,
                              Py_ssize_t pad) noexcept nogil:
    """Pairs of a row (column) of the input and a tap that meet a row (column) of the output; stride 1."""
    cdef Py_ssize_t tap, shift, count = 0
    for tap in range(taps):
        shift = tap * dilation - pad
        count += max(min(size, out_size + shift) - max(shift, 0), 0)
    return count


cdef double batch_share(const Conv2d* g) noexcept nogil:
    """What rows_share and channels_share of conv2d_direct.pyx are for these lanes: above 1, for taps that do not exist
    are left out, less the time for turning pixels round."""
    cdef double taps = g.C * g.KH * g.KW
    cdef double exist = (<double>existing_taps(g.H, g.OH, g.KH, g.dilation_h, g.pad_top)
                         * existing_taps(g.W, g.OW, g.KW, g.dilation_w, g.pad_left))
    return <double>g.H * g.W * g.KH * g.KW / max(exist, 1) * taps / (taps + TURN)


cdef Py_ssize_t least_images(const Conv2d* g) noexcept nogil:
    """From how many images in a vector on it beats the kernels that compute one at a time; stride 1."""
    return <Py_ssize_t>((4 << isa_level()) * max(rows_share(BACKWARD_INPUT, g), channels_share(BACKWARD_INPUT, g))
                        / batch_share(g)) + 1


cdef bint batch_wins(const Conv2d* g) noexcept nogil:
    """Whether the other direct kernels, or with a stride im2col, are slower.  Measured with AVX-512."""
    cdef Plan p = plan(g.N, g)
    if p.kernels.scratch_size(&p.s, 1) * <Py_ssize_t>sizeof(float) > MOST_BYTES:
        return False
    if direct_fits_input(g):
        return (least_images(g) <= min(g.N, p.lanes)
                and (direct_wins(False, BACKWARD_INPUT, g) or direct_wins(True, BACKWARD_INPUT, g)))
    return g.KH * g.KW > 1 and g.N > 0 and (g.N + p.lanes - 1) // p.lanes * p.lanes * IM2COL_SHARE <= g.N
