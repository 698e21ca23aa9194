# Tensor and Parameter.  A part of core.pyx, which includes it.

cdef inline object slot(Op op, object a, object b):
    """A binary operator: the op, or NotImplemented for an operand of a foreign kind."""
    if (isinstance(a, Tensor) or plain(a) or isinstance(a, (np.generic, np.ndarray))) and (
            isinstance(b, Tensor) or plain(b) or isinstance(b, (np.generic, np.ndarray))):
        return op.call((a, b))
    return NotImplemented


cdef object dunder(str name, tuple args):
    return DUNDERS[name](*args)


@cython.freelist(256)
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
        cdef Node node = copy_slices.record((self,), (), 0)
        node.edges = (node.edges[0], *inner.edges[1:])
        node.edge_outputs = (self.output_nr, *[inner.edge_output(i) for i in range(1, len(inner.edges))])
        node.args = (inner, steps)
        node.backend = self.backend
        self.move_to(node)
        return 0

    # -- what it is

    @property
    def shape(self):
        """Sizes of the dimensions, a ``Size``."""
        if self.size is None:
            self.size = Size(shape_tuple(self))
        return self.size

    @property
    def ndim(self):
        """Number of dimensions."""
        return self.raw.ndim

    @property
    def dtype(self):
        """Kind of number, such as ``minidl.float32``."""
        return dtype_of(self.raw)

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
        self.dims = self.size = None
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
        return raw_of(self)

    @property
    def _shape(self):
        """The shape as a plain tuple; unlike ``_raw.shape`` it leaves a result that waits alone."""
        return shape_tuple(self)

    @property
    def _backend(self):
        """The device's functions over raw arrays."""
        return self.backend

    def _expose(self):
        """The raw array for somebody who may write to it at any time."""
        raw = raw_of(self)
        compute_waiting(self.storage)
        self.storage.exposed = True
        return raw

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
