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

cdef extern from "Python.h":
    void PyType_Modified(PyTypeObject* type)

cdef dict REGISTRY = {}             # name -> Op or Tensor-level function: what the graph namespace offers
REGISTERED = REGISTRY
cdef dict DUNDERS = {}              # name -> function behind a special method that the slots below do not spell out
cdef object PROMOTE = None
cdef object CHECK_CAST = None
cdef unsigned long _sequence = 0
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
    return raw.dtype.num


cdef bint is_floating(object raw):
    cdef int number = typenum(raw)
    return number == cnp.NPY_FLOAT or number == cnp.NPY_DOUBLE


cdef inline object shape_of(object raw):
    return raw.shape


cdef object memory_root(object raw):
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
    if not cnp.PyArray_CheckExact(raw) and isinstance(raw, np.generic):
        raw = np.asarray(raw)
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


# ---- ops ------------------------------------------------------------------------------------------------------

@cython.final
cdef class Op:
    """A differentiable op: a device function, what to keep for its derivative, and the derivative.

    name          the device function, and the name in the graph namespace
    grad_name     what ``grad_fn`` prints, PyTorch's name; a function of the node where PyTorch has several
    backward      the rule ``backward(F, node, *grad_outputs, *saved)``; it returns one gradient per argument
                  (None for those without; trailing ones may be left out).  None: not differentiable
    saves         {i: (j, ...)}: argument i is kept if any argument j needs a gradient
    saves_output  keep the first output: True, or (j, ...): if any argument j needs a gradient
    outputs       number of results that the user sees; further results of the device function are kept
    view          the result looks at the memory of the first argument
    promotion     how the dtypes of the arguments are brought together first: "arithmetic", "float" (integers become
                  the default float), "compare"; "subtract" and "count" refuse bool, "bits" refuses fractions
    forward       ``forward(F, *raw_arguments)`` where the op is more than one device function
    """

    def __init__(self, name, grad_name=None, backward=None, saves=None, saves_output=False, outputs=1, view=False,
                 promotion=None, forward=None):
        self.name = name
        self.grad_name = grad_name or "".join(part.capitalize() for part in name.split("_")) + "Backward0"
        self.backward = backward
        if saves_output is True:
            self.output_mask = ~0ul
        else:
            for other in saves_output or ():
                self.output_mask |= 1ul << <int>other
        self.outputs = outputs
        self.view = view
        self.forward = forward
        self.promotion = (None, "arithmetic", "float", "compare", "subtract", "count", "bits").index(promotion)
        for position, wanted_by in (saves or {}).items():
            for other in wanted_by:
                self.save_masks[position] |= 1ul << <int>other
        if name not in REGISTRY:
            REGISTRY[name] = self

    def __repr__(self):
        return f"<op {self.name}>"

    def __call__(self, *args):
        return self.call(args)

    cdef object bind(self, object backend):
        if self.bound_backend is not backend:
            self.bound = getattr(backend, self.name) if self.forward is None else None
            self.bound_backend = backend
        return self.bound

    cdef object run(self, object backend, list raws):
        """The device function on raw arrays."""
        if self.forward is not None:
            return self.forward(backend, *raws)
        cdef object function = self.bind(backend)
        cdef Py_ssize_t n = len(raws)
        if n == 1:
            return function(raws[0])
        if n == 2:
            return function(raws[0], raws[1])
        if n == 3:
            return function(raws[0], raws[1], raws[2])
        return function(*raws)

    cdef object call(self, tuple args):
        cdef Py_ssize_t i, n
        cdef Tensor tensor, first = None
        cdef object argument, result, backend = None
        cdef bint needs = False
        cdef bint recording = minidl_grad_enabled and self.backward is not None
        cdef Node node
        cdef tuple visible
        if self.promotion:
            args = promoted(self, args)
        n = len(args)
        cdef list raws = [None] * n
        for i in range(n):
            argument = args[i]
            if isinstance(argument, Tensor):
                tensor = <Tensor>argument
                if backend is None:
                    backend = tensor.backend
                    first = tensor
                elif backend is not tensor.backend:
                    raise RuntimeError(
                        f"{self.name}: expected all tensors to be on the same device, but found at least two "
                        f"devices, {backend.device} and {tensor.backend.device}; move one with .to(...)")
                raws[i] = tensor.raw
                if recording and not needs:
                    needs = tensor.needs_grad()
            else:
                raws[i] = argument
        if backend is None:
            raise TypeError(f"{self.name}(): expected a Tensor, got {', '.join(type(a).__name__ for a in args)}")
        result = self.run(backend, raws)
        if self.outputs == 1 and type(result) is not tuple:
            tensor = self.wrap_output(result, backend, first, args)
            if needs and is_floating(tensor.raw):
                node = self.record(args, raws)
                if self.output_mask:
                    save_output(node, tensor.raw, tensor.storage)
                tensor.node = node
            return tensor
        outputs = [self.wrap_output(raw, backend, first, args) for raw in (<tuple>result)[:self.outputs]]
        if needs:
            node = self.record(args, raws)
            for i in range(self.outputs):
                tensor = outputs[i]
                if is_floating(tensor.raw):
                    tensor.node = node
                    tensor.output_nr = i
            if self.output_mask:
                save_output(node, (<Tensor>outputs[0]).raw, (<Tensor>outputs[0]).storage)
            for i in range(self.outputs, len(<tuple>result)):
                node.saved.append((<tuple>result)[i])
                node.saved_storages.append(None)
                node.saved_versions.append(0)
                node.saved_edges.append(None)
            if self.outputs > 1:
                node.output_meta = [((<Tensor>t).raw.shape, (<Tensor>t).raw.dtype) for t in outputs]
        return outputs[0] if self.outputs == 1 else tuple(outputs)

    def wrap_output(self, object raw, object backend, Tensor first, tuple args):
        cdef Tensor tensor
        cdef tuple step
        if not self.view or memory_root(raw) is not memory_root(first.raw):
            return wrap(raw, backend)
        tensor = new_tensor(raw, backend, first.storage)
        tensor.inference = first.inference
        step = ((self.name, args[1:]),)
        tensor.view_of = View.__new__(View)
        tensor.view_of.recorded = minidl_grad_enabled
        if first.view_of is None:
            tensor.view_of.base = first
            tensor.view_of.steps = step
        else:
            tensor.view_of.base = first.view_of.base
            tensor.view_of.steps = first.view_of.steps + step
            tensor.view_of.recorded &= first.view_of.recorded
        tensor.view_version = first.storage.version
        return tensor

    cdef Node record(self, tuple args, list raws):
        """A Node for this call: edges to the producers of the arguments, and what the rule needs kept."""
        global _sequence
        cdef Node node = Node.__new__(Node)
        cdef Py_ssize_t i, n = len(args)
        cdef Tensor tensor
        cdef object argument
        cdef list edges = [None] * n
        cdef list shapes = [None] * n
        cdef list numbers = None
        for i in range(n):
            argument = args[i]
            if isinstance(argument, Tensor):
                tensor = <Tensor>argument
                shapes[i] = shape_of(tensor.raw)
                node.backend = tensor.backend
                if not tensor.needs_grad():
                    continue
                if tensor.node is not None:
                    edges[i] = tensor.node
                    if tensor.output_nr:
                        if numbers is None:
                            numbers = [0] * n
                        numbers[i] = tensor.output_nr
                else:
                    edges[i] = tensor
            else:
                shapes[i] = argument
        node.op = self
        node.edges = edges
        node.edge_outputs = numbers
        node.args = shapes
        _sequence += 1
        node.sequence = _sequence
        self.keep(node, args, raws)
        return node

    cdef bint keep(self, Node node, tuple args, list raws) except -1:
        """Keep the arguments that the rule will want, given which gradients are wanted."""
        cdef Py_ssize_t i, n = len(args)
        cdef unsigned long needed = 0
        cdef Tensor tensor
        node.saved = []
        node.saved_storages = []
        node.saved_versions = []
        node.saved_edges = []
        for i in range(min(n, 64)):
            if node.edges[i] is not None:
                needed |= 1ul << <int>i
        for i in range(min(n, 8)):
            if self.save_masks[i] == 0:
                continue
            if not self.save_masks[i] & needed:
                node.saved.append(None)
                node.saved_storages.append(None)
                node.saved_versions.append(0)
                node.saved_edges.append(None)
                continue
            node.saved.append(raws[i])
            if isinstance(args[i], Tensor):
                tensor = <Tensor>args[i]
                if tensor.inference:
                    raise RuntimeError("Inference tensors cannot be saved for backward. To work around you can make a "
                                       "clone to get a normal tensor and use it in autograd.")
                node.saved_storages.append(tensor.storage)
                node.saved_versions.append(tensor.storage.version)
                node.saved_edges.append(i)
            else:
                node.saved_storages.append(None)
                node.saved_versions.append(0)
                node.saved_edges.append(None)
        return True


