"""Repeating a recorded step: device functions called again on the same arrays, with nothing in between.

A ``Plan`` holds the calls of a step in their order.  All arrays that the step makes lie at places of one block of memory
that were found once; an allocation script hands them to the functions instead of fresh ones, so that a function's result
is the array that the next call's arguments name already.

On the CPU the plan calls the functions.  Inputs are not copied: the arrays that stand for them in the arguments are pointed
at the memory of the tensors that a call was given.  For another device a repeater does it (``_devices/cuda/graphs.py``).
"""

cimport numpy as cnp
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject, PyObject_CallObject

from minidl._ext.core cimport Tensor, compute_waiting, is_grad_enabled, raw_of
from minidl._ext.instruction_set cimport isa_level
from minidl._ext.storage cimport AllocationScript, Storage, new_like
from minidl._ext.threads cimport thread_limit

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArrayObject_fields:
        char* data
    int PyArray_CopyInto(cnp.ndarray to, cnp.ndarray start) except -1


cdef class Call:
    """One call of a device function.

    name        of the function
    arguments   with the arrays of the plan in their places
    place       of the first array that it makes, in the allocation script
    takes       whether it makes any
    copies      ((position in the result or -1 for all of it, array), ...): results that the function makes elsewhere
    varies      whether it does something else each time: draws random numbers, reads what Python changes
    """
    cdef readonly str name
    cdef readonly object function
    cdef readonly tuple arguments
    cdef readonly dict keywords
    cdef readonly Py_ssize_t place
    cdef readonly bint takes, varies
    cdef readonly tuple copies

    def __init__(self, str name not None, function, tuple arguments not None, dict keywords not None, Py_ssize_t place,
                 bint takes, tuple copies not None, bint varies):
        self.name = name
        self.function = function
        self.arguments = arguments
        self.keywords = keywords or None
        self.place = place
        self.takes = takes
        self.copies = copies
        self.varies = varies


cdef class Input:
    """A tensor that every call of the step is given: what it must be like, and the array that stands for it.

    rest        that array: it holds a copy on a device, and is where the CPU's views point between two calls
    """
    cdef object dtype, backend
    cdef tuple shape
    cdef bint requires_grad
    cdef readonly object rest

    def __init__(self, Tensor tensor not None, rest, *more):
        self.shape = raw_of(tensor).shape
        self.dtype = tensor.raw.dtype
        self.backend = tensor.backend
        self.requires_grad = tensor.needs_grad()
        self.rest = rest

    cdef bint takes(self, object value) except -1:
        if not isinstance(value, Tensor):
            return False
        cdef Tensor tensor = <Tensor>value
        raw_of(tensor)
        return (tensor.backend is self.backend and self.fits(tensor.raw) and tensor.raw.shape == self.shape
                and tensor.needs_grad() == self.requires_grad)

    cdef bint fits(self, object raw) except -1:
        return raw.contiguous and raw.dtype == self.dtype


cdef class InputInPlace(Input):
    """The same on the CPU, where it is read in the memory of the tensor.

    views       arrays in the arguments of the calls
    offsets     in bytes from the start of the tensor
    """
    cdef int typenum
    cdef list views, offsets

    def __init__(self, Tensor tensor not None, cnp.ndarray rest not None, list views not None, list offsets not None):
        Input.__init__(self, tensor, rest)
        self.typenum = cnp.PyArray_TYPE(tensor.raw)
        self.views = views
        self.offsets = offsets

    cdef bint fits(self, object raw) except -1:
        return (cnp.PyArray_CheckExact(raw) and cnp.PyArray_TYPE(<cnp.ndarray>raw) == self.typenum
                and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>raw))

    cdef int point(self, cnp.ndarray array) except -1:
        cdef Py_ssize_t i
        for i in range(len(self.views)):
            (<PyArrayObject_fields*>self.views[i]).data = cnp.PyArray_BYTES(array) + <Py_ssize_t>self.offsets[i]
        return 0


