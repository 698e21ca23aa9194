"""Storage: the memory that tensors look at, and the caching allocator it comes from.

A ``Storage`` either owns a block of the allocator (CPU), or keeps a foreign owner alive (a NumPy array, a
DLPack capsule, a block of a GPU's pool).  It carries the version counter that all views of it share.

The allocator keeps freed blocks in bins, four to each power of two, and hands them out again: a page that
the operating system hands out fresh costs about 2.5 us, so 1 MB of fresh memory costs more than convolving
it.  Blocks are 64-byte aligned; blocks of 2 MB and more lie on huge pages where Linux has them.  All calls
are made under the GIL, which is the lock.
"""

cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject
from libc.stdlib cimport free
from posix.stdlib cimport posix_memalign

from minidl._ext.array_over cimport array_over

cnp.import_array()

cdef extern from "sys/mman.h" nogil:
    int madvise(void* address, size_t length, int advice)
    int MADV_HUGEPAGE

cdef extern from *:
    int __builtin_clzll(unsigned long long x) nogil

cdef enum:
    BINS = 4 * 48
    SMALLEST = 64           # bytes; bin 0
    HUGE_PAGE = 1 << 21     # bytes

cdef size_t MOST_BYTES = (<size_t>7) << 51      # what the blocks of the last bin hold

cdef struct Block:
    Block* next

cdef Block* _free_blocks[BINS]
cdef size_t _held = 0       # bytes taken from the system and not given back
cdef size_t _in_use = 0     # of these, bytes inside live storages
cdef size_t _peak = 0


cdef inline size_t bin_bytes(int index) noexcept nogil:
    """Size of the blocks of a bin: (4, 5, 6, 7) * 2**(4 + index // 4) bytes."""
    return (<size_t>(4 + (index & 3))) << (4 + (index >> 2))


cdef inline int bin_of(size_t nbytes) noexcept nogil:
    """The smallest bin whose blocks hold ``nbytes``."""
    cdef int index = 0
    if nbytes <= SMALLEST:
        return 0
    cdef int log2 = 63 - __builtin_clzll(nbytes - 1)
    index = 4 * (log2 - 6) + <int>(((nbytes - 1) >> (log2 - 2)) & 3) + 1
    return index

cdef void* _take(int index) except NULL:
    global _held, _in_use, _peak
    cdef size_t nbytes = bin_bytes(index)
    cdef void* data = _free_blocks[index]
    if data != NULL:
        _free_blocks[index] = _free_blocks[index].next
    else:
        if posix_memalign(&data, HUGE_PAGE if nbytes >= HUGE_PAGE else 64, nbytes) != 0:
            empty_cache()
            if posix_memalign(&data, 64, nbytes) != 0:
                raise MemoryError(
                    f"CPU allocator: no memory for {nbytes} bytes; {_in_use} bytes are held by live tensors")
        if nbytes >= HUGE_PAGE:
            madvise(data, nbytes, MADV_HUGEPAGE)
        _held += nbytes
    _in_use += nbytes
    if _in_use > _peak:
        _peak = _in_use
    return data


@cython.freelist(256)
@cython.final
cdef class Storage:
    """Memory with a version counter.  ``Storage(owner)`` keeps foreign memory alive."""

    def __cinit__(self, owner=None):
        self.owner = owner
        self.bin = -1

    @property
    def address(self):
        """Where the block begins; 0 for foreign memory."""
        return <size_t>self.data

    def __dealloc__(self):
        global _in_use
        if self.bin >= 0:
            (<Block*>self.data).next = _free_blocks[self.bin]
            _free_blocks[self.bin] = <Block*>self.data
            _in_use -= bin_bytes(self.bin)


cdef extern from *:
    """
    static __thread PyObject *minidl_script = NULL;     /* an AllocationScript, borrowed: its `with` block holds it */
    """
    PyObject* minidl_script