cdef int save_output(Node node, object raw, Storage storage) except -1:
    """Keep the first output, or None in its place where no wanted gradient reads it."""
    cdef Py_ssize_t i
    cdef unsigned long needed = 0
    if node.op.output_mask != ~0ul:
        for i in range(min(len(node.edges), 64)):
            if node.edges[i] is not None:
                needed |= 1ul << <int>i
        if not node.op.output_mask & needed:
            raw = storage = None
    node.saved.append(raw)
    node.saved_storages.append(storage)
    node.saved_versions.append(0 if storage is None else storage.version)
    node.saved_edges.append(None if storage is None else -1)
    return 0


cdef inline bint plain(object value):
    """A Python number of exactly this type: NumPy's own scalars promote differently and go the long way."""
    return PyFloat_CheckExact(value) or PyLong_CheckExact(value) or PyBool_Check(value)


cdef tuple promoted(Op op, tuple args):
    """The arguments brought to one dtype; at once where they already have one."""
    cdef int common = -1, number
    cdef bint has_float_scalar = False
    cdef object argument
    for argument in args:
        if isinstance(argument, Tensor):
            number = typenum((<Tensor>argument).raw)
            if common >= 0 and number != common:
                return PROMOTE(op.promotion, args)
            common = number
        elif PyFloat_CheckExact(argument):
            has_float_scalar = True
        elif argument is not None and not plain(argument):
            return PROMOTE(op.promotion, args)
    if (common == cnp.NPY_FLOAT or common == cnp.NPY_DOUBLE) and op.promotion != 6:
        return args
    if op.promotion == 2 or has_float_scalar or common != cnp.NPY_LONG:
        return PROMOTE(op.promotion, args)
    return args


