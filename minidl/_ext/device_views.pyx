"""Views of a DeviceArray, worked out on the host: addresses, shapes and strides, and no launch.

Every view has the ``base`` of the array that it was made from, so that the tape knows it for a view.
"""

from minidl._ext.device_array cimport DeviceArray

cdef enum:
    DIMS = 64
    VECTOR = 16         # bytes that a thread reads or writes at once, where the address allows


cdef inline DeviceArray at(DeviceArray x, tuple shape, tuple strides, Py_ssize_t offset):
    return DeviceArray(x.ptr + offset, shape, strides, x.dtype, x.base)


def broadcast(tuple a not None, tuple b not None):
    """The shape that two shapes broadcast to, or None where they do not."""
    cdef Py_ssize_t lead, i
    cdef object mine, theirs
    if a == b:
        return a
    if len(a) < len(b):
        a, b = b, a
    lead = len(a) - len(b)
    cdef list shape = list(a)
    for i in range(len(b)):
        mine, theirs = shape[lead + i], b[i]
        if mine != theirs:
            if mine == 1:
                shape[lead + i] = theirs
            elif theirs != 1:
                return None
    return tuple(shape)


def vectors(tuple shape not None, *arrays):
    """Whether all arrays have this shape, no gaps, and addresses from which whole vectors can be read; None has."""
    cdef DeviceArray x
    for each in arrays:
        if each is None:
            continue
        x = <DeviceArray?>each
        if not x.contiguous or x.ptr % VECTOR or (x.shape is not shape and x.shape != shape):
            return False
    return True


def overlap(DeviceArray a not None, DeviceArray b not None):
    """Whether the stretches of memory in which two arrays lie have a byte in common."""
    cdef Py_ssize_t i
    cdef size_t a_end = a.ptr + a.itemsize, b_end = b.ptr + b.itemsize
    if a.size == 0 or b.size == 0:
        return False
    for i in range(len(a.shape)):
        a_end += <Py_ssize_t>a.strides[i] * (<Py_ssize_t>a.shape[i] - 1)
    for i in range(len(b.shape)):
        b_end += <Py_ssize_t>b.strides[i] * (<Py_ssize_t>b.shape[i] - 1)
    return a.ptr < b_end and b.ptr < a_end


def same_places(DeviceArray a not None, DeviceArray b not None):
    """Whether two arrays are one: the same numbers at the same places."""
    return a.ptr == b.ptr and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype


def reshape(DeviceArray x not None, shape):
    """The view of x with ``shape``, of as many numbers, or None where the strides do not allow one."""
    cdef Py_ssize_t sizes[DIMS]
    cdef Py_ssize_t steps[DIMS]
    cdef Py_ssize_t i, last = -1, here, left
    cdef tuple wanted = tuple(shape)
    if x.contiguous:
        return at(x, wanted, None, 0)
    # dimensions of x without those of size 1, neighbours joined where there is no gap between them
    for i in range(len(x.shape)):
        if x.shape[i] == 1:
            continue
        if last >= 0 and steps[last] == <Py_ssize_t>x.shape[i] * <Py_ssize_t>x.strides[i]:
            sizes[last] *= x.shape[i]
            steps[last] = x.strides[i]
            continue
        last += 1
        if last == DIMS:
            return None
        sizes[last], steps[last] = x.shape[i], x.strides[i]
    # from the back: each joined dimension must be used up by whole sizes of the new shape
    cdef list strides = [0] * len(wanted)
    cdef Py_ssize_t step = steps[last] if last >= 0 else x.itemsize
    left = sizes[last] if last >= 0 else 1
    for i in range(len(wanted) - 1, -1, -1):
        here = wanted[i]
        if here != 1 and left == 1:
            last -= 1
            if last < 0:
                return None
            step, left = steps[last], sizes[last]
        strides[i] = step
        if here == 1:
            continue
        if left % here:
            return None
        left //= here
        step *= here
    return at(x, wanted, tuple(strides), 0)


def permute(DeviceArray x not None, dims):
    """The view of x with its dimensions in the order ``dims``."""
    cdef list shape = [], strides = []
    cdef Py_ssize_t ndim = len(x.shape), dim
    cdef tuple order = tuple(dims)
    if len(order) != ndim or len(set([each % ndim for each in order if -ndim <= each < ndim])) != ndim:
        raise ValueError(f"permute: dims {order} must name each of the {ndim} dimensions once")
    for dim in order:
        dim = dim + ndim if dim < 0 else dim
        shape.append(x.shape[dim])
        strides.append(x.strides[dim])
    return at(x, tuple(shape), tuple(strides), 0)


def slice_view(DeviceArray x not None, tuple key not None):
    """The view ``x[key]`` for ints, slices, ``None`` and ``Ellipsis``; 0-d when nothing is left."""
    cdef list shape = [], strides = []
    cdef Py_ssize_t ndim = len(x.shape), dim = 0, taken = 0, offset = 0, start, stop, step, size, index
    for part in key:
        if part is not None and part is not Ellipsis:
            taken += 1
    if taken > ndim:
        raise IndexError(f"slice: too many indices: {taken} for a tensor of {ndim} dimensions {x.shape}")
    for part in key:
        if part is None:
            shape.append(1)
            strides.append(0)
        elif part is Ellipsis:
            for _ in range(ndim - taken):
                shape.append(x.shape[dim])
                strides.append(x.strides[dim])
                dim += 1
            taken = ndim
        elif isinstance(part, slice):
            if part.step is not None and part.step <= 0:
                raise ValueError(f"slice: step must be greater than zero, got {part.step}; use flip to reverse")
            start, stop, step = part.indices(x.shape[dim])
            size = (stop - start + step - 1) // step if stop > start else 0
            shape.append(size)
            strides.append(<Py_ssize_t>x.strides[dim] * step)
            offset += <Py_ssize_t>x.strides[dim] * start if size else 0
            dim += 1
        else:
            index, size = part, x.shape[dim]
            if not -size <= index < size:
                raise IndexError(f"slice: index {index} is out of bounds for dimension {dim} with size {size}")
            offset += <Py_ssize_t>x.strides[dim] * (index + size if index < 0 else index)
            dim += 1
    for dim in range(dim, ndim):
        shape.append(x.shape[dim])
        strides.append(x.strides[dim])
    return at(x, tuple(shape), tuple(strides), offset)