@cython.final
cdef class AllocationScript:
    """What ``new_array`` gave out in a stretch of this thread's work, or is to give out in a repetition of it.

    Used as a context manager.  Without ``arrays`` it writes down a ``(number of bytes, shape, dtype)`` for each array
    that is given out, and ``numbers`` maps the address of a block to the latest of them.  With ``arrays`` these are
    given out again in their order from ``place`` on, and nothing is allocated: the repetition must ask for the same
    shapes in the same order.
    """

    def __init__(self, list arrays=None):
        self.arrays = arrays
        self.entries = []
        self.numbers = {}

    def __enter__(self):
        if minidl_script != NULL:
            raise RuntimeError("allocations of this thread are being written down or repeated already")
        global_script_set(self)
        return self

    def __exit__(self, *exception):
        global_script_set(None)

    cdef cnp.ndarray repeat(self, int ndim, cnp.npy_intp* shape, int typenum):
        cdef cnp.ndarray array = self.arrays[self.place]
        cdef int axis
        cdef bint same = cnp.PyArray_NDIM(array) == ndim and cnp.PyArray_TYPE(array) == typenum
        for axis in range(ndim if same else 0):
            same = same and cnp.PyArray_DIMS(array)[axis] == shape[axis]
        if not same:
            raise RuntimeError(f"a repeated step asked for other memory than the one before: array {self.place}")
        self.place += 1
        return array


cdef global_script_set(AllocationScript script):
    global minidl_script
    minidl_script = <PyObject*>script if script is not None else NULL


cdef cnp.ndarray new_array(int ndim, cnp.npy_intp* shape, int typenum):
    """A fresh, uninitialised, C-contiguous array in memory of the allocator, or what the script says."""
    if minidl_script == NULL:
        return allocate(ndim, shape, typenum)
    cdef AllocationScript script = <AllocationScript>minidl_script
    if script.arrays is not None:
        return script.repeat(ndim, shape, typenum)
    cdef cnp.ndarray array = allocate(ndim, shape, typenum)
    script.numbers[<size_t>cnp.PyArray_DATA(array)] = len(script.entries)
    script.entries.append((cnp.PyArray_NBYTES(array), (<object>array).shape, (<object>array).dtype))
    return array


cdef cnp.ndarray allocate(int ndim, cnp.npy_intp* shape, int typenum):
    cdef cnp.dtype descr = cnp.PyArray_DescrFromType(typenum)
    cdef size_t nbytes = cnp.PyDataType_ELSIZE(descr)
    cdef int axis
    cdef bint too_many = False
    for axis in range(ndim):
        if shape[axis] < 0:
            raise ValueError(f"a tensor cannot have the size {shape[axis]} at dimension {axis}")
        if shape[axis] and nbytes > MOST_BYTES // <size_t>shape[axis]:
            too_many = True
        else:
            nbytes *= shape[axis]
    if too_many and nbytes:
        raise MemoryError(f"CPU allocator: shape {tuple([shape[axis] for axis in range(ndim)])} takes more bytes than this "
                          "machine can address")
    cdef Storage storage = Storage.__new__(Storage)
    cdef int index = bin_of(nbytes)
    storage.data = _take(index)
    storage.bin = index
    storage.nbytes = nbytes
    return array_over(storage, storage.data, descr, ndim, shape, NULL, cnp.NPY_ARRAY_CARRAY)


cdef cnp.ndarray new_like(cnp.ndarray other):
    """A fresh C-contiguous array with the shape and dtype of ``other``."""
    return new_array(cnp.PyArray_NDIM(other), cnp.PyArray_DIMS(other), cnp.PyArray_TYPE(other))


def empty(tuple shape, cnp.dtype dtype not None):
    """An uninitialised C-contiguous NumPy array of ``shape`` in memory of the caching allocator."""
    cdef cnp.npy_intp dims[64]
    cdef int axis, ndim = len(shape)
    if dtype.num > cnp.NPY_DOUBLE:
        raise TypeError(f"a tensor holds bool, integers, float32 or float64, not {dtype}")
    if ndim > 64:
        raise ValueError(f"a tensor has at most 64 dimensions, got {ndim}")
    for axis in range(ndim):
        dims[axis] = shape[axis]
    return new_array(ndim, dims, dtype.num)


def empty_cache():
    """Give every unused block of the CPU allocator back to the operating system."""
    global _held
    cdef int index
    cdef Block* block
    for index in range(BINS):
        while _free_blocks[index] != NULL:
            block = _free_blocks[index]
            _free_blocks[index] = block.next
            free(block)
            _held -= bin_bytes(index)


def memory_stats():
    """Bytes of the CPU allocator: ``in_use`` by live tensors, ``peak`` of that, ``held`` from the system."""
    return {"in_use": _in_use, "peak": _peak, "held": _held}
