"""``Forwarding``: objects whose call is their method ``forward``.  The compiled base of ``nn.Module``.

Modules are called so often, and a small layer is so fast, that a ``__call__`` in Python was a tenth of it.  The class has
no fields of its own, so that a subclass in Python may have other bases beside it.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_SIZE

cdef extern from "Python.h":
    PyObject* PyTuple_GET_ITEM(tuple values, Py_ssize_t i) noexcept
    # A new reference, or NULL with an exception set that Cython does not see.
    PyObject* PyObject_VectorcallMethod(object name, PyObject** arguments, size_t n, PyObject* names) noexcept
    PyObject* PyObject_Call(object function, object arguments, PyObject* keywords) noexcept
    void PyErr_Fetch(PyObject** kind, PyObject** error, PyObject** traceback)
    void PyErr_NormalizeException(PyObject** kind, PyObject** error, PyObject** traceback)
    void PyErr_Restore(PyObject* kind, PyObject* error, PyObject* traceback)

cdef extern from *:
    """
    static PyObject* minidl_owned(PyObject* result) { return result; }
    """
    object minidl_owned(PyObject* result)   # here Cython sees it

cdef enum:
    FEW = 8     # arguments that are handed on without being packed


@cython.auto_pickle(False)
cdef class Forwarding:
    """``self(...)`` is ``self.forward(...)``, or where ``self._hooked``, ``self._call_hooked(args, kwargs)``.

    An exception is shown to ``self._failed(error)`` on its way out; a call is one line of its traceback.
    """

    def __call__(self, *args, **kwargs):
        cdef PyObject* arguments[FEW + 1]
        cdef PyObject* result
        cdef Py_ssize_t i, n = PyTuple_GET_SIZE(args)
        if self._hooked:
            result = PyObject_Call(self._call_hooked, (args, kwargs), NULL)
        elif kwargs or n > FEW:
            result = PyObject_Call(self.forward, args, <PyObject*>kwargs)
        else:
            arguments[0] = <PyObject*>self
            for i in range(n):
                arguments[i + 1] = PyTuple_GET_ITEM(args, i)
            result = PyObject_VectorcallMethod("forward", arguments, n + 1, NULL)
        if result == NULL:
            show_failure(self)
        return minidl_owned(result)


cdef int show_failure(object module) except -1:
    """Let ``module`` see the exception that is set."""
    cdef PyObject* kind
    cdef PyObject* error
    cdef PyObject* traceback
    PyErr_Fetch(&kind, &error, &traceback)
    PyErr_NormalizeException(&kind, &error, &traceback)
    module._failed(<object>error)
    PyErr_Restore(kind, error, traceback)
    return 0
