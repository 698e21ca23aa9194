"""max_pool2d(relu(conv2d(x)), 2) with images in the lanes of a vector: float32, few channels, many images.

conv2d_direct_batch_pool.c says how.  A thread takes a contiguous share of the vectors of images.  The bits are those of the
other direct kernels, whatever the batch and the number of threads.  Images may come, and results may stay, with the
images of a vector side by side: (vectors, C, H, W, lanes), the last vector filled up with zeros.
"""

cimport numpy as cnp
from cython.parallel cimport prange

from minidl._ext.arrays cimport scratch
from minidl._ext.conv2d_batch cimport batch_shape
from minidl._ext.geometry cimport Conv2d
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.threads cimport team

cnp.import_array()

cdef extern from "conv2d_batch.h" nogil:
    struct conv2d_batch_pool:
        Py_ssize_t (*packed_size)(const batch_shape* s) noexcept nogil
        Py_ssize_t (*scratch_size)(const batch_shape* s) noexcept nogil
        void (*pack)(float* packed, const float* weight, const float* bias, const batch_shape* s) noexcept nogil
        void (*images)(float* out, unsigned char* codes, const float* images, Py_ssize_t count, int kept_in,
                       int kept_out, const float* packed, float* scratch, const batch_shape* s) noexcept nogil

    const conv2d_batch_pool* conv2d_batch_pool_for(int level) noexcept

cdef enum:
    LANE_SPEED = 2500           # multiply-adds per microsecond, thread and lane, for the thread policy
    MOST_BYTES = 768 * 1024     # of a thread's scratch: it stays in a second-level cache


cdef batch_shape shape_of(const Conv2d* g) noexcept nogil:
    return batch_shape(g.C, g.H, g.W, g.OC, g.OH, g.OW, g.KH, g.KW, 1, 1, g.pad_top, g.pad_left, 1, 1)


cdef int threads_for(const Conv2d* g) noexcept nogil:
    return team(<double>g.N * g.OC * g.OH * g.OW * g.C * g.KH * g.KW / (LANE_SPEED * (4 << isa_level())))


cdef inline Py_ssize_t lines(Py_ssize_t numbers) noexcept nogil:
    """At least so many numbers: what follows starts at a cache line of its own."""
    return (numbers + 15) // 16 * 16


cdef bint batch_pool_fits(const Conv2d* g) noexcept nogil:
    """Whether the kernel computes this geometry, from the cache."""
    cdef batch_shape s = shape_of(g)
    return (g.stride_h == g.stride_w == 1 and g.dilation_h == g.dilation_w == 1 and g.groups == 1
            and conv2d_batch_pool_for(isa_level()).scratch_size(&s) * <Py_ssize_t>sizeof(float) <= MOST_BYTES)


cdef bint wins(const Conv2d* g) noexcept nogil:
    """Whether it is faster than a kernel for one image at a time, which keeps up where rows are whole vectors before the
    pooling and after it.  Measured with every instruction set."""
    return batch_pool_fits(g) and g.OW % (2 * (4 << isa_level())) != 0


cdef Py_ssize_t batch_pool_images(const Conv2d* g) noexcept nogil:
    """How many of the images fill vectors and give each thread as many of them; the others are for other kernels."""
    cdef Py_ssize_t at_once = (4 << isa_level()) * threads_for(g)
    return g.N // at_once * at_once if wins(g) else 0


cdef bint batch_pool_keeps(const Conv2d* g) noexcept nogil:
    """Whether it is the faster one for all images, those of a last vector that is partly empty too."""
    cdef Py_ssize_t at_once = (4 << isa_level()) * threads_for(g)
    return wins(g) and g.N > 0 and 5 * ((g.N + at_once - 1) // at_once * at_once) <= 6 * g.N


cdef int batch_pool_forward(float* output, unsigned char* codes, const float* input, const float* weight,
                            const float* bias, bint kept_in, bint kept_out, const Conv2d* g) except -1:
    # output, codes or NULL (N, OC, OH // 2, OW // 2)   input (N, C, H, W)   weight (OC, C, KH, KW)   bias (OC,)
    # kept_in: input (vectors, C, H, W, lanes)   kept_out: output (vectors, OC, OH // 2, OW // 2, lanes)
    # scratch: the packed weight, then what the kernel asks for, for each thread
    cdef const conv2d_batch_pool* kernels = conv2d_batch_pool_for(isa_level())
    cdef batch_shape s = shape_of(g)
    cdef Py_ssize_t packed_size = lines(kernels.packed_size(&s)), share = lines(kernels.scratch_size(&s))
    cdef int thread, threads = threads_for(g)
    cdef cnp.ndarray memory = scratch((packed_size + threads * share) * sizeof(float))
    cdef float* packed = <float*>cnp.PyArray_DATA(memory)
    cdef float* mine = packed + packed_size
    with nogil:
        kernels.pack(packed, weight, bias, &s)
        if threads == 1:
            vectors(kernels, output, codes, input, kept_in, kept_out, packed, mine, &s, g.N, 0, 1)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                vectors(kernels, output, codes, input, kept_in, kept_out, packed, mine + thread * share, &s, g.N,
                        thread, threads)
    return 0


cdef void vectors(const conv2d_batch_pool* kernels, float* output, unsigned char* codes, const float* input,
                  bint kept_in, bint kept_out, const float* packed, float* mine, const batch_shape* s, Py_ssize_t N,
                  int thread, int threads) noexcept nogil:
    cdef Py_ssize_t lanes = 4 << isa_level(), count = (N + lanes - 1) // lanes, vector, n
    cdef Py_ssize_t image = s.C * s.H * s.W, pooled = s.OC * (s.OH // 2) * (s.OW // 2)
    for vector in range(count * thread // threads, count * (thread + 1) // threads):
        n = vector * lanes
        kernels.images(output + n * pooled, codes + n * pooled if codes != NULL else NULL, input + n * image,
                       min(N - n, lanes), kept_in, kept_out, packed, mine, s)
