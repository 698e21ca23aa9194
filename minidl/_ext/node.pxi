# Node: one recorded op; the hooks on it.  A part of core.pyx, which includes it.

cdef list _graveyard = []       # edges of nodes that are gone
cdef int _burying = 0           # nodes that are going, one inside the other

cdef enum:
    DEEP = 50


cdef inline void fill_item(tuple made, Py_ssize_t i, object value) noexcept:
    """Fill an empty place of a new tuple."""
    Py_INCREF(value)
    PyTuple_SET_ITEM(made, i, value)


cdef inline void set_item(tuple made, Py_ssize_t i, object value) noexcept:
    """Change a place of a tuple that nobody else has seen yet."""
    cdef PyObject* before = PyTuple_GET_ITEM(made, i)
    fill_item(made, i, value)
    Py_XDECREF(before)


cdef tuple nothings(Py_ssize_t n):
    """(None, ...): places for ``set_item``."""
    cdef tuple made = PyTuple_New(n)
    cdef Py_ssize_t i
    for i in range(n):
        fill_item(made, i, None)
    return made


@cython.final
@cython.freelist(256)
cdef class Node:
    """One recorded op.  ``grad_fn`` of its outputs."""

    def __dealloc__(self):
        # A node may hold the last reference to the next, and so on for 200,000 of them: letting go of them one
        # inside the other would overflow the C stack, so at some depth the edges are laid aside, for a loop.
        global _burying
        if self.edges is None:
            return
        if _burying == DEEP:
            _graveyard.append(self.edges)
        _burying += 1
        self.edges = None
        while _burying == 1 and _graveyard:
            _graveyard.pop()
        _burying -= 1

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

    cdef int save(self, object raw, Storage storage, int origin) except -1:
        """Keep a value for the rule, in one of the places made for it; with its storage, if a Tensor owns it."""
        cdef int i = self.saved_count
        self.saved_count += 1
        self.put(i, raw, storage)
        self.saved_edges[i] = origin
        self.saved_versions[i] = 0 if storage is None else storage.version
        return 0

    cdef int put(self, int i, object raw, Storage storage) except -1:
        """Make this value ``i``: nobody but this node has ever seen the tuple."""
        set_item(self.saved, 2 * i, raw)
        set_item(self.saved, 2 * i + 1, storage)
        return 0

    cdef object value(self, int i):
        """Saved value ``i``, computed if it was waiting."""
        cdef object raw = self.saved[2 * i]
        if type(raw) is Deferred:
            return (<Deferred>raw).finish()
        return (<PooledCodes>raw).indices() if type(raw) is PooledCodes else raw

    cdef int check(self) except -1:
        """Raise an error if somebody has changed a saved array since, or if they are gone."""
        cdef int i
        cdef Storage storage
        if self.released:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they "
                "have already been freed). Saved intermediate values of the graph are freed when you call "
                ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the "
                "graph a second time or if you need to access saved tensors after calling backward.")
        for i in range(len(self.saved) // 2):
            storage = <Storage>self.saved[2 * i + 1]
            if storage is not None and storage.version != self.saved_versions[i]:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace "
                    f"operation: [{from_numpy_dtype(self.saved[2 * i].dtype)} {list(self.saved[2 * i].shape)}], which "
                    f"{self.describe_saved(i)} {self.name()}, is at version {storage.version}; expected version "
                    f"{self.saved_versions[i]} instead. Hint: use the out-of-place form of the operation that "
                    "changed it, or .clone() it first.")
        return 0

    cdef list unpack(self):
        """The saved raw arrays."""
        self.check()
        return [self.value(i) for i in range(len(self.saved) // 2)]

    cdef str describe_saved(self, int i):
        cdef int origin = self.saved_edges[i]
        return f"is output {-1 - origin} of" if origin < 0 else f"is argument {origin} of"

    cdef list unpack_tensors(self):
        """The saved values as Tensors with their history, for a backward pass that is itself recorded."""
        cdef list values = []
        cdef object raw, edge
        cdef int i, origin
        for i, raw in enumerate(self.unpack()):
            origin = self.saved_edges[i]
            storage = self.saved[2 * i + 1]
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
            self.saved = ()
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
    node.edges = tuple(edges)
    node.edge_outputs = tuple(numbers)
    node.args = tuple(shapes)
    node.output_meta = output_meta
    node.saved = ()
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