def register(name, function):
    """Offer a Tensor-level function (not a single op) under the name of a device function in the graph namespace."""
    REGISTRY[name] = function


def inplace(Op op not None, Tensor self not None, *args):
    """Run ``op`` and write its result into the memory of ``self``, which becomes its output on the tape."""
    cdef bint recording = minidl_grad_enabled
    cdef Tensor base = self.view_of.base if self.view_of is not None else None
    cdef Tensor tensor
    cdef Node node
    cdef bint needs = False
    if recording:
        if self.inference and not minidl_inference:
            raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not allowed. "
                               "You can make a clone to get a normal tensor before doing inplace update.")
        if self.leaf_requires_grad:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if base is not None and base.leaf_requires_grad:
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an in-place operation.")
        needs = self.needs_grad()
    cdef tuple full = (self,) + args
    if op.promotion:
        full = promoted(op, full)
        if full[0] is not self:
            return assign_cast(op, self, full)
    require_writable(op, self)
    cdef list raws = []
    for argument in full:
        if isinstance(argument, Tensor):
            tensor = <Tensor>argument
            if tensor.backend is not self.backend:
                raise RuntimeError(
                    f"{op.name}_: expected all tensors to be on the same device, but found at least two devices, "
                    f"{self.backend.device} and {tensor.backend.device}; move one with .to(...)")
            raws.append(tensor.raw)
            if recording and not needs:
                needs = tensor.needs_grad()
        else:
            raws.append(argument)
    result = op.run(self.backend, raws)
    extras = ()
    if type(result) is tuple:
        extras = result[1:]
        result = result[0]
    require_shape(self, result.shape)
    if result.dtype != self.raw.dtype:
        CHECK_CAST(result.dtype, self.raw.dtype)
    needs = needs and is_floating(self.raw)
    if needs and op.backward is None:
        raise RuntimeError(f"{op.name}_: has no derivative, and this tensor or an argument requires grad; change "
                           "detached tensors, or do it inside no_grad")
    if needs:
        if base is not None and not self.view_of.recorded:
            raise RuntimeError(
                "A view was created in no_grad mode and is being modified inplace with grad mode enabled. Put the view "
                "and the change both inside the no_grad block, or both outside.")
        node = op.record(full, raws)
        keep_original(op, node, self)
    self.backend.copy_(self.raw, result)
    self.storage.version += 1
    if needs:
        if op.output_mask:
            save_output(node, self.raw, self.storage)
        for extra in extras:
            node.saved.append(extra)
            node.saved_storages.append(None)
            node.saved_versions.append(0)
            node.saved_edges.append(None)
        if base is None:
            self.move_to(node)
        else:
            base.rebase(self.view_of.steps, node)
            self.refresh_view()
    return self


