"""The compiled core: Tensor, Node and Op.  It knows no op by name: ops are registered from ``minidl.ops``.

How a step is recorded.  Calling an ``Op`` takes the raw arrays out of its tensor arguments, calls the device's
function of the same name, wraps the result as a Tensor and, when a gradient will be wanted, hangs a ``Node``
on it.  A Node holds

    edges       per argument, where its gradient goes: another Node, a leaf Tensor, or None
    args        the arguments, each tensor replaced by its shape (rules read numbers and shapes here)
    saved       the raw arrays that the rule needs, with the storage and its version for each

and never a Tensor of its own making, so that no reference cycle can arise: a saved output is kept as its raw
array and becomes a Tensor again only when a derivative of the derivative is asked for.

A rule is ``backward(F, node, *grad_outputs, *saved)``.  ``F`` is a device (then everything is a raw array) or
the graph namespace (``create_graph=True``: then everything is a Tensor and what the rule does is recorded).
"""

cimport cython
cimport numpy as cnp
from cpython.bool cimport PyBool_Check
from cpython.dict cimport PyDict_GetItem
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject, PyTypeObject, Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE
from libc.stdlib cimport realloc

from minidl._ext.device_array cimport DeviceArray
from minidl._ext.device_pool cimport Block
from minidl._ext.storage cimport Storage

import weakref

import numpy as np

from minidl._types import Size, from_numpy_dtype

cnp.import_array()

cdef extern from *:
    """
    static __thread int minidl_grad_enabled = 1;
    static __thread int minidl_inference = 0;
    """
    int minidl_grad_enabled
    int minidl_inference

cdef extern from "numpy/arrayobject.h":
    tuple PyArray_IntTupleFromIntp(int length, cnp.npy_intp* values)

cdef extern from "Python.h":
    void PyType_Modified(PyTypeObject* type)

cdef dict REGISTRY = {}             # name -> Op or Tensor-level function: what the graph namespace offers
REGISTERED = REGISTRY
cdef dict DUNDERS = {}              # name -> function behind a special method that the slots below do not spell out
cdef object PROMOTE = None
cdef object CHECK_CAST = None
cdef unsigned long _sequence = 0
cdef unsigned long _bindings = 0
cdef Op _add = None, _sub = None, _mul = None, _div = None, _neg = None, _pow = None
cdef object _matmul = None


cdef class _Graph:
    """The Tensor-level twin of a device: the same function names over Tensors, each recorded on the tape."""

    def __getattr__(self, name):
        try:
            return REGISTRY[name]
        except KeyError:
            raise AttributeError(f"no differentiable op named {name!r}") from None

GRAPH = _Graph()


cdef object graph_namespace():
    return GRAPH


# ---- grad modes: one flag per thread --------------------------------------------------------------------------

cdef bint is_grad_enabled() noexcept:
    return minidl_grad_enabled


cdef bint set_grad(bint enabled) noexcept:
    global minidl_grad_enabled
    cdef bint before = minidl_grad_enabled
    minidl_grad_enabled = enabled
    return before


def grad_enabled():
    """Whether ops are being recorded in this thread."""
    return bool(minidl_grad_enabled)


def set_grad_enabled(bint enabled):
    """Switch recording on or off in this thread; returns what it was."""
    return bool(set_grad(enabled))


def inference_enabled():
    """Whether this thread is in inference mode."""
    return bool(minidl_inference)


def set_inference_enabled(bint enabled):
    """Switch inference mode on or off in this thread; returns what it was."""
    global minidl_inference
    cdef bint before = minidl_inference
    minidl_inference = enabled
    return bool(before)


# ---- raw arrays -----------------------------------------------------------------------------------------------

cdef inline int typenum(object raw):
    if cnp.PyArray_CheckExact(raw):
        return cnp.PyArray_TYPE(<cnp.ndarray>raw)
    if type(raw) is DeviceArray:
        return (<cnp.dtype>(<DeviceArray>raw).dtype).type_num
    return raw.dtype.num


cdef bint is_floating(object raw):
    cdef int number = typenum(raw)
    return number == cnp.NPY_FLOAT or number == cnp.NPY_DOUBLE


cdef inline object shape_of(object raw):
    if cnp.PyArray_CheckExact(raw):
        return PyArray_IntTupleFromIntp(cnp.PyArray_NDIM(<cnp.ndarray>raw), cnp.PyArray_DIMS(<cnp.ndarray>raw))
    if type(raw) is DeviceArray:
        return (<DeviceArray>raw).shape
    return raw.shape


cpdef object memory_root(object raw):
    """Whatever owns the memory under a chain of views."""
    cdef object base = raw.base
    while isinstance(base, np.ndarray):
        raw = base
        base = raw.base
    return raw if base is None else base


cdef inline Tensor new_tensor(object raw, object backend, Storage storage):
    cdef Tensor tensor = Tensor.__new__(Tensor)
    tensor.raw = raw
    tensor.backend = backend
    tensor.storage = storage
    tensor.inference = minidl_inference
    return tensor


