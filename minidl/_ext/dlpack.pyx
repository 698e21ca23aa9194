"""DLPack for arrays on a device: https://dmlc.github.io/dlpack/latest/c_api.html; NumPy does it for those on the CPU.

A capsule named "dltensor" holds a DLManagedTensor: address, shape, strides in numbers, dtype, device, and a function
that the one who takes the memory over calls when done.  Whoever takes it renames the capsule to "used_dltensor".
"""

cimport cython
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetName
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport free, malloc

from minidl._ext.device_array cimport DeviceArray

import numpy as np

CUDA = 2                    # kDLCUDA
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_KINDS = {code: kind for kind, code in _CODES.items()}

cdef extern from *:
    """
    #include <stdint.h>
    typedef struct { int32_t device_type; int32_t device_id; } DLDevice;
    typedef struct { uint8_t code; uint8_t bits; uint16_t lanes; } DLDataType;
    typedef struct {
        void* data;
        DLDevice device;
        int32_t ndim;
        DLDataType dtype;
        int64_t* shape;
        int64_t* strides;
        uint64_t byte_offset;
    } DLTensor;
    typedef struct DLManagedTensor {
        DLTensor dl_tensor;
        void* manager_ctx;
        void (*deleter)(struct DLManagedTensor* self);
    } DLManagedTensor;
    """
    ctypedef struct DLDevice:
        int32_t device_type
        int32_t device_id
    ctypedef struct DLDataType:
        uint8_t code
        uint8_t bits
        uint16_t lanes
    ctypedef struct DLTensor:
        void* data
        DLDevice device
        int32_t ndim
        DLDataType dtype
        int64_t* shape
        int64_t* strides
        uint64_t byte_offset
    ctypedef struct DLManagedTensor:
        DLTensor dl_tensor
        void* manager_ctx
        void (*deleter)(DLManagedTensor* self) noexcept


cdef void let_go(DLManagedTensor* managed) noexcept with gil:
    """The one who took the memory is done with it."""
    Py_DECREF(<object>managed.manager_ctx)
    free(managed)


cdef void drop(object capsule) noexcept:
    """A capsule that goes away; if nobody has taken what is in it, that goes too."""
    cdef DLManagedTensor* managed
    if PyCapsule_IsValid(capsule, "dltensor"):
        managed = <DLManagedTensor*>PyCapsule_GetPointer(capsule, "dltensor")
        managed.deleter(managed)


def to_capsule(DeviceArray x not None, int device_id):
    """A capsule over the memory of x, which lies on the CUDA device ``device_id``."""
    cdef Py_ssize_t ndim = len(x.shape), dim
    cdef DLManagedTensor* managed = <DLManagedTensor*>malloc(sizeof(DLManagedTensor) + 2 * ndim * sizeof(int64_t))
    if managed == NULL:
        raise MemoryError("no memory for a DLPack capsule")
    cdef int64_t* sizes = <int64_t*>(managed + 1)
    for dim in range(ndim):
        sizes[dim] = x.shape[dim]
        sizes[ndim + dim] = x.strides[dim] // x.itemsize
    managed.dl_tensor.data = <void*>x.ptr
    managed.dl_tensor.device.device_type = CUDA
    managed.dl_tensor.device.device_id = device_id
    managed.dl_tensor.ndim = <int32_t>ndim
    managed.dl_tensor.dtype.code = _CODES[x.dtype.kind]
    managed.dl_tensor.dtype.bits = <uint8_t>(8 * x.itemsize)
    managed.dl_tensor.dtype.lanes = 1
    managed.dl_tensor.shape = sizes
    managed.dl_tensor.strides = sizes + ndim
    managed.dl_tensor.byte_offset = 0
    managed.deleter = let_go
    managed.manager_ctx = <void*>x
    Py_INCREF(x)
    return PyCapsule_New(managed, "dltensor", drop)


@cython.final
cdef class Taken:
    """Memory that was taken over from another library; it is told when nobody holds this any more."""
    cdef DLManagedTensor* managed

    def __dealloc__(self):
        if self.managed != NULL and self.managed.deleter != NULL:
            self.managed.deleter(self.managed)


def from_capsule(capsule):
    """``(address, shape, strides in bytes, dtype, device id, owner)`` of the CUDA memory in a capsule, which is used up.

    Raises ``RuntimeError`` for a capsule that has been taken before, and ``BufferError`` for memory that is not on a CUDA
    device or has a dtype that tensors do not have.
    """
    if not PyCapsule_IsValid(capsule, "dltensor"):
        raise RuntimeError("from_dlpack: this is no DLPack capsule, or one that has been taken already")
    cdef DLManagedTensor* managed = <DLManagedTensor*>PyCapsule_GetPointer(capsule, "dltensor")
    cdef DLTensor* given = &managed.dl_tensor
    cdef int dim
    if given.device.device_type != CUDA:
        raise BufferError(f"from_dlpack: expected memory of a CUDA device, got device type {given.device.device_type}")
    kind = _KINDS.get(given.dtype.code)
    if kind is None or given.dtype.lanes != 1 or (kind == "f" and given.dtype.bits not in (32, 64)):
        raise BufferError(f"from_dlpack: tensors have no dtype with code {given.dtype.code}, {given.dtype.bits} bits and "
                          f"{given.dtype.lanes} lanes")
    dtype = np.dtype(f"{kind}{given.dtype.bits // 8}")
    shape = tuple([given.shape[dim] for dim in range(given.ndim)])
    strides = None
    if given.strides != NULL:
        strides = tuple([given.strides[dim] * dtype.itemsize for dim in range(given.ndim)])
    cdef Taken owner = Taken.__new__(Taken)
    owner.managed = managed
    PyCapsule_SetName(capsule, "used_dltensor")
    return <size_t>given.data + given.byte_offset, shape, strides, dtype, given.device.device_id, owner
