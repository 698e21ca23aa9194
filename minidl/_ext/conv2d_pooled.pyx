"""The gradients of a convolution where relu and 2x2 max pooling follow: float32, stride and dilation 1.

Three quarters of the gradient's pixels are zero, which conv2d_pooled_weight.c and conv2d_pooled_input.c leave out.  A
thread takes a contiguous share of the images; of the weight's gradient it adds up sums of its own, which are added in
the order of the threads.  The numbers are those of the dense kernels but for the order of their sums.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from minidl._ext.arrays cimport new_planes, scratch
from minidl._ext.geometry cimport Conv2d, conv2d_fields
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.storage cimport new_array
from minidl._ext.threads cimport team

cnp.import_array()

cdef extern from "conv2d_pooled.h" nogil:
    struct pooled_shape:
        Py_ssize_t C, H, W, OC, OH, OW, KH, KW, top, left

    struct conv2d_pooled_weight:
        Py_ssize_t (*scratch_size)(const pooled_shape* s) noexcept nogil
        Py_ssize_t (*total_size)(const pooled_shape* s) noexcept nogil
        void (*image)(float* total, float* sums, const float* grad, const unsigned char* codes, const float* image,
                      float* scratch, const pooled_shape* s) noexcept nogil
        void (*result)(float* grad_weight, const float* total, const pooled_shape* s) noexcept nogil

    struct conv2d_pooled_input:
        Py_ssize_t (*packed_size)(const pooled_shape* s) noexcept nogil
        Py_ssize_t (*scratch_size)(const pooled_shape* s) noexcept nogil
        void (*pack)(float* packed, const float* weight, const pooled_shape* s) noexcept nogil
        void (*image)(float* grad_image, const float* grad, const unsigned char* codes, const float* packed,
                      float* scratch, const pooled_shape* s) noexcept nogil

    const conv2d_pooled_weight* conv2d_pooled_weight_for(int level) noexcept
    const conv2d_pooled_input* conv2d_pooled_input_for(int level) noexcept

cdef enum:
    LANE_SPEED = 1200               # multiply-adds per microsecond, thread and lane, for the thread policy
    MOST_BYTES = 512 * 1024         # of a thread's scratch: it stays in a second-level cache


cdef pooled_shape shape_of(const Conv2d* g) noexcept nogil:
    return pooled_shape(g.C, g.H, g.W, g.OC, g.OH, g.OW, g.KH, g.KW, g.pad_top, g.pad_left)


cdef bint slides(const Conv2d* g) noexcept nogil:
    """Whether both kernels compute this geometry."""
    return (g.stride_h == g.stride_w == 1 and g.dilation_h == g.dilation_w == 1 and g.groups == 1)


cdef bint pooled_weight_wins(const Conv2d* g) noexcept nogil:
    """Whether the weight's gradient is faster than by a dense kernel; measured with every instruction set."""
    cdef pooled_shape s = shape_of(g)
    cdef const conv2d_pooled_weight* kernels = conv2d_pooled_weight_for(isa_level())
    return (slides(g) and g.C * g.KH * g.KW >= 4 << isa_level()
            and kernels.scratch_size(&s) * <Py_ssize_t>sizeof(float) <= MOST_BYTES)


