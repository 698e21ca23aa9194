"""Convolutions whose weight stays packed from call to call: what a plan without an optimizer repeats.

Kernels for many channels (conv2d_panels.pyx) read the weight in an order of their own, Winograd's a transformed weight 16/9
as large.  Making it costs as much as the convolution where there are more channels than pixels.  A ``KeptWeight`` makes
it once, and again when the weight has changed: when the version of its storage has, and every time from when the memory
is handed to NumPy on, whose writing no version counts.
"""

import numpy as np

cimport numpy as cnp

from minidl._ext.arrays cimport both_float32, contiguous, new_planes
from minidl._ext.conv2d_panels cimport pack_weight, packed_forward, packed_numbers
from minidl._ext.conv2d_table cimport (AUTO, FORWARD, PACKED, WINOGRAD, WINOGRAD_F4, Kernel, chosen_by_table, fits,
                                       kernel_for)
from minidl._ext.geometry cimport Conv2d, conv2d_fields
from minidl._ext.storage cimport Storage

cnp.import_array()


cdef enum:
    MOST_PIXELS = 16            # per channel: beyond, making the weight anew is a few hundredths of the time
    MOST_BYTES = 10 << 20       # a share of a last-level cache


cdef Kernel kept_kernel(const Conv2d* g) except *:
    """The kernel for a weight that stays packed; AUTO: the table's takes it as it is."""
    cdef Kernel kernel = kernel_for(AUTO, FORWARD, g, True)
    if g.N * g.OH * g.OW > MOST_PIXELS * max(g.C, g.OC):
        return AUTO
    if kernel == PACKED and chosen_by_table(FORWARD) and fits(WINOGRAD, FORWARD, g, True) and winograd_wins(g):
        return WINOGRAD
    if kernel == PACKED or kernel == WINOGRAD or kernel == WINOGRAD_F4:
        return kernel if packed_numbers(g, kernel) else AUTO
    return AUTO


cdef bint winograd_wins(const Conv2d* g) noexcept nogil:
    """Whether it is faster than the packed kernel where its weight need not be made.  Measured with AVX-512 and AVX2."""
    return (min(g.C // g.groups, g.OC // g.groups) >= 32
            and min(g.OH // g.dilation_h, g.OW // g.dilation_w) >= 4
            and 4 * g.N * g.OH * g.OW >= max(g.C, g.OC))


cdef class KeptWeight:
    """A weight (OC, C / groups, KH, KW), contiguous, float32, in this storage, as the kernel of a geometry reads it."""
    cdef readonly Storage storage
    cdef readonly object geometry
    cdef readonly Kernel kernel
    cdef cnp.ndarray weight, packed
    cdef unsigned long version
    cdef bint made

    def __init__(self, Storage storage not None, cnp.ndarray weight not None, geometry):
        cdef const Conv2d* g = conv2d_fields(geometry.packed)
        self.storage, self.geometry, self.weight = storage, geometry, weight
        self.kernel = kept_kernel(g)
        if not can_keep(storage, weight, geometry):
            raise ValueError("conv2d: this weight does not stay packed: ask can_keep first")
        # NumPy's memory: the plan's allocator gives out what a repetition asks for, and this outlives it
        self.packed = np.empty(packed_numbers(g, self.kernel) + 16, np.float32)

    cdef const float* now(self, const Conv2d* g):
        cdef float* packed = <float*>((<size_t>cnp.PyArray_DATA(self.packed) + 63) // 64 * 64)
        if not self.made or self.storage.exposed or self.version != self.storage.version:
            self.version = self.storage.version
            pack_weight(packed, <const float*>cnp.PyArray_DATA(self.weight), g, self.kernel)
            self.made = True
        return packed


def can_keep(Storage storage not None, cnp.ndarray weight not None, geometry):
    """Whether a convolution with this weight gains by a ``KeptWeight``, and changes of the weight are seen."""
    return (cnp.PyArray_TYPE(weight) == cnp.NPY_FLOAT and cnp.PyArray_ISCARRAY_RO(weight) and storage.bin >= 0
            and not storage.exposed
            and kept_kernel(conv2d_fields(geometry.packed)) != AUTO)


def kept_weights(list weights not None):
    """A ``KeptWeight`` for each (storage, weight, geometry) of a step that gains by it, None for the others.

    A transformed weight that has left the cache is more to read than the weight that it is made of.  So where there are
    fewer pixels than channels, only as many are kept, the smallest first, as stay in the cache together.
    """
    cdef list found = [None] * len(weights)
    cdef Py_ssize_t number, size, room = MOST_BYTES
    cdef const Conv2d* g
    sizes = []
    for number, (storage, weight, geometry) in enumerate(weights):
        if can_keep(storage, weight, geometry):
            g = conv2d_fields(geometry.packed)
            sizes.append((packed_numbers(g, kept_kernel(g)) * <Py_ssize_t>sizeof(float), number))
    for size, number in sorted(sizes):
        storage, weight, geometry = weights[number]
        g = conv2d_fields(geometry.packed)
        room -= size
        if room >= 0 or g.N * g.OH * g.OW >= max(g.C, g.OC):
            found[number] = KeptWeight(storage, weight, geometry)
    return found


def conv2d_kept_forward(cnp.ndarray input, cnp.ndarray bias, KeptWeight kept not None):
    """output (N, OC, OH, OW): input (N, C, H, W) convolved with a weight that is kept, plus bias (OC,) or None."""
    cdef const Conv2d* g = conv2d_fields(kept.geometry.packed)
    cdef const float* add = NULL
    both_float32(input, kept.weight)
    input = contiguous(input)
    if bias is not None:
        both_float32(input, bias)
        bias = contiguous(bias)
        add = <const float*>cnp.PyArray_DATA(bias)
    cdef cnp.ndarray output = new_planes(g.N, g.OC, g.OH, g.OW, cnp.NPY_FLOAT)
    packed_forward(<float*>cnp.PyArray_DATA(output), <const float*>cnp.PyArray_DATA(input), NULL, add, g, kept.kernel,
                   kept.now(g))
    return output
