"""Which kernel computes a convolution: a table of rules, asked once per call and direction.

The first rule whose kernel fits and whose condition holds is taken; im2col, which takes everything, is the last.
``explain`` reads the same table, for ``minidl.backends.cpu.conv_plan``.

To add a kernel:

1. Its name in ``Kernel``, in conv2d_table.pxd and conv2d_table.pyi.
2. A line in ``fits``: what it can compute, in which directions and dtypes.
3. A line in ``_fill`` for each reason to take it: the directions, the condition under which it is the fastest, and
   that condition in words.  A rule stands above those that it goes before.
4. The call in conv2d.pyx: an ``if`` at the head of ``forward``, ``backward_input`` or ``backward_weight``.
"""

from minidl._ext.conv2d_batch cimport batch_wins
from minidl._ext.conv2d_direct cimport direct_fits_input, direct_wins, direct_wins_pointwise
from minidl._ext.geometry cimport Conv2d, conv2d_fields

ctypedef bint (*Condition)(Direction direction, const Conv2d* g) noexcept nogil

cdef enum:                      # the directions of a rule
    FORWARDS = 1 << FORWARD
    BACKWARD_INPUTS = 1 << BACKWARD_INPUT
    BACKWARD_WEIGHTS = 1 << BACKWARD_WEIGHT
    ALL = FORWARDS | BACKWARD_INPUTS | BACKWARD_WEIGHTS
    ROOM = 40                   # for rules
    LEAST_PHASE = 14            # pixels of a phase along either side

cdef struct Rule:
    Kernel kernel
    int directions
    Condition holds
    const char* reason

cdef Rule[ROOM] _rules
cdef int _count = 0
cdef Kernel[3] _override = [AUTO, AUTO, AUTO]
cdef bint _f4_allowed = False


cdef bint fits(Kernel kernel, Direction direction, const Conv2d* g, bint is_float32) noexcept nogil:
    """Whether this kernel can compute this direction of this geometry."""
    if kernel == POINTWISE:
        return (g.KH == 1 and g.KW == 1 and g.stride_h == 1 and g.stride_w == 1
                and g.pad_top == g.pad_left == g.pad_bottom == g.pad_right == 0)
    if kernel == DEPTHWISE:
        return g.groups == g.C
    if kernel == DIRECT_ROWS or kernel == DIRECT_CHANNELS:
        return is_float32 and g.groups == 1 and (direction != BACKWARD_INPUT or direct_fits_input(g))
    if kernel == DIRECT_BATCH:
        return is_float32 and g.groups == 1 and direction == BACKWARD_INPUT
    if kernel == PACKED:
        if direction == BACKWARD_WEIGHT:
            return is_float32 and (g.KH == g.KW == 3 or g.KH == g.KW == 1 or g.KW == 5 or g.KW == 7)
        return is_float32 and (direction == FORWARD or (g.stride_h == 1 and g.stride_w == 1))
    if kernel == WINOGRAD or kernel == WINOGRAD_F4:
        return (is_float32 and direction != BACKWARD_WEIGHT and g.KH == 3 and g.KW == 3 and g.stride_h == 1
                and g.stride_w == 1 and (kernel == WINOGRAD or g.dilation_h == g.dilation_w == 1))
    return True


cdef bint always(Direction direction, const Conv2d* g) noexcept nogil:
    return True


cdef bint several_groups(Direction direction, const Conv2d* g) noexcept nogil:
    return g.groups > 1


cdef bint enough_channels(Direction direction, const Conv2d* g) noexcept nogil:
    # Below, a block of output channels or the depth of the product stays half empty.
    return outputs(direction, g) >= 16 and depth(direction, g) >= 32


cdef bint many_channels(Direction direction, const Conv2d* g) noexcept nogil:
    # Measured with AVX-512 against the direct kernels, which know no groups.
    if g.groups > 1:
        return outputs(direction, g) >= 8 and depth(direction, g) >= 32
    if direction == BACKWARD_WEIGHT and g.OC >= 64 and depth(direction, g) >= 100:
        return True
    return min(g.C, g.OC) >= 32 and worth_packing(g)