cdef int require_shape(Tensor self, shape) except -1:
    if shape != self.raw.shape:
        raise RuntimeError(f"output with shape {list(self.raw.shape)} doesn't match the broadcast shape {list(shape)}")
    return 0


cdef object assign_cast(Op op, Tensor self, tuple args):
    """``op`` computes in another dtype than that of ``self``: its result is cast on its way into this memory."""
    cdef Tensor result = op.call(args)
    require_shape(self, result.raw.shape)
    CHECK_CAST(result.raw.dtype, self.raw.dtype)
    return inplace(REGISTRY["assigned"], self, REGISTRY["cast"](result, self.dtype))


cdef int require_writable(Op op, Tensor self) except -1:
    """Refuse to write where memory is read-only, or where several places of the tensor are one place in memory."""
    cdef object raw = self.raw
    if cnp.PyArray_CheckExact(raw) and not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>raw):
        raise RuntimeError(f"{op.name}_: the memory under this tensor is read-only (it came from a read-only array); "
                           "use .clone() first")
    if 0 in raw.shape:
        return 0
    for size, stride in zip(raw.shape, raw.strides):
        if size > 1 and not stride and raw.size:
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. Please clone() the tensor before performing the operation.")
    return 0


cdef int keep_original(Op op, Node node, Tensor self) except -1:
    """Where the rule wants what ``self`` held before the change: keep a copy of it."""
    cdef object raw
    if op.save_masks[0] and node.saved_edges[0] == 0:
        raw = self.backend.copy(self.raw)
        node.saved[0] = raw
        node.saved_storages[0] = (<Tensor>wrap(raw, self.backend)).storage
        node.saved_versions[0] = 0
    return 0


@cython.final
cdef class View:
    """How a tensor was made from its base: the steps can be replayed on the base after an in-place change."""


# ---- nodes ----------------------------------------------------------------------------------------------------

@cython.final
@cython.freelist(256)
@cython.trashcan(True)
cdef class Node:
    """One recorded op.  ``grad_fn`` of its outputs."""

    def name(self):
        """PyTorch's name of this step, such as ``AddBackward0``."""
        if self.op is not None:
            return self.op.grad_name(self) if callable(self.op.grad_name) else self.op.grad_name
        return type(self.function).__name__

    def __repr__(self):
        return f"<{self.name()} object at {hex(id(self))}>"

    @property
    def next_functions(self):
        """((node, output number), ...) per argument; a leaf appears as its ``AccumulateGrad``."""
        return tuple(
            (AccumulateGrad(edge) if isinstance(edge, Tensor) else edge, self.edge_output(i))
            for i, edge in enumerate(self.edges)
            if edge is not None or isinstance(self.args[i], tuple)
        ) if self.edges is not None else ()

    def needs(self, Py_ssize_t index):
        """Whether the gradient of argument ``index`` is wanted."""
        return self.edges[index] is not None

    def saved_values(self, F):
        """The saved values as the rule takes them: raw arrays for a device, Tensors for the graph namespace."""
        return self.unpack_tensors() if F is GRAPH else self.unpack()

    def _saved_tensors(self):
        return self.unpack_tensors()

    cdef int edge_output(self, Py_ssize_t index):
        return 0 if self.edge_outputs is None else self.edge_outputs[index]

    cdef list unpack(self):
        """The saved raw arrays, after a check that nobody changed them since."""
        cdef Py_ssize_t i
        cdef Storage storage
        if self.released:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they "
                "have already been freed). Saved intermediate values of the graph are freed when you call "
                ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the "
                "graph a second time or if you need to access saved tensors after calling backward.")
        for i in range(len(self.saved)):
            storage = <Storage>self.saved_storages[i]
            if storage is not None and storage.version != <unsigned long>self.saved_versions[i]:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace "
                    f"operation: [{from_numpy_dtype(self.saved[i].dtype)} {list(self.saved[i].shape)}], which "
                    f"{self.describe_saved(i)} {self.name()}, is at version {storage.version}; expected version "
                    f"{self.saved_versions[i]} instead. Hint: use the out-of-place form of the operation that "
                    "changed it, or .clone() it first.")
        return self.saved

    def describe_saved(self, i):
        origin = self.saved_edges[i]
        return f"is output {-1 - origin} of" if origin is not None and origin < 0 else f"is argument {origin} of"

    cdef list unpack_tensors(self):
        """The saved values as Tensors with their history, for a backward pass that is itself recorded."""
        cdef list values = []
        cdef Py_ssize_t i
        cdef object raw, origin, edge
        for i, raw in enumerate(self.unpack()):
            origin = self.saved_edges[i]
            storage = self.saved_storages[i]
            if storage is None:
                is_array = raw is not None and isinstance(raw, self.backend.array_type)
                values.append(wrap(raw, self.backend) if is_array else raw)
            elif origin < 0:
                values.append(wrap_on(raw, self.backend, storage, self, -1 - origin))
            else:
                edge = self.edges[origin]
                if isinstance(edge, Tensor):
                    values.append(edge)
                else:
                    values.append(wrap_on(raw, self.backend, storage, edge, self.edge_output(origin)))
        return values

    cdef int release(self) except -1:
        """Let go of the saved values: this node's derivative has been used."""
        if self.function is not None:
            self.function._release()
            return 0
        if self.saved:
            self.released = True
        self.saved = []
        self.saved_storages = []
        self.saved_versions = []
        for argument in self.args:
            if isinstance(argument, Node):
                (<Node>argument).release()
        return 0

    @property
    def metadata(self):
        """Shapes and raw dtypes of the outputs, where the node has several."""
        return self.output_meta


