"""Threads and memory of the kernels in C for many channels: conv2d_packed.c, conv2d_winograd.h and conv2d_weight.c,
and of the one for depthwise convolutions: conv2d_planes.c.

The input gradient with stride 1 is the convolution of grad_output, padded by what the kernel reaches less the padding,
with the weight turned by 180 degrees.  Winograd's kernels know no dilation: they are given its phases (conv2d_phases.pyx).
"""

cimport numpy as cnp
from cython.parallel cimport prange

from minidl._ext.arrays cimport scratch
from minidl._ext.conv2d_phases cimport Phases, join_phases, split_phases
from minidl._ext.conv2d_table cimport WINOGRAD, WINOGRAD_F4, Kernel
from minidl._ext.geometry cimport Conv2d
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.threads cimport team

cnp.import_array()

cdef extern from "conv2d_job.h" nogil:
    struct conv2d_job:
        ptrdiff_t N, groups, C, H, W, OC, OH, OW
        ptrdiff_t KH, KW, stride_h, stride_w, top, left, dilation_h, dilation_w
        ptrdiff_t oc_step, c_step
        int flipped
        ptrdiff_t blocks, items, shares, sums, packed, scratch

ctypedef void (*Plan)(conv2d_job*, int) noexcept nogil
ctypedef void (*Pack)(const conv2d_job*, float*, const float*, ptrdiff_t, ptrdiff_t) noexcept nogil
ctypedef void (*Multiply)(const conv2d_job*, float*, const float*, const float*, const float*, float*, ptrdiff_t,
                          ptrdiff_t) noexcept nogil
ctypedef void (*Accumulate)(const conv2d_job*, float*, const float*, const float*, float*, int) noexcept nogil
ctypedef void (*MultiplyWeight)(const conv2d_job*, float*, const float*, const float*, float*, ptrdiff_t,
                                ptrdiff_t) noexcept nogil