cdef Tensor wrap(object raw, object backend):
    """A Tensor over a raw array that nobody else writes to."""
    cdef object base
    if cnp.PyArray_CheckExact(raw) and cnp.PyArray_BASE(<cnp.ndarray>raw) != NULL:
        base = <object>cnp.PyArray_BASE(<cnp.ndarray>raw)
    elif type(raw) is DeviceArray:
        base = (<DeviceArray>raw).base
    elif isinstance(raw, np.generic):
        raw = np.asarray(raw)
        base = None
    else:
        base = raw.base
    if type(base) is Storage:
        return new_tensor(raw, backend, <Storage>base)
    return new_tensor(raw, backend, Storage(raw))


cdef Tensor wrap_on(object raw, object backend, Storage storage, Node node, int output_nr):
    """A Tensor over ``raw`` that lies in a known storage and is output ``output_nr`` of ``node``."""
    cdef Tensor tensor = new_tensor(raw, backend, storage)
    tensor.node = node
    tensor.output_nr = output_nr
    return tensor


# Op, Node and Tensor know each other's fields, so they are one module in four files.
include "deferred.pxi"
include "op.pxi"
include "node.pxi"
include "tensor.pxi"

# ---- how the rest of the package reaches the core -------------------------------------------------------------

def from_raw(raw, backend):
    """A Tensor over a raw array of ``backend``; foreign memory is kept alive and shared."""
    return wrap(raw, backend)


def raw_view(Tensor source not None, raw):
    """A Tensor over ``raw``, which lies in the storage of ``source``, off the tape."""
    return new_tensor(raw, source.backend, source.storage)


def rebind():
    """Let every op look up its device function anew: a backend has been given other functions."""
    global _bindings
    _bindings += 1


def with_gradients(list tensors not None):
    """{backend: (tensors, their raw arrays, those of their gradients)} of the tensors that have a gradient.

    The tensors are going to be changed: what waits is computed first.
    """
    cdef dict found = {}
    cdef tuple entry = None
    cdef object last = None
    cdef Tensor tensor
    compute_waiting(None)
    for tensor in tensors:
        if tensor.grad_tensor is None:
            continue
        if tensor.backend is not last:
            last = tensor.backend
            entry = found.setdefault(last, ([], [], []))
        (<list>entry[0]).append(tensor)
        (<list>entry[1]).append(raw_of(tensor))
        (<list>entry[2]).append(raw_of(tensor.grad_tensor))
    return found


def alike(tensors):
    """(raw arrays, backend) of Tensors of one shape, dtype and device that no gradient flows through, else None."""
    cdef list raws = []
    cdef Tensor tensor, first = None
    cdef int number = 0
    cdef tuple shape = None
    for value in tensors:
        if not isinstance(value, Tensor):
            return None
        tensor = <Tensor>value
        if minidl_grad_enabled and tensor.needs_grad():
            return None
        raws.append(raw_of(tensor))
        if first is None:
            first, shape, number = tensor, shape_of(tensor.raw), typenum(tensor.raw)
        elif tensor.backend is not first.backend or typenum(tensor.raw) != number or shape_of(tensor.raw) != shape:
            return None
    return None if first is None else (raws, first.backend)


def kept_raws(state, list tensors not None, str key not None):
    """The raw arrays of the tensors ``state[tensor][key]``, None where there is none; and whether one was missing."""
    cdef list raws = []
    cdef bint missing = False
    cdef PyObject* values
    cdef object value
    for tensor in tensors:
        values = PyDict_GetItem(state, tensor)
        value = None if values == NULL else (<dict>values).get(key)
        if value is None:
            missing = True
            raws.append(None)
        else:
            raws.append(raw_of(<Tensor?>value))
    return raws, missing


def bump_versions(list tensors not None):
    """Say that compiled code, which the tape does not see, has changed the memory of these tensors in place."""
    cdef Tensor tensor
    for tensor in tensors:
        tensor.storage.version += 1


def attach_methods(dict methods):
    """Add attributes to the Tensor type; special methods go to the slots that ask for them."""
    cdef PyTypeObject* tensor_type = <PyTypeObject*>Tensor
    for name, method in methods.items():
        if name in ("__getitem__", "__setitem__", "__len__", "__iter__", "__contains__", "__bool__", "__int__",
                    "__float__", "__index__", "__init__", "__repr__", "__format__", "__array__", "__reduce_ex__", "__deepcopy__"):
            DUNDERS[name] = method
        else:
            type_dict(tensor_type)[name] = method
    PyType_Modified(tensor_type)


cdef extern from *:
    """
    static PyObject* minidl_type_dict(PyTypeObject* type) { return type->tp_dict; }
    """
    PyObject* minidl_type_dict(PyTypeObject* type)


cdef dict type_dict(PyTypeObject* type):
    return <dict>minidl_type_dict(type)


def connect(promote, check_cast, matmul):
    """Give the core what it must not know itself: type promotion, and the ops behind the operators."""
    global PROMOTE, CHECK_CAST, _add, _sub, _mul, _div, _neg, _matmul, _pow
    PROMOTE = promote
    CHECK_CAST = check_cast
    _add, _sub, _mul, _div = REGISTRY["add"], REGISTRY["sub"], REGISTRY["mul"], REGISTRY["div"]
    _neg, _pow = REGISTRY["neg"], REGISTRY["pow"]
    _matmul = matmul
