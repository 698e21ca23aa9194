"""Arrays in the memory of a device, seen from the host: an address, a shape, strides; and what a launch needs of them.

A ``DeviceArray`` is to a GPU what an ndarray is to the CPU: the plain strided handle that ops pass around.  Nothing here
knows CUDA, and no number of an array is ever read.  Memory comes from ``device_pool``; a Storage around its block is
the ``base`` of every array that lies in it.

``Layout`` and ``pack`` are the two things that every launch does, so they are compiled: shapes and strides of several
arrays brought into as few dimensions as possible, and arguments laid out in bytes as C lays out parameters.
"""

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy, memset

import numpy as np

cnp.import_array()

cdef enum:
    MOST_DIMS = 8           # of a Layout, after dimensions are joined; `MOST_DIMS` in cuda/common.cuh
    MOST_OPERANDS = 4       # `MOST_OPERANDS` there
    MOST_BYTES = 4096       # of the parameters of a kernel, before CUDA 12.1

cdef struct LayoutOfC:      # `struct Layout` in cuda/common.cuh
    int ndim
    int size[MOST_DIMS]
    long long stride[MOST_OPERANDS][MOST_DIMS]

LAYOUT_BYTES = sizeof(LayoutOfC)


@cython.final
@cython.freelist(256)
cdef class DeviceArray:
    """A strided array on a device.

    ptr       address of its first number on the device
    shape     sizes
    strides   distances in bytes between neighbours along each dimension
    dtype     a NumPy dtype
    base      what keeps the memory: a Storage, None for an array of nothing
    """

    def __init__(self, size_t ptr, tuple shape not None, tuple strides, cnp.dtype dtype not None, base=None):
        cdef Py_ssize_t size = 1, step = cnp.PyDataType_ELSIZE(dtype), i
        self.ptr = ptr
        self.shape = shape
        self.dtype = dtype
        self.base = base
        self.itemsize = step
        for each in shape:
            size *= each
        self.size = size
        cdef list dense = [0] * len(shape)
        for i in range(len(shape) - 1, -1, -1):
            dense[i] = step
            step *= shape[i]
        self.strides = tuple(dense) if strides is None else strides
        self.contiguous = strides is None or size == 0
        if not self.contiguous:
            self.contiguous = True
            for i in range(len(shape)):
                if shape[i] != 1 and strides[i] != dense[i]:
                    self.contiguous = False

    @property
    def ndim(self):
        """Number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self):
        """Bytes of its numbers."""
        return self.size * self.itemsize

    def __repr__(self):
        return f"DeviceArray({hex(self.ptr)}, {self.shape}, strides={self.strides}, {self.dtype})"

    def view(self, tuple shape not None, tuple strides, Py_ssize_t offset=0, dtype=None):
        """The same memory from ``offset`` bytes on with other sizes and strides (None: without gaps)."""
        return DeviceArray(self.ptr + offset, shape, strides, self.dtype if dtype is None else dtype, self.base)


@cython.final
cdef class Layout:
    """A shape with the strides in which up to four arrays show themselves in it, for a kernel's ``Layout`` argument.

    Dimensions of size 1 are left out, and neighbours joined where no array sees a gap between them, so that whatever is
    contiguous in all arrays has one dimension or none.  ``size`` counts the numbers; ``bytes`` is what the kernel is given;
    ``flat`` tells that every array is without gaps, or one number (stride 0) where ``scalar`` has its bit.

    Raises ``NotImplementedError`` for shapes that need more than eight dimensions or 2**31 numbers and more.
    """
    cdef LayoutOfC layout
    cdef readonly Py_ssize_t size
    cdef readonly bint flat
    cdef readonly int scalar
    cdef readonly bytes bytes

    def __init__(self, tuple shape not None, *operands):
        """``operands`` hold, for each array, a tuple of strides in bytes as long as ``shape``, and its itemsize."""
        cdef long long steps[MOST_OPERANDS]
        cdef long long itemsizes[MOST_OPERANDS]
        cdef int count = len(operands), operand, last = -1
        cdef Py_ssize_t dim
        cdef bint joins
        if count > MOST_OPERANDS:
            raise ValueError(f"a layout is of at most {MOST_OPERANDS} arrays, got {count}")
        for operand in range(count):
            itemsizes[operand] = operands[operand][1]
        self.size = 1
        memset(&self.layout, 0, sizeof(LayoutOfC))
        for dim in range(len(shape)):
            self.size *= shape[dim]
            if shape[dim] == 1:
                continue
            joins = last >= 0
            for operand in range(count):
                steps[operand] = <long long>((<tuple>(<tuple>operands[operand])[0])[dim]) // itemsizes[operand]
                joins = joins and self.layout.stride[operand][last] == steps[operand] * <long long>shape[dim]
            if joins:
                self.layout.size[last] *= <int>shape[dim]
            else:
                last += 1
                if last == MOST_DIMS:
                    raise NotImplementedError(
                        f"shape {shape} with these strides needs more than {MOST_DIMS} dimensions, which no CUDA kernel takes; "
                        "use .contiguous()")
                self.layout.size[last] = <int>shape[dim]
            for operand in range(count):
                self.layout.stride[operand][last] = steps[operand]
        if self.size >= (1LL << 31):
            raise NotImplementedError(f"shape {shape} has {self.size} numbers, a CUDA kernel takes less than 2**31")
        self.layout.ndim = last + 1
        self.flat = last <= 0
        if last == 0:
            for operand in range(count):
                if self.layout.stride[operand][0] == 0:
                    self.scalar |= 1 << operand
                elif self.layout.stride[operand][0] != 1:
                    self.flat = False
        self.bytes = PyBytes_FromStringAndSize(<char*>&self.layout, sizeof(LayoutOfC))

    def in_groups(self, int count):
        """The layout of groups of ``count`` neighbours along the innermost dimension, and the operands (as bits) that have
        one number there for all of them; None where the sizes and strides do not allow groups."""
        cdef int last = self.layout.ndim - 1, operand, dim, single = 0
        cdef Layout groups
        if last < 0 or self.layout.size[last] % count:
            return None
        for operand in range(MOST_OPERANDS):
            if self.layout.stride[operand][last] == 0:
                single |= 1 << operand
                continue
            if self.layout.stride[operand][last] != 1:
                return None
            for dim in range(last):
                if self.layout.stride[operand][dim] % count:
                    return None
        groups = Layout.__new__(Layout)
        groups.layout = self.layout
        groups.layout.size[last] //= count
        for operand in range(MOST_OPERANDS):
            groups.layout.stride[operand][last] *= count
        groups.size = self.size // count
        groups.bytes = PyBytes_FromStringAndSize(<char*>&groups.layout, sizeof(LayoutOfC))
        return groups, single


cdef inline Py_ssize_t put(char* buffer, Py_ssize_t at, const void* value, Py_ssize_t nbytes, Py_ssize_t align) except -1:
    at = (at + align - 1) // align * align
    if at + nbytes > MOST_BYTES:
        raise ValueError(f"the arguments of a kernel take more than {MOST_BYTES} bytes")
    memcpy(buffer + at, value, nbytes)
    return at + nbytes


def pack(tuple arguments not None):
    """The parameters of a kernel in bytes.

    A DeviceArray is the pointer to its first number and None a null pointer, an int is C's ``int`` and a float its
    ``float``, NumPy's numbers are of their own type, a Layout and bytes are structs (aligned to 8 bytes).
    Raises ``OverflowError`` for an int beyond 32 bits and ``TypeError`` for anything else.
    """
    cdef char buffer[MOST_BYTES]
    cdef Py_ssize_t at = 0
    cdef int number
    cdef float real
    cdef size_t address
    memset(buffer, 0, MOST_BYTES)
    for argument in arguments:
        if type(argument) is DeviceArray:
            at = put(buffer, at, &(<DeviceArray>argument).ptr, sizeof(size_t), sizeof(size_t))
        elif type(argument) is int or type(argument) is bool:
            number = argument
            at = put(buffer, at, &number, sizeof(int), sizeof(int))
        elif type(argument) is Layout:
            at = put(buffer, at, &(<Layout>argument).layout, sizeof(LayoutOfC), 8)
        elif type(argument) is float:
            real = argument
            at = put(buffer, at, &real, sizeof(float), sizeof(float))
        elif argument is None:
            address = 0
            at = put(buffer, at, &address, sizeof(size_t), sizeof(size_t))
        elif isinstance(argument, np.generic):
            value = argument.tobytes()
            at = put(buffer, at, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), PyBytes_GET_SIZE(value))
        elif type(argument) is bytes:
            at = put(buffer, at, PyBytes_AS_STRING(argument), PyBytes_GET_SIZE(argument), 8)
        else:
            raise TypeError(f"a kernel takes arrays, numbers, layouts and bytes, not {type(argument).__name__}")
    return PyBytes_FromStringAndSize(buffer, at)