ctypedef void (*Finish)(const conv2d_job*, float*, const float*, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef extern from "conv2d_job.h" nogil:
    struct conv2d_packed:
        Plan plan
        Pack pack
        Multiply multiply

    struct conv2d_winograd_f2:
        Plan plan
        Pack pack
        Multiply multiply

    struct conv2d_winograd_f4:
        Plan plan
        Pack pack
        Multiply multiply

    struct conv2d_planes:
        Plan plan
        Multiply multiply
        MultiplyWeight multiply_weight

    struct conv2d_weight:
        Plan plan
        Accumulate accumulate
        Finish finish

    const conv2d_planes* conv2d_planes_for(int)
    const conv2d_weight* conv2d_weight_for(int)
    const conv2d_packed* conv2d_packed_for(int)
    const conv2d_winograd_f2* conv2d_winograd_f2_for(int)
    const conv2d_winograd_f4* conv2d_winograd_f4_for(int)

cdef enum:
    SPEED = 100000          # multiply-adds per microsecond and thread, for the thread policy
    PLANES_SPEED = 20000    # of conv2d_planes.c


cdef conv2d_job forward_job(const Conv2d* g) noexcept nogil:
    cdef conv2d_job job
    job.N, job.groups, job.C, job.OC = g.N, g.groups, g.C // g.groups, g.OC // g.groups
    job.H, job.W, job.OH, job.OW, job.KH, job.KW = g.H, g.W, g.OH, g.OW, g.KH, g.KW
    job.stride_h, job.stride_w, job.dilation_h, job.dilation_w = g.stride_h, g.stride_w, g.dilation_h, g.dilation_w
    job.top, job.left = g.pad_top, g.pad_left
    job.c_step = g.KH * g.KW
    job.oc_step = job.C * job.c_step
    job.flipped = False
    return job


cdef conv2d_job backward_input_job(const Conv2d* g) noexcept nogil:
    # stride 1
    cdef conv2d_job job
    job.N, job.groups, job.C, job.OC = g.N, g.groups, g.OC // g.groups, g.C // g.groups
    job.H, job.W, job.OH, job.OW, job.KH, job.KW = g.OH, g.OW, g.H, g.W, g.KH, g.KW
    job.stride_h, job.stride_w, job.dilation_h, job.dilation_w = 1, 1, g.dilation_h, g.dilation_w
    job.top = (g.KH - 1) * g.dilation_h - g.pad_top
    job.left = (g.KW - 1) * g.dilation_w - g.pad_left
    job.oc_step = g.KH * g.KW
    job.c_step = job.OC * job.oc_step
    job.flipped = True
    return job


cdef bint has_phases(const conv2d_job* job, Kernel kernel) noexcept nogil:
    return kernel == WINOGRAD and (job.dilation_h > 1 or job.dilation_w > 1)


cdef conv2d_job phases_job(const conv2d_job* job) noexcept nogil:
    """The convolution of all phases of a dilated one with stride 1: their padding is in them."""
    cdef conv2d_job phases = job[0]
    phases.N = job.N * job.dilation_h * job.dilation_w
    phases.OH = (job.OH + job.dilation_h - 1) // job.dilation_h
    phases.OW = (job.OW + job.dilation_w - 1) // job.dilation_w
    phases.H, phases.W = phases.OH + job.KH - 1, phases.OW + job.KW - 1
    phases.top = phases.left = 0
    phases.dilation_h = phases.dilation_w = 1
    return phases


cdef struct Kernels:
    Plan plan
    Pack pack
    Multiply multiply


cdef Kernels kernels_of(Kernel kernel) noexcept nogil:
    cdef int level = isa_level()
    if kernel == WINOGRAD:
        return Kernels(conv2d_winograd_f2_for(level).plan, conv2d_winograd_f2_for(level).pack,
                       conv2d_winograd_f2_for(level).multiply)
    if kernel == WINOGRAD_F4:
        return Kernels(conv2d_winograd_f4_for(level).plan, conv2d_winograd_f4_for(level).pack,
                       conv2d_winograd_f4_for(level).multiply)
    return Kernels(conv2d_packed_for(level).plan, conv2d_packed_for(level).pack, conv2d_packed_for(level).multiply)


cdef int threads_for(const conv2d_job* job) noexcept nogil:
    return team(<double>job.N * job.groups * job.OC * job.OH * job.OW * job.C * job.KH * job.KW / SPEED)


cdef int packed_forward(float* output, const float* input, const float* weight, const float* bias, const Conv2d* g,
                        Kernel kernel, const float* packed=NULL) except -1:
    # output (N, OC, OH, OW)   input (N, C, H, W)   weight (OC, C / groups, KH, KW)   bias (OC,) or NULL
    # packed: what pack_weight has made of weight, or NULL: here and now
    cdef conv2d_job job = forward_job(g)
    return convolve_phases(&job, output, input, weight, bias, kernel, packed)


cdef int packed_backward_input(float* grad_input, const float* grad_output, const float* weight, const Conv2d* g,
                               Kernel kernel) except -1:
    # grad_input (N, C, H, W)   grad_output (N, OC, OH, OW)   weight (OC, C / groups, KH, KW)   stride 1
    cdef conv2d_job job = backward_input_job(g)
    return convolve_phases(&job, grad_input, grad_output, weight, NULL, kernel, NULL)


cdef conv2d_job computed_job(const Conv2d* g, Kernel kernel) noexcept nogil:
    """What the kernel is given forward."""
    cdef conv2d_job job = forward_job(g)
    return phases_job(&job) if has_phases(&job, kernel) else job


cdef Py_ssize_t packed_numbers(const Conv2d* g, Kernel kernel) noexcept nogil:
    """How many numbers pack_weight writes for this geometry; 0: the kernel reads the weight as it is."""
    cdef conv2d_job job = computed_job(g, kernel)
    kernels_of(kernel).plan(&job, threads_for(&job))
    return job.packed


cdef void pack_weight(float* packed, const float* weight, const Conv2d* g, Kernel kernel) noexcept nogil:
    """The weight in the order in which packed_forward's kernel reads it, for as many threads as are allowed now."""
    cdef conv2d_job job = computed_job(g, kernel)
    cdef int threads = threads_for(&job)
    kernels_of(kernel).plan(&job, threads)
    pack_blocks(&job, packed, weight, kernel, threads)


cdef void pack_blocks(const conv2d_job* job, float* packed, const float* weight, Kernel kernel,
                      int threads) noexcept nogil:
    cdef Pack pack = kernels_of(kernel).pack
    cdef Py_ssize_t blocks = job.groups * job.blocks
    cdef int thread
    if threads == 1:
        pack(job, packed, weight, 0, blocks)
    else:
        for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            pack(job, packed, weight, blocks * thread // threads, blocks * (thread + 1) // threads)


cdef int convolve_phases(conv2d_job* job, float* output, const float* input, const float* weight, const float* bias,
                         Kernel kernel, const float* packed) except -1:
    # scratch: the phases of the input, then those of the output
    cdef conv2d_job own
    cdef Phases given, made
    cdef cnp.ndarray memory
    cdef float* inside
    cdef float* outside
    cdef int threads
    if not has_phases(job, kernel):
        return convolve(job, output, input, weight, bias, kernel, packed)
    own = phases_job(job)
    given = Phases(job.N, job.groups * job.C, job.H, job.W, own.H, own.W, job.dilation_h, job.dilation_w, job.top,
                   job.left)
    made = Phases(job.N, job.groups * job.OC, job.OH, job.OW, own.OH, own.OW, job.dilation_h, job.dilation_w, 0, 0)
    memory = scratch(own.N * (given.C * own.H * own.W + made.C * own.OH * own.OW) * sizeof(float))
    inside = <float*>cnp.PyArray_DATA(memory)
    outside = inside + own.N * given.C * own.H * own.W
    threads = threads_for(job)
    with nogil:
        split_phases(inside, input, &given, threads)
    convolve(&own, outside, inside, weight, bias, kernel, packed)
    with nogil:
        join_phases(output, outside, &made, threads)
    return 0


cdef int convolve(conv2d_job* job, float* output, const float* input, const float* weight, const float* bias,
                  Kernel kernel, const float* packed) except -1:
    # scratch: the packed weight, unless there is one, and for each thread what the kernel asks for
    cdef int threads = threads_for(job), thread
    cdef Kernels kernels = kernels_of(kernel)
    cdef Py_ssize_t packing
    cdef cnp.ndarray memory
    cdef float* mine
    if job.N == 0:
        return 0
    kernels.plan(job, threads)
    packing = job.packed if packed == NULL else 0
    memory = scratch((packing + threads * job.scratch + 64) * sizeof(float))
    mine = <float*>cnp.PyArray_DATA(memory) + (packing + 31) // 32 * 32
    with nogil:
        if packing:
            pack_blocks(job, <float*>cnp.PyArray_DATA(memory), weight, kernel, threads)
            packed = <const float*>cnp.PyArray_DATA(memory)
        elif packed == NULL:
            packed = weight
        if threads == 1:
            kernels.multiply(job, output, input, packed, bias, mine, 0, job.items)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                kernels.multiply(job, output, input, packed, bias, mine + thread * job.scratch,
                                 job.items * thread // threads, job.items * (thread + 1) // threads)
    return 0


cdef int packed_backward_weight(float* grad_weight, const float* grad_output, const float* input,
                                const Conv2d* g) except -1:
    # grad_weight (OC, C / groups, KH, KW)   grad_output (N, OC, OH, OW)   input (N, C, H, W)
    cdef conv2d_job job = forward_job(g)
    cdef const conv2d_weight* kernel = conv2d_weight_for(isa_level())
    cdef int threads = team(<double>g.N * g.OC * g.OH * g.OW * job.C * g.KH * g.KW / SPEED), thread
    cdef Py_ssize_t blocks
    cdef cnp.ndarray memory
    cdef float* sums
    cdef float* mine
    kernel.plan(&job, threads)
    blocks = job.groups * job.blocks
    memory = scratch((job.shares * job.sums + threads * job.scratch) * sizeof(float))
    sums = <float*>cnp.PyArray_DATA(memory)
    mine = sums + job.shares * job.sums
    with nogil:
        if threads == 1:
            kernel.accumulate(&job, sums, grad_output, input, mine, 0)
            kernel.finish(&job, grad_weight, sums, 0, blocks)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                kernel.accumulate(&job, sums, grad_output, input, mine + thread * job.scratch, thread)
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                kernel.finish(&job, grad_weight, sums, blocks * thread // threads, blocks * (thread + 1) // threads)
    return 0


cdef int convolve_planes(conv2d_job* job, float* output, const float* input, const float* weight,
                            const float* bias) except -1:
    cdef const conv2d_planes* kernel = conv2d_planes_for(isa_level())
    cdef int threads = team(<double>job.N * job.groups * job.OC * job.OH * job.OW * job.C * job.KH * job.KW /
                            PLANES_SPEED), thread
    cdef cnp.ndarray memory
    cdef float* mine
    kernel.plan(job, threads)
    memory = scratch(threads * job.scratch * sizeof(float))
    mine = <float*>cnp.PyArray_DATA(memory)
    with nogil:
        if threads == 1:
            kernel.multiply(job, output, input, weight, bias, mine, 0, job.items)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                kernel.multiply(job, output, input, weight, bias, mine + thread * job.scratch,
                                job.items * thread // threads, job.items * (thread + 1) // threads)
    return 0


cdef int planes_forward(float* output, const float* input, const float* weight, const float* bias,
                        const Conv2d* g) except -1:
    # output (N, OC, OH, OW)   input (N, C, H, W)   weight (OC, C / groups, KH, KW)   bias (OC,) or NULL
    cdef conv2d_job job = forward_job(g)
    return convolve_planes(&job, output, input, weight, bias)


cdef int planes_backward_input(float* grad_input, const float* grad_output, const float* weight,
                               const Conv2d* g) except -1:
    # grad_input (N, C, H, W)   grad_output (N, OC, OH, OW)   weight (OC, C / groups, KH, KW)   stride 1
    cdef conv2d_job job = backward_input_job(g)
    return convolve_planes(&job, grad_input, grad_output, weight, NULL)


cdef int planes_backward_weight(float* grad_weight, const float* grad_output, const float* input,
                                const Conv2d* g) except -1:
    # grad_weight (OC, 1, KH, KW)   grad_output (N, OC, OH, OW)   input (N, C, H, W)   groups == C
    cdef conv2d_job job = forward_job(g)
    cdef const conv2d_planes* kernel = conv2d_planes_for(isa_level())
    cdef int threads = team(<double>g.N * g.OC * g.OH * g.OW * g.KH * g.KW / PLANES_SPEED), thread
    cdef cnp.ndarray memory
    cdef float* mine
    kernel.plan(&job, threads)
    memory = scratch(threads * job.scratch * sizeof(float))
    mine = <float*>cnp.PyArray_DATA(memory)
    with nogil:
        if threads == 1:
            kernel.multiply_weight(&job, grad_weight, grad_output, input, mine, 0, g.groups)
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                kernel.multiply_weight(&job, grad_weight, grad_output, input, mine + thread * job.scratch,
                                       g.groups * thread // threads, g.groups * (thread + 1) // threads)
    return 0