def function_node(function not None, tuple inputs not None, list output_meta not None):
    """A Node whose derivative is a user's ``autograd.Function``; ``function`` is its context."""
    global _sequence
    cdef Node node = Node.__new__(Node)
    cdef Tensor tensor
    cdef list edges = [], numbers = [], shapes = []
    for value in inputs:
        edge = None
        number = 0
        if isinstance(value, Tensor):
            tensor = value
            node.backend = tensor.backend
            if tensor.needs_grad():
                edge = tensor.node if tensor.node is not None else tensor
                number = tensor.output_nr
            shapes.append(tensor.raw.shape)
        else:
            shapes.append(None)
        edges.append(edge)
        numbers.append(number)
    node.function = function
    node.edges = edges
    node.edge_outputs = numbers
    node.args = shapes
    node.output_meta = output_meta
    node.saved = []
    _sequence += 1
    node.sequence = _sequence
    return node


def attach_output(Tensor tensor not None, Node node not None, int number):
    """Make ``tensor`` output ``number`` of ``node``."""
    tensor.node = node
    tensor.output_nr = number
    tensor.leaf_requires_grad = False


class AccumulateGrad:
    """Where a gradient reaches a leaf; seen in ``next_functions``."""

    def __init__(self, variable):
        self.variable = variable

    def name(self):
        return "AccumulateGrad"

    def __repr__(self):
        return f"<AccumulateGrad object at {hex(id(self.variable))}>"


class Hooks(dict):
    """Handle -> hook, in the order of registration: a dict that its handles can refer to weakly."""


