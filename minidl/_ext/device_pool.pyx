"""The memory pool of a device: blocks kept for the next step instead of given back to the driver.

An allocation by the driver waits for everything that the device is doing, so freed blocks are kept in bins, four to each
power of two, and handed out again at once: what the host frees and hands out in order, the stream that uses it uses in
the same order.  A block therefore belongs to the stream that it was taken for, and goes back to that stream's bins.

The pool knows no CUDA: it is given ``take(nbytes)``, which returns something with an address as ``int(...)`` and keeps the
memory until it is dropped.  The pool alone holds these, blocks only know addresses: a block may go with other garbage, and
what goes with garbage is taken apart.  All calls are made under the GIL, which is the lock.

``exact`` asks for just the bytes that are needed and keeps nothing: slow, and every access out of bounds or to freed memory
is one for the device too, so that tools which watch over its memory see it.
"""

cimport cython

cdef enum:
    SMALLEST = 512          # bytes: what a driver aligns to


cdef size_t bin_bytes(size_t nbytes) noexcept:
    """The size of the smallest bin that holds ``nbytes``: 4, 5, 6 or 7 times a power of two."""
    cdef size_t quarter = SMALLEST // 4
    if nbytes <= SMALLEST:
        return SMALLEST
    while 8 * quarter < nbytes:
        quarter *= 2
    return (nbytes + quarter - 1) // quarter * quarter


@cython.final
@cython.no_gc_clear         # in garbage, too, it knows its pool, to which it comes back
cdef class Block:
    """A piece of device memory; goes back to its pool when nobody holds it any more."""

    def __dealloc__(self):
        if self.pool is not None:
            self.pool.give_back(self)

    def __int__(self):
        return self.ptr


@cython.final
@cython.no_gc_clear         # so does the pool know where they belong
cdef class DevicePool:
    """Blocks of device memory by stream and size.

    in_use, peak    bytes of live blocks, and the most there have been
    held            bytes taken from the driver and not given back
    """

    def __init__(self, take not None, bint exact=False):
        self.take = take
        self.exact = exact
        self.pieces = {}    # address -> what take returned
        self.free = {}      # stream, bytes -> addresses
        self.released = False

    def block(self, size_t nbytes, stream=0):
        """A block of at least ``nbytes`` for the work of ``stream`` (any hashable)."""
        cdef size_t size = max(nbytes, 1) if self.exact else bin_bytes(nbytes)
        cdef Block block = Block.__new__(Block)
        cdef list kept = (<dict>self.free).get((stream, size))
        if kept:
            block.ptr = kept.pop()
        else:
            piece = self.take(size)
            block.ptr = int(piece)
            self.pieces[block.ptr] = piece
            self.held += size
        block.nbytes = size
        block.stream = stream
        block.pool = self
        self.in_use += size
        if self.in_use > self.peak:
            self.peak = self.in_use
        return block

    cdef int give_back(self, Block block) except -1:
        self.in_use -= block.nbytes
        if self.released or self.exact:
            self.held -= block.nbytes
            del self.pieces[block.ptr]
            return 0
        self.free.setdefault((block.stream, block.nbytes), []).append(block.ptr)
        return 0

    def empty_cache(self):
        """Give every unused block back to the driver."""
        unused, self.free = self.free, {}   # others may come back meanwhile
        for (_, nbytes), kept in unused.items():
            self.held -= nbytes * len(kept)
            for ptr in kept:
                del self.pieces[ptr]

    def release(self):
        """Give back everything unused now, and every live block as soon as it is dropped."""
        self.released = True
        self.empty_cache()

    def reset_peak(self):
        """Count ``peak`` from now on."""
        self.peak = self.in_use