cdef bint worth_packing(const Conv2d* g) noexcept nogil:
    return <double>g.N * g.OH * g.OW * (g.C // g.groups) * g.OC >= 1e6


cdef Py_ssize_t outputs(Direction direction, const Conv2d* g) noexcept nogil:
    """Channels of a group that the product has as rows."""
    return (g.C if direction == BACKWARD_INPUT else g.OC) // g.groups


cdef Py_ssize_t depth(Direction direction, const Conv2d* g) noexcept nogil:
    """Taps of each."""
    return (g.OC if direction == BACKWARD_INPUT else g.C) // g.groups * g.KH * g.KW


cdef bint worth_phases(Direction direction, const Conv2d* g) noexcept nogil:
    """Whether the phases of a dilated convolution are large, and fill their 2x2 tiles: smaller ones were slower with two
    threads (``python -m benchmarks.techniques``)."""
    if g.dilation_h == 1 and g.dilation_w == 1:
        return True
    cdef Py_ssize_t H = g.H if direction == BACKWARD_INPUT else g.OH, W = g.W if direction == BACKWARD_INPUT else g.OW
    cdef Py_ssize_t rows = tiled(H, g.dilation_h), cols = tiled(W, g.dilation_w)
    return min(rows // g.dilation_h, cols // g.dilation_w) >= LEAST_PHASE and 5 * H * W >= 4 * rows * cols


cdef Py_ssize_t tiled(Py_ssize_t size, Py_ssize_t dilation) noexcept nogil:
    """What tiles of two pixels cover of all phases of a side."""
    return ((size + dilation - 1) // dilation + 1) // 2 * 2 * dilation


cdef bint for_winograd(Direction direction, const Conv2d* g) noexcept nogil:
    # The transformed weight is 16/9 as large; with fewer pixels than channels, making it costs what it saves.
    cdef Py_ssize_t C = g.C // g.groups, OC = g.OC // g.groups
    return (worth_phases(direction, g) and min(C, OC) >= (32 if g.groups == 1 else 8) and g.N * g.OH * g.OW >= 2 * max(C, OC)
            and worth_packing(g))


cdef bint for_winograd_f4(Direction direction, const Conv2d* g) noexcept nogil:
    # On smaller images tiles at the edges, and transforms, cost what larger tiles save (measured with AVX-512).
    return _f4_allowed and for_winograd(direction, g) and min(g.H, g.OH) >= 40 and min(g.W, g.OW) >= 40


cdef bint batch_win(Direction direction, const Conv2d* g) noexcept nogil:
    return batch_wins(g)


cdef bint rows_win(Direction direction, const Conv2d* g) noexcept nogil:
    return direct_wins(False, direction, g)


cdef bint channels_win(Direction direction, const Conv2d* g) noexcept nogil:
    return direct_wins(True, direction, g)


cdef bint rows_win_pointwise(Direction direction, const Conv2d* g) noexcept nogil:
    return fits(POINTWISE, direction, g, True) and direct_wins_pointwise(direction, g)


cdef void add(Kernel kernel, int directions, Condition holds, const char* reason) noexcept:
    global _count
    _rules[_count] = Rule(kernel, directions, holds, reason)
    _count += 1


cdef void _fill() noexcept:
    add(DEPTHWISE, ALL, several_groups, b"one input channel per group: a matrix product would have one column per tap")
    add(WINOGRAD_F4, FORWARDS | BACKWARD_INPUTS, for_winograd_f4,
        b"as winograd, at least 40x40 pixels, and minidl.backends.cpu.allow_winograd_f4 is set: 36 products for 144")
    add(WINOGRAD, FORWARDS | BACKWARD_INPUTS, for_winograd,
        b"3x3, stride 1, at least 32 channels on both sides, more pixels than channels: 16 products for 36 (dilated: by phases)")
    add(PACKED, ALL, many_channels,
        b"many channels, or several groups: panels of a matrix product in registers beat BLAS")
    add(DIRECT_ROWS, ALL, rows_win_pointwise,
        b"1x1 between few channels and on long rows: a matrix product would be thin")
    add(POINTWISE, ALL, always, b"1x1, stride 1, no padding: the image itself is the matrix, nothing is copied")
    add(DIRECT_BATCH, BACKWARD_INPUTS, batch_win,
        b"enough images for a vector of them, and otherwise zeros would be multiplied: only taps that exist, no im2col")
    add(DIRECT_ROWS, ALL, rows_win,
        b"neighbours of a row fill a vector better than output channels do: loops over shifted rows, no im2col")
    add(DIRECT_CHANNELS, ALL, channels_win,
        b"output channels fill a vector better than neighbours of a row do: a vector of them per pixel, no im2col")
    add(PACKED, ALL, enough_channels,
        b"at least 16 outputs of 32 taps: panels of a matrix product in registers beat BLAS")
    add(IM2COL, ALL, always, b"no rule names a faster kernel for this shape and dtype")

_fill()


cdef const Rule* first_rule(Direction direction, const Conv2d* g, bint is_float32) noexcept nogil:
    cdef int i
    for i in range(_count - 1):
        if _rules[i].directions >> direction & 1 and fits(_rules[i].kernel, direction, g, is_float32) and \
                _rules[i].holds(direction, g):
            return &_rules[i]
    return &_rules[_count - 1]


cdef Kernel kernel_for(Kernel asked, Direction direction, const Conv2d* g, bint is_float32) except *:
    """The kernel of this call: the one that is asked for, or that ``use`` set, or what the table says.

    Raises ``ValueError`` if a kernel that is asked for or set cannot compute this.
    """
    cdef Kernel kernel = asked if asked != AUTO else _override[<int>direction]
    if kernel == AUTO:
        return first_rule(direction, g, is_float32).kernel
    if not fits(kernel, direction, g, is_float32):
        raise ValueError(f"conv2d: kernel {Kernel(kernel).name} does not fit this geometry in direction "
                         f"{Direction(direction).name}, {'float32' if is_float32 else 'float64'}")
    return kernel


cdef bint chosen_by_table(Direction direction) noexcept:
    """Whether no kernel is set for this direction."""
    return _override[<int>direction] == AUTO


def explain(geometry, Direction direction, bint is_float32=True):
    """(kernel, reason in words): what a convolution of this geometry gets in this direction."""
    cdef const Conv2d* g = conv2d_fields(geometry.packed)
    cdef Kernel kernel = kernel_for(AUTO, direction, g, is_float32)
    if _override[<int>direction] != AUTO:
        return Kernel(kernel), "set by use_conv_kernel"
    return Kernel(kernel), first_rule(direction, g, is_float32).reason.decode()


def can_compute(Kernel kernel, geometry, Direction direction, bint is_float32=True):
    """Whether this kernel fits."""
    return fits(kernel, direction, conv2d_fields(geometry.packed), is_float32)


def use(Direction direction, Kernel kernel):
    """Let every convolution of this process use this kernel in this direction, AUTO: the table.  Returns what was set
    before."""
    before = Kernel(_override[<int>direction])
    _override[<int>direction] = kernel
    return before


def winograd_f4_allowed():
    """Whether WINOGRAD_F4 may be chosen."""
    return _f4_allowed


def allow_winograd_f4(bint allowed):
    """Let the table choose WINOGRAD_F4, which rounds about ten times as much as the other kernels, or not."""
    global _f4_allowed
    _f4_allowed = allowed