cdef bint pooled_input_wins(const Conv2d* g) noexcept nogil:
    """The same for the input's: channels that share a patch pay for adding it to the image, and vectors are full."""
    cdef pooled_shape s = shape_of(g)
    cdef const conv2d_pooled_input* kernels = conv2d_pooled_input_for(isa_level())
    cdef Py_ssize_t lanes = 4 << isa_level(), row = g.C * g.KW
    return (slides(g) and g.OC >= 16 and 10 * ((row + lanes - 1) // lanes * lanes) <= 11 * row
            and (kernels.scratch_size(&s) + kernels.packed_size(&s)) * <Py_ssize_t>sizeof(float) <= MOST_BYTES)


cdef int threads_for(const Conv2d* g) noexcept nogil:
    return max(1, min(team(<double>g.N * g.OC * (g.OH // 2) * (g.OW // 2) * g.C * g.KH * g.KW
                           / (LANE_SPEED * (4 << isa_level()))), g.N))


cdef inline Py_ssize_t lines(Py_ssize_t numbers) noexcept nogil:
    """At least so many numbers: what follows starts at a cache line of its own."""
    return (numbers + 15) // 16 * 16


cdef int pooled_backward_weight(float* grad_weight, float* grad_bias, const float* grad_output,
                                const unsigned char* codes, const float* input, const Conv2d* g) except -1:
    # grad_weight (OC, C, KH, KW)   grad_bias (OC,)   grad_output, codes (N, OC, OH // 2, OW // 2)   input (N, C, H, W)
    # scratch, for each thread: its total, then what the kernel asks for; then the sums of each gradient plane (N, OC)
    cdef const conv2d_pooled_weight* kernels = conv2d_pooled_weight_for(isa_level())
    cdef pooled_shape s = shape_of(g)
    cdef Py_ssize_t total_size = kernels.total_size(&s), i, n
    cdef Py_ssize_t share = lines(total_size) + lines(kernels.scratch_size(&s))
    cdef int thread, threads = threads_for(g)
    cdef cnp.ndarray memory = scratch((threads * share + g.N * g.OC) * sizeof(float))
    cdef float* total = <float*>cnp.PyArray_DATA(memory)
    cdef float* sums = total + threads * share
    cdef double bias
    with nogil:
        memset(sums, 0, g.N * g.OC * sizeof(float))
        if threads == 1:
            weight_share(kernels, total, total_size, sums, grad_output, codes, input, &s, 0, g.N)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                weight_share(kernels, total + thread * share, total_size, sums, grad_output, codes, input, &s,
                             g.N * thread // threads, g.N * (thread + 1) // threads)
        for thread in range(1, threads):
            for i in range(total_size):
                total[i] += total[thread * share + i]
        kernels.result(grad_weight, total, &s)
        for i in range(g.OC):
            bias = 0
            for n in range(g.N):
                bias += sums[n * g.OC + i]
            grad_bias[i] = <float>bias
    return 0


cdef void weight_share(const conv2d_pooled_weight* kernels, float* total, Py_ssize_t total_size, float* sums,
                       const float* grad_output, const unsigned char* codes, const float* input,
                       const pooled_shape* s, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t n, image = s.OC * (s.OH // 2) * (s.OW // 2)
    memset(total, 0, total_size * sizeof(float))
    for n in range(first, last):
        kernels.image(total, sums + n * s.OC, grad_output + n * image, codes + n * image,
                      input + n * s.C * s.H * s.W, total + lines(total_size), s)


cdef int pooled_backward_input(float* grad_input, const float* grad_output, const unsigned char* codes,
                               const float* weight, const Conv2d* g) except -1:
    # grad_input (N, C, H, W)   grad_output, codes (N, OC, OH // 2, OW // 2)   weight (OC, C, KH, KW)
    # scratch: the packed weight, then what the kernel asks for, for each thread
    cdef const conv2d_pooled_input* kernels = conv2d_pooled_input_for(isa_level())
    cdef pooled_shape s = shape_of(g)
    cdef Py_ssize_t packed_size = lines(kernels.packed_size(&s)), share = lines(kernels.scratch_size(&s))
    cdef int thread, threads = threads_for(g)
    cdef cnp.ndarray memory = scratch((packed_size + threads * share) * sizeof(float))
    cdef float* packed = <float*>cnp.PyArray_DATA(memory)
    cdef float* mine = packed + packed_size
    with nogil:
        kernels.pack(packed, weight, &s)
        if threads == 1:
            input_share(kernels, grad_input, grad_output, codes, packed, mine, &s, 0, g.N)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                input_share(kernels, grad_input, grad_output, codes, packed, mine + thread * share, &s,
                            g.N * thread // threads, g.N * (thread + 1) // threads)
    return 0


cdef void input_share(const conv2d_pooled_input* kernels, float* grad_input, const float* grad_output,
                      const unsigned char* codes, const float* packed, float* mine,
                      const pooled_shape* s, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t n, image = s.OC * (s.OH // 2) * (s.OW // 2)
    for n in range(first, last):
        kernels.image(grad_input + n * s.C * s.H * s.W, grad_output + n * image, codes + n * image,
                      packed, mine, s)


def backward_weight(cnp.ndarray grad_output, cnp.ndarray codes, cnp.ndarray input, geometry):
    """(grad_weight (OC, C, KH, KW), grad_bias (OC,)) from contiguous grad_output and codes (N, OC, OH // 2, OW // 2) and
    input (N, C, H, W): the kernel on its own, for tests; ValueError if it does not compute this geometry."""
    cdef const Conv2d* g = checked(geometry)
    cdef cnp.npy_intp size = g.OC
    cdef cnp.ndarray grad_weight = new_planes(g.OC, g.C, g.KH, g.KW, cnp.NPY_FLOAT)
    cdef cnp.ndarray grad_bias = new_array(1, &size, cnp.NPY_FLOAT)
    pooled_backward_weight(<float*>cnp.PyArray_DATA(grad_weight), <float*>cnp.PyArray_DATA(grad_bias),
                           <const float*>cnp.PyArray_DATA(grad_output), <const unsigned char*>cnp.PyArray_DATA(codes),
                           <const float*>cnp.PyArray_DATA(input), g)
    return grad_weight, grad_bias


def backward_input(cnp.ndarray grad_output, cnp.ndarray codes, cnp.ndarray weight, geometry):
    """grad_input (N, C, H, W) from contiguous grad_output and codes (N, OC, OH // 2, OW // 2) and weight
    (OC, C, KH, KW), likewise."""
    cdef const Conv2d* g = checked(geometry)
    cdef cnp.ndarray grad_input = new_planes(g.N, g.C, g.H, g.W, cnp.NPY_FLOAT)
    pooled_backward_input(<float*>cnp.PyArray_DATA(grad_input), <const float*>cnp.PyArray_DATA(grad_output),
                          <const unsigned char*>cnp.PyArray_DATA(codes), <const float*>cnp.PyArray_DATA(weight), g)
    return grad_input


cdef const Conv2d* checked(geometry) except NULL:
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    if not slides(g):
        raise ValueError("conv2d: gradients from pooled gradients are made for stride and dilation 1 and one group")
    return g
