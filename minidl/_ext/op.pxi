# Op: a differentiable op, and how a call of it is recorded.  A part of core.pyx, which includes it.

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
    defers        ``defers(backend, raw_arguments, needs_input_gradient)``: the shape of the result if it may wait, else
                  None
    joins         {chain of ops: (device function, condition)}: what this op is together with a first argument that
                  waits, if ``condition(*further arguments)`` holds; it waits too if it has no condition (None)
    takes_pooled  the rule takes the gradient of an image also as a ``PooledGrad``
    """

    def __init__(self, name, grad_name=None, backward=None, saves=None, saves_output=False, outputs=1, view=False,
                 promotion=None, forward=None, defers=None, joins=None, takes_pooled=False):
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
        self.defers = defers
        self.joins = joins
        self.takes_pooled = takes_pooled
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
        if self.bound_backend is not backend or self.bound_at != _bindings:
            self.bound = getattr(backend, self.name) if self.forward is None else None
            self.bound_backend = backend
            self.bound_at = _bindings
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

    cdef object wait(self, tuple args, list raws, object backend):
        """A Deferred for this call, or None where it has to be computed at once."""
        cdef list storages = []
        cdef Tensor tensor
        for argument in args:
            if isinstance(argument, Tensor):
                tensor = <Tensor>argument
                if tensor.storage.exposed or (tensor.storage.bin < 0 and tensor.storage.owner is not None
                                              and type(tensor.storage.owner) is not Block):
                    return None
                storages.append(tensor.storage)
        tensor = <Tensor>args[0]
        shape = self.defers(backend, raws, minidl_grad_enabled and tensor.needs_grad())
        return None if shape is None else deferred(self.name, (self.name,), raws, storages, shape, backend)

    cdef object join(self, Deferred waiting, list raws, object backend):
        """This op and those before it in one: a Deferred, or the result of the device; None if it cannot be."""
        cdef tuple found = self.joins.get(waiting.chain)
        if found is None:
            return None
        function, condition = found
        if condition is None:
            return deferred(function, waiting.chain + (self.name,), waiting.raws, waiting.storages, waiting.shape,
                            backend)
        if not condition(*raws[1:]):
            return None
        output, codes = getattr(backend, function)(*waiting.raws)
        return output, PooledCodes(codes, waiting.shape, backend)

    cdef object call(self, tuple args):
        cdef Py_ssize_t i, n
        cdef Deferred waiting = None
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
                    return self.call(on_one_device(self, args))
                if type(tensor.raw) is Deferred:
                    if i == 0 and self.joins is not None and (<Deferred>tensor.raw).array is None:
                        waiting = <Deferred>tensor.raw
                    else:
                        raw_of(tensor)
                raws[i] = tensor.raw
                if recording and not needs:
                    needs = tensor.needs_grad()
            else:
                raws[i] = argument
        if backend is None:
            raise TypeError(f"{self.name}(): expected a Tensor, got {', '.join(type(a).__name__ for a in args)}")
        result = None
        if waiting is not None:
            result = self.join(waiting, raws, backend)
            if result is None:
                raws[0] = raw_of(first)
        elif self.defers is not None:
            result = self.wait(args, raws, backend)
        if result is None:
            result = self.run(backend, raws)
        if self.outputs == 1 and type(result) is not tuple:
            if type(result) is Deferred:
                tensor = new_tensor(result, backend, Storage.__new__(Storage))
            else:
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
                node.save((<tuple>result)[i], None, 0)
            if self.outputs > 1:
                node.output_meta = [((<Tensor>t).raw.shape, (<Tensor>t).raw.dtype) for t in outputs]
        return outputs[0] if self.outputs == 1 else tuple(outputs)

    cdef Tensor wrap_output(self, object raw, object backend, Tensor first, tuple args):
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
        cdef unsigned long needed = 0
        cdef Tensor tensor
        cdef object argument
        cdef list edges = [None] * n
        cdef list shapes = [None] * n
        cdef list numbers = None
        for i in range(n):
            argument = args[i]
            if not isinstance(argument, Tensor):
                shapes[i] = argument
                continue
            tensor = <Tensor>argument
            shapes[i] = shape_of(tensor.raw)
            node.backend = tensor.backend
            if not tensor.needs_grad():
                continue
            needed |= 1ul << <int>min(i, 63)
            if tensor.node is None:
                edges[i] = tensor
                continue
            edges[i] = tensor.node
            if tensor.output_nr:
                if numbers is None:
                    numbers = [0] * n
                numbers[i] = tensor.output_nr
        node.op = self
        node.edges = edges
        node.edge_outputs = numbers
        node.args = shapes
        node.saved = []
        node.saved_storages = []
        _sequence += 1
        node.sequence = _sequence
        # the arguments that the rule will want, given which gradients are wanted
        for i in range(min(n, 8)):
            if self.save_masks[i] == 0:
                continue
            if not self.save_masks[i] & needed:
                node.save(None, None, 0)
            elif isinstance(args[i], Tensor):
                tensor = <Tensor>args[i]
                if tensor.inference:
                    raise RuntimeError("Inference tensors cannot be saved for backward. To work around you can make a "
                                       "clone to get a normal tensor and use it in autograd.")
                node.save(raws[i], tensor.storage, <int>i)
            else:
                node.save(raws[i], None, 0)
        return node


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
    node.save(raw, storage, -1)
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


cdef tuple on_one_device(Op op, tuple args):
    """The arguments of an elementwise op with CPU tensors of no dimensions as numbers, beside tensors of a GPU.

    One that wants a gradient goes to the GPU instead.  Raises ``RuntimeError`` where that does not bring all together.
    """
    cdef object backend = None
    cdef Tensor tensor
    cdef list moved = []
    cdef bint mixes = op.promotion or op.name in ("where", "index_put")
    for argument in args:
        if isinstance(argument, Tensor) and not (mixes and is_cpu_number(<Tensor>argument)):
            tensor = <Tensor>argument
            if backend is None:
                backend = tensor.backend
            elif backend is not tensor.backend:
                raise RuntimeError(
                    f"{op.name}: expected all tensors to be on the same device, but found at least two devices, "
                    f"{backend.device} and {tensor.backend.device}; move one with .to(...)")
    for argument in args:
        if isinstance(argument, Tensor) and (<Tensor>argument).backend is not backend:
            tensor = <Tensor>argument
            if minidl_grad_enabled and tensor.needs_grad():
                argument = argument.to(backend.device)
            else:
                argument = tensor.backend.to_host(raw_of(tensor)).item()
        moved.append(argument)
    return tuple(moved)


cdef bint is_cpu_number(Tensor tensor) except -1:
    return tensor.backend.device.type == "cpu" and len(shape_of(tensor.raw)) == 0


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
    if _waiting_count:
        compute_waiting(self.storage)
    cdef list raws = []
    for argument in full:
        if isinstance(argument, Tensor):
            tensor = <Tensor>argument
            if tensor.backend is not self.backend:
                full = on_one_device(op, full)
                if full[0] is not self:
                    raise RuntimeError(
                        f"{op.name}_: expected all tensors to be on the same device, but found at least two devices, "
                        f"{self.backend.device} and {tensor.backend.device}; move one with .to(...)")
                return inplace(op, self, *full[1:])
            raws.append(raw_of(tensor))
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
            node.save(extra, None, 0)
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
    cdef object raw = raw_of(self)
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
    if op.save_masks[0] and node.saved_storages[0] is not None:
        raw = self.backend.copy(raw_of(self))
        node.saved[0] = raw
        node.saved_storages[0] = (<Tensor>wrap(raw, self.backend)).storage
        node.saved_versions[0] = 0
    return 0


@cython.final
cdef class View:
    """How a tensor was made from its base: the steps can be replayed on the base after an in-place change."""