class RemovableHandle:
    """What registering a hook returns: ``remove()`` takes the hook away again; also a context manager."""

    def __init__(self, hooks):
        # weakly, as the dict holds the handle: or every hook would be garbage that only gc can find
        self._hooks = weakref.ref(hooks) if type(hooks) is not dict else (lambda: hooks)

    def remove(self):
        """Take the hook away; once more does nothing."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


# ---- tensors --------------------------------------------------------------------------------------------------

cdef inline object slot(Op op, object a, object b):
    """A binary operator: the op, or NotImplemented for an operand of a foreign kind."""
    if (isinstance(a, Tensor) or plain(a) or isinstance(a, (np.generic, np.ndarray))) and (
            isinstance(b, Tensor) or plain(b) or isinstance(b, (np.generic, np.ndarray))):
        return op.call((a, b))
    return NotImplemented


cdef object dunder(str name, tuple args):
    return DUNDERS[name](*args)


@cython.freelist(256)
@cython.trashcan(True)
cdef class Tensor:
    """An n-dimensional array with a tape: a view (shape, strides, offset) of a storage on some device.

    Make tensors with ``minidl.tensor``, ``zeros``, ``rand``, ``from_numpy`` and their like.
    """

    __array_priority__ = 1000.0

    def __init__(self, *args):
        """``Tensor(2, 3)``: memory of that shape as it was found.  ``Tensor([1, 2])``: these numbers.  Default dtype."""
        cdef Tensor source = dunder("__init__", args)
        self.raw = source.raw
        self.storage = source.storage
        self.backend = source.backend
        self.inference = source.inference

    cdef bint needs_grad(self) except -1:
        if self.view_of is not None and self.view_version != self.storage.version:
            self.refresh_view()
        return self.node is not None or self.leaf_requires_grad

    cdef int refresh_view(self) except -1:
        """After an in-place change of the memory: derive this view's place on the tape from its base's anew."""
        cdef Tensor fresh
        cdef bint before
        self.view_version = self.storage.version
        if self.leaf_requires_grad or not self.view_of.recorded or not self.view_of.base.needs_grad():
            return 0
        before = set_grad(True)
        try:
            fresh = self.view_of.base
            for name, args in self.view_of.steps:
                fresh = (<Op>REGISTRY[name]).call((fresh,) + args)
        finally:
            set_grad(before)
        self.node = fresh.node
        self.output_nr = fresh.output_nr
        return 0

    cdef int move_to(self, Node node) except -1:
        """After an in-place change: ``node`` is this tensor's place on the tape; ``retain_grad`` goes with it."""
        if self.node is not None and self.node.retained is not None:
            if self.node.retained.get(self.output_nr, dict)() is self:
                node.retained = {0: self.node.retained.pop(self.output_nr)}
        self.node = node
        self.output_nr = 0
        return 0

    cdef int rebase(self, tuple steps, Node inner) except -1:
        """This tensor's memory was changed through a view by ``inner``: make that its place on the tape."""
        cdef Op copy_slices = REGISTRY["copy_slices"]
        cdef Node node = copy_slices.record((self,), [])
        node.edges = [node.edges[0]] + inner.edges[1:]
        node.edge_outputs = [self.output_nr] + [inner.edge_output(i) for i in range(1, len(inner.edges))]
        node.args = [inner, steps]
        node.backend = self.backend
        self.move_to(node)
        return 0

    # -- what it is

    @property
    def shape(self):
        """Sizes of the dimensions, a ``Size``."""
        if self.size is None:
            self.size = Size(self.raw.shape)
        return self.size

    @property
    def ndim(self):
        """Number of dimensions."""
        return self.raw.ndim

    @property
    def dtype(self):
        """Kind of number, such as ``minidl.float32``."""
        return from_numpy_dtype(self.raw.dtype)

    @property
    def device(self):
        """Where the memory lies."""
        return self.backend.device

    @property
    def is_cuda(self):
        """Whether the memory lies on a GPU."""
        return self.backend.device.type == "cuda"

    @property
    def requires_grad(self):
        """Whether gradients flow to or through this tensor.  May be set on leaves."""
        return self.needs_grad()

    @requires_grad.setter
    def requires_grad(self, bint value):
        self.requires_grad_(value)

    def requires_grad_(self, bint requires_grad=True):
        """Ask for (or give up) a gradient for this leaf; returns the tensor itself.

        Raises ``RuntimeError`` for integer and bool tensors and, when switched off, for non-leaf tensors.
        """
        if requires_grad and not is_floating(self.raw):
            raise RuntimeError("only Tensors of floating point dtype can require gradients; this one has dtype "
                               f"{self.dtype}, convert it first with .float()")
        if self.needs_grad() and self.node is not None:
            if not requires_grad:
                raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a "
                                   "computed variable in a subgraph that doesn't require differentiation use "
                                   "var_no_grad = var.detach().")
            return self
        if requires_grad and self.inference and not minidl_inference:
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        self.leaf_requires_grad = requires_grad
        return self

    @property
    def is_leaf(self):
        """True for tensors that were not made by a recorded op."""
        self.needs_grad()
        return self.node is None

    def is_inference(self):
        """Whether the tensor was made in inference mode."""
        return bool(self.inference)

    @property
    def grad_fn(self):
        """The recorded step that made this tensor, or None."""
        self.needs_grad()
        return self.node

    @property
    def output_nr(self):
        """Which output of ``grad_fn`` this tensor is."""
        return self.output_nr

    @property
    def grad(self):
        """The gradient that ``backward`` has summed up here, or None."""
        return self.grad_tensor

    @grad.setter
    def grad(self, value):
        cdef Tensor tensor
        if value is None:
            self.grad_tensor = None
            return
        if not isinstance(value, Tensor):
            raise TypeError(f"assigned grad expected to be a Tensor or None but got {type(value).__name__}")
        tensor = <Tensor>value
        if tensor is self:
            raise RuntimeError("can't assign Variable as its own grad")
        if tensor.raw.dtype != self.raw.dtype:
            raise RuntimeError(f"assigned grad has data of a different type: expected {self.dtype}, got {tensor.dtype}")
        if tensor.raw.shape != self.raw.shape:
            raise RuntimeError(f"assigned grad has data of a different size: expected {list(self.raw.shape)}, got "
                               f"{list(tensor.raw.shape)}")
        if tensor.backend is not self.backend:
            raise RuntimeError(f"assigned grad has data located on a different device: expected {self.device}, got "
                               f"{tensor.device}")
        self.grad_tensor = tensor

    @grad.deleter
    def grad(self):
        self.grad_tensor = None

    @property
    def data(self):
        """The same memory without the tape.  Assigning replaces the memory under this tensor."""
        return self.detach()

    @data.setter
    def data(self, Tensor value not None):
        if value.raw.dtype != self.raw.dtype and self.needs_grad() and not is_floating(value.raw):
            raise RuntimeError(f"data set to a tensor that requires gradients must be floating point, got {value.dtype}")
        self.raw = value.raw
        self.storage = value.storage
        self.backend = value.backend
        self.inference = value.inference
        self.size = None
        self.view_of = None

    def detach(self):
        """The same memory as a tensor that is not on the tape; in-place changes of either are seen by both."""
        cdef Tensor tensor = new_tensor(self.raw, self.backend, self.storage)
        tensor.inference = self.inference
        return tensor

    def detach_(self):
        """Take this tensor off the tape in place."""
        if self.view_of is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self.node = None
        self.output_nr = 0
        self.leaf_requires_grad = False
        return self

    @property
    @cython.nonecheck(True)
    def _version(self):
        """How often the memory was changed in place."""
        return self.storage.version

    @property
    def _base(self):
        """The tensor that this one is a view of, or None."""
        return self.view_of.base if self.view_of is not None else None

    @property
    def _raw(self):
        """The raw array of the device: an ndarray on the CPU."""
        return self.raw

    @property
    def _backend(self):
        """The device's functions over raw arrays."""
        return self.backend

    @cython.nonecheck(True)
    def _bump_version(self):
        """Say that compiled code, which the tape does not see, has changed the memory in place."""
        self.storage.version += 1

    # -- gradients

    def register_hook(self, hook):
        """Call ``hook(grad)`` whenever the gradient of this tensor is computed; what it returns replaces it."""
        if not self.needs_grad():
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self.node is None:
            if self.hooks is None:
                self.hooks = Hooks()
            hooks = self.hooks
        else:
            if self.node.hooks is None:
                self.node.hooks = {}
            hooks = self.node.hooks.setdefault(self.output_nr, Hooks())
        handle = RemovableHandle(hooks)
        hooks[handle] = hook
        return handle

    def register_post_accumulate_grad_hook(self, hook):
        """Call ``hook(tensor)`` after this leaf's ``.grad`` was summed up."""
        if self.node is not None or not self.leaf_requires_grad:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        if self.post_accumulate_hooks is None:
            self.post_accumulate_hooks = Hooks()
        handle = RemovableHandle(self.post_accumulate_hooks)
        self.post_accumulate_hooks[handle] = hook
        return handle

    def retain_grad(self):
        """Keep the gradient of this non-leaf tensor in ``.grad`` too."""
        if not self.needs_grad():
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self.node is None:
            return
        if self.node.retained is None:
            self.node.retained = {}
        self.node.retained[self.output_nr] = weakref.ref(self)

    @property
    def retains_grad(self):
        """Whether ``retain_grad`` was called on this non-leaf tensor."""
        if self.node is None or self.node.retained is None:
            return False
        reference = self.node.retained.get(self.output_nr)
        return reference is not None and reference() is self

    # -- operators: the frequent ones in C, the rest from the table of methods

    def __add__(self, other):
        return slot(_add, self, other)

    def __radd__(self, other):
        return slot(_add, self, other)

    def __sub__(self, other):
        return slot(_sub, self, other)

    def __rsub__(self, other):
        return slot(_sub, other, self)

    def __mul__(self, other):
        return slot(_mul, self, other)

    def __rmul__(self, other):
        return slot(_mul, self, other)

    def __truediv__(self, other):
        return slot(_div, self, other)

    def __rtruediv__(self, other):
        return slot(_div, other, self)

    def __matmul__(self, other):
        return _matmul(self, other) if isinstance(other, Tensor) else NotImplemented

    def __neg__(self):
        return _neg.call((self,))

    def __pos__(self):
        return self

    def __pow__(self, exponent, modulo):
        return slot(_pow, self, exponent)

    def __rpow__(self, base, modulo):
        return slot(_pow, base, self)

    def __floordiv__(self, other):
        return slot(REGISTRY["floor_divide"], self, other)

    def __rfloordiv__(self, other):
        return slot(REGISTRY["floor_divide"], other, self)

    def __mod__(self, other):
        return slot(REGISTRY["remainder"], self, other)

    def __rmod__(self, other):
        return slot(REGISTRY["remainder"], other, self)

    def __and__(self, other):
        return slot(REGISTRY["bitwise_and"], self, other)

    def __rand__(self, other):
        return slot(REGISTRY["bitwise_and"], self, other)

    def __or__(self, other):
        return slot(REGISTRY["bitwise_or"], self, other)

    def __ror__(self, other):
        return slot(REGISTRY["bitwise_or"], self, other)

    def __xor__(self, other):
        return slot(REGISTRY["bitwise_xor"], self, other)

    def __rxor__(self, other):
        return slot(REGISTRY["bitwise_xor"], self, other)

    def __invert__(self):
        return (<Op>REGISTRY["bitwise_not"]).call((self,))

    def __abs__(self):
        return (<Op>REGISTRY["abs"]).call((self,))

    def __iadd__(self, other):
        return inplace(_add, self, other)

    def __isub__(self, other):
        return inplace(_sub, self, other)

    def __imul__(self, other):
        return inplace(_mul, self, other)

    def __itruediv__(self, other):
        return inplace(_div, self, other)

    def __ipow__(self, other, modulo):
        return inplace(_pow, self, other)

    def __richcmp__(self, other, int operation):
        cdef str name
        if operation == Py_EQ:
            name = "eq"
        elif operation == Py_NE:
            name = "ne"
        elif operation == Py_LT:
            name = "lt"
        elif operation == Py_LE:
            name = "le"
        elif operation == Py_GT:
            name = "gt"
        else:
            name = "ge"
        return slot(REGISTRY[name], self, other)

    def __hash__(self):
        return <Py_ssize_t><void*>self >> 4

    def __getitem__(self, key):
        return dunder("__getitem__", (self, key))

    def __setitem__(self, key, value):
        dunder("__setitem__", (self, key, value))

    def __len__(self):
        return dunder("__len__", (self,))

    def __iter__(self):
        return dunder("__iter__", (self,))

    def __contains__(self, element):
        return dunder("__contains__", (self, element))

    def __bool__(self):
        return dunder("__bool__", (self,))

    def __int__(self):
        return dunder("__int__", (self,))

    def __float__(self):
        return dunder("__float__", (self,))

    def __index__(self):
        return dunder("__index__", (self,))

    def __repr__(self):
        return dunder("__repr__", (self,))

    def __format__(self, specification):
        return dunder("__format__", (self, specification))

    def __array__(self, dtype=None, copy=None):
        return dunder("__array__", (self, dtype, copy))

    def __reduce_ex__(self, protocol):
        return dunder("__reduce_ex__", (self, protocol))

    def __deepcopy__(self, memo):
        return dunder("__deepcopy__", (self, memo))


cdef class Parameter(Tensor):
    """A Tensor that a ``Module`` registers as its own when it is assigned as an attribute.

    ``Parameter(data, requires_grad=True)`` shares the memory of ``data``.
    """

    def __init__(self, data=None, bint requires_grad=True):
        cdef Tensor source
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter expects a Tensor, got {type(data).__name__}; wrap it with minidl.tensor(...)")
        source = <Tensor>data
        self.raw = source.raw
        self.storage = source.storage
        self.backend = source.backend
        self.requires_grad_(requires_grad)


# ---- how the rest of the package reaches the core -------------------------------------------------------------

def from_raw(raw, backend):
    """A Tensor over a raw array of ``backend``; foreign memory is kept alive and shared."""
    return wrap(raw, backend)


def raw_view(Tensor source not None, raw):
    """A Tensor over ``raw``, which lies in the storage of ``source``, off the tape."""
    return new_tensor(raw, source.backend, source.storage)


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