cdef class Plan:
    """A step that can be repeated.

    calls       in their order
    arrays      what the calls make, in the order in which they ask for it
    repeater    what repeats the calls, None where the plan calls them
    inputs      per argument of the step an ``Input``, or the value that it must be equal to
    fields      ((dict, key, value), ...): Python state that the step depends on and that must be what it was; the
                value ... means that there is no such key
    tensors     ((tensor, raw array), ...): tensors from outside that must still have this memory
    changed     tensors and storages from outside that the step writes to
    gradients   ((leaf, its gradient after the step or None), ...)
    outputs     function(copy) -> what the step returns, ``copy`` applied to the arrays in it
    """
    cdef list calls, arrays, inputs, fields, tensors, changed, gradients
    cdef object repeater, outputs
    cdef bint grad_enabled, busy
    cdef int threads, isa

    def __init__(self, list calls not None, list arrays not None, repeater, list inputs not None, list fields not None,
                 list tensors not None, list changed not None, list gradients not None, outputs):
        self.calls, self.arrays, self.repeater, self.inputs = calls, arrays, repeater, inputs
        self.fields, self.tensors, self.changed = fields, tensors, changed
        self.gradients, self.outputs = gradients, outputs
        self.grad_enabled = is_grad_enabled()
        self.threads, self.isa = thread_limit(), isa_level()

    @property
    def names(self):
        """The names of the device functions that it calls, in their order."""
        return [call.name for call in self.calls]

    def takes(self, list values not None):
        """Whether the step may be repeated for these arguments, in the state that everything is in now."""
        cdef Py_ssize_t i
        cdef object expected
        cdef Tensor tensor
        cdef tuple entry
        cdef PyObject* found
        if self.busy or self.grad_enabled != is_grad_enabled() or len(values) != len(self.inputs):
            return False
        if self.threads != thread_limit() or self.isa != isa_level():
            return False
        for i in range(len(values)):
            expected = self.inputs[i]
            if isinstance(expected, Input):
                if not (<Input>expected).takes(values[i]):
                    return False
            elif type(values[i]) is not type(expected) or values[i] != expected:
                return False
        for entry in self.fields:
            found = PyDict_GetItem(entry[0], entry[1])
            if found != <PyObject*>entry[2] and not (found == NULL and entry[2] is ...):
                return False
        for entry in self.tensors:
            tensor = <Tensor>entry[0]
            if tensor.raw is not entry[1]:
                return False
        return True

    def run(self, list values not None):
        """Repeat the step for arguments that ``takes`` has said yes to."""
        cdef Tensor leaf
        cdef tuple entry
        compute_waiting(None)
        self.busy = True
        try:
            if self.repeater is None:
                self.call_all(values)
            else:
                self.repeater.repeat([(<Tensor>values[i]).raw for i in range(len(values))
                                      if isinstance(self.inputs[i], Input)])
        finally:
            self.busy = False
            for owner in self.changed:
                if isinstance(owner, Tensor):
                    (<Tensor>owner).storage.version += 1
                else:
                    (<Storage>owner).version += 1
        for entry in self.gradients:
            leaf = <Tensor>entry[0]
            leaf.grad_tensor = <Tensor>entry[1]
        return self.outputs(copy_out if self.repeater is None else self.repeater.copy)

    cdef int call_all(self, list values) except -1:
        """Call the functions again, with the arguments read where they lie."""
        cdef Py_ssize_t i
        cdef Call call
        cdef object result
        cdef AllocationScript script = AllocationScript(self.arrays)
        try:
            for i in range(len(values)):
                if isinstance(self.inputs[i], InputInPlace):
                    (<InputInPlace>self.inputs[i]).point(<cnp.ndarray>(<Tensor>values[i]).raw)
            with script:
                for call in self.calls:
                    script.place = call.place
                    if call.keywords is None:
                        result = PyObject_CallObject(call.function, call.arguments)
                    else:
                        result = call.function(*call.arguments, **call.keywords)
                    for position, array in call.copies:
                        PyArray_CopyInto(array, result if position < 0 else result[position])
        finally:
            for i in range(len(values)):
                if isinstance(self.inputs[i], InputInPlace):
                    (<InputInPlace>self.inputs[i]).point(<cnp.ndarray>(<InputInPlace>self.inputs[i]).rest)
        return 0


def copy_out(cnp.ndarray array not None):
    """A copy of one of the plan's arrays: the next repetition will write to the array itself."""
    cdef cnp.ndarray copy = new_like(array)
    PyArray_CopyInto(copy, array)
    return copy
