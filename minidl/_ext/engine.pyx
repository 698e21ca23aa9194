"""The backward engine: one loop over the recorded nodes, newest first.

An edge always leads from a node to an older one, so taking the newest of the nodes that wait for their turn is
a topological order: when a node is taken, everything that feeds its gradient has been done.  Gradients on the
way are raw arrays (``create_graph=False``) or Tensors.  Gradients of leaves are summed up aside and delivered
at the end of the run, hooks included, so that a leaf that is used twice sees one gradient.
"""

cimport cython
cimport numpy as cnp
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_DECREF
from libc.stdlib cimport free, realloc

from minidl._ext.core cimport (Node, Op, PooledGrad, REGISTRY, Tensor, compute_waiting, dense, graph_namespace,
                               is_floating, raw_of, set_grad, wrap)
from minidl._ext.device_array cimport DeviceArray
from minidl._ext.storage cimport Storage

cnp.import_array()

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object o)


@cython.final
@cython.freelist(64)
cdef class Pending:
    """The gradients that wait for a node (one per output) or a leaf (one)."""
    cdef list grads
    cdef unsigned long ours         # bit i: grads[i] is a buffer of this run, free to be added to


@cython.final
cdef class Queue:
    """A binary heap of nodes, the newest on top."""
    cdef PyObject** nodes
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.count):
            Py_DECREF(<object>self.nodes[i])
        free(self.nodes)

    cdef int push(self, Node node) except -1:
        cdef Py_ssize_t place, parent
        if self.count == self.capacity:
            self.capacity = 2 * self.capacity + 32
            self.nodes = <PyObject**>realloc(self.nodes, self.capacity * sizeof(PyObject*))
            if self.nodes == NULL:
                raise MemoryError("backward: no memory for the queue of nodes")
        Py_INCREF(node)
        place = self.count
        self.count += 1
        while place > 0:
            parent = (place - 1) >> 1
            if (<Node>self.nodes[parent]).sequence >= node.sequence:
                break
            self.nodes[place] = self.nodes[parent]
            place = parent
        self.nodes[place] = <PyObject*>node
        return 0

    cdef Node pop(self):
        cdef Node top = <Node>self.nodes[0]
        Py_DECREF(top)
        cdef PyObject* last
        cdef Py_ssize_t place = 0, child
        self.count -= 1
        last = self.nodes[self.count]
        while True:
            child = 2 * place + 1
            if child >= self.count:
                break
            if child + 1 < self.count and (
                    (<Node>self.nodes[child + 1]).sequence > (<Node>self.nodes[child]).sequence):
                child += 1
            if (<Node>last).sequence >= (<Node>self.nodes[child]).sequence:
                break
            self.nodes[place] = self.nodes[child]
            place = child
        self.nodes[place] = last
        return top


cdef class Run:
    """One backward pass."""
    cdef Queue queue
    cdef dict pending               # Node or leaf Tensor -> Pending
    cdef list leaves                # in the order in which they were reached
    cdef object F                   # the device, or the graph namespace
    cdef object backend
    cdef bint graph
    cdef bint keep
    cdef set wanted                 # nodes and leaves that lead to the asked-for inputs; None: all
    cdef dict captures              # Node -> [(output number, position in the result)]
    cdef list captured

    def __cinit__(self):
        self.queue = Queue.__new__(Queue)
        self.pending = {}
        self.leaves = []

    cdef int deliver(self, object target, int number, object grad) except -1:
        """Add ``grad`` to what waits for output ``number`` of a node, or for a leaf."""
        cdef Pending waiting
        cdef PyObject* found
        cdef object before
        if self.wanted is not None and target not in self.wanted:
            return 0
        found = PyDict_GetItem(self.pending, target)
        if found == NULL:
            waiting = Pending.__new__(Pending)
            waiting.grads = [grad] if number == 0 else [None] * number + [grad]
            waiting.ours = 0
            self.pending[target] = waiting
            if isinstance(target, Node):
                self.queue.push(<Node>target)
            else:
                self.leaves.append(target)
            return 0
        waiting = <Pending>found
        while len(waiting.grads) <= number:
            waiting.grads.append(None)
        before = waiting.grads[number]
        if before is None:
            waiting.grads[number] = grad
            return 0
        before, grad = dense(before), dense(grad)
        if self.graph:
            waiting.grads[number] = REGISTRY["add"](before, grad)
        elif number < 64 and (waiting.ours >> number) & 1:
            self.backend.add_(before, grad)
        else:
            waiting.grads[number] = self.backend.add(before, grad)
            if number < 64:
                waiting.ours |= 1ul << number
        return 0

    cdef int go(self) except -1:
        """Run the nodes that wait until none does, then deliver to the leaves."""
        cdef Node node
        cdef Pending waiting
        while self.queue.count:
            node = self.queue.pop()
            waiting = <Pending>self.pending.pop(node)
            self.prepare(node, waiting.grads)
            if self.wanted is not None and is_end(node, self.wanted):
                continue
            self.step(node, waiting.grads)
        self.finish()
        return 0

    cdef object as_tensor(self, object grad):
        return grad if self.graph or grad is None else wrap(dense(grad), self.backend)

    cdef object from_tensor(self, object grad):
        return grad if self.graph or grad is None else raw_of(<Tensor?>grad)

    cdef object run_hooks(self, object hooks, object grad):
        cdef object tensor = self.as_tensor(grad)
        for hook in list(hooks.values()):
            replaced = hook(tensor)
            if replaced is not None:
                if not isinstance(replaced, Tensor):
                    raise TypeError(f"expected Tensor, but hook returned '{type(replaced).__name__}'")
                if replaced.shape != tensor.shape:
                    raise RuntimeError(f"hook '{hook_name(hook)}' has changed the size of value: got {list(tensor.shape)}, "
                                       f"returned {list(replaced.shape)}")
                if replaced.dtype != tensor.dtype:
                    raise RuntimeError(f"hook '{hook_name(hook)}' has changed the type of value (was {tensor.dtype}, got "
                                       f"{replaced.dtype})")
                tensor = replaced
        return self.from_tensor(tensor)

    cdef int prepare(self, Node node, list grads) except -1:
        """Hooks, kept gradients and captures of a node's outputs, in PyTorch's order."""
        cdef Tensor kept
        if type(grads[0]) is PooledGrad and (node.op is None or not node.op.takes_pooled
                                             or node.retained is not None or self.captures is not None):
            grads[0] = dense(grads[0])
        while node.output_meta is not None and len(grads) < len(node.output_meta):
            grads.append(None)
        if node.hooks is not None:
            for number, hooks in node.hooks.items():
                if hooks and number < len(grads) and grads[number] is not None:
                    grads[number] = self.run_hooks(hooks, grads[number])
        if node.retained is not None:
            for number, reference in node.retained.items():
                kept = reference()
                if kept is not None and number < len(grads) and grads[number] is not None:
                    self.accumulate(kept, grads[number], False)
        if self.captures is not None and node in self.captures:
            for number, position in self.captures[node]:
                if number < len(grads):
                    self.captured[position] = grads[number]
        return 0

    cdef int step(self, Node node, list grads) except -1:
        """Run one node's rule and deliver what it returns."""
        cdef object result
        cdef list arguments, saved
        cdef Py_ssize_t i
        if node.function is not None:
            result = self.call_function(node, grads)
        elif not self.graph and len(grads) == 1 and len(node.saved) <= 2:
            if node.op.takes_pooled and type(grads[0]) is not PooledGrad:
                saved = node.unpack_computed()
            else:
                saved = node.unpack()
            if len(saved) == 2:
                result = node.op.backward(self.F, node, grads[0], saved[0], saved[1])
            elif len(saved) == 1:
                result = node.op.backward(self.F, node, grads[0], saved[0])
            else:
                result = node.op.backward(self.F, node, grads[0])
        else:
            arguments = [self.F, node]
            arguments += grads
            arguments += node.unpack_tensors() if self.graph else node.unpack_computed()
            result = node.op.backward(*arguments)
        if not self.keep:
            node.release()
        if type(result) is not tuple:
            if result is not None and node.edges[0] is not None:
                self.deliver(node.edges[0], node.edge_output(0), result)
            return 0
        for i in range(len(<tuple>result)):
            grad = (<tuple>result)[i]
            if grad is not None and node.edges[i] is not None:
                self.deliver(node.edges[i], node.edge_output(i), grad)
        return 0

    cdef object call_function(self, Node node, list grads):
        """A user's Function: it sees Tensors, and its results are checked as PyTorch checks them."""
        cdef list tensors = [self.as_tensor(grad) for grad in grads]
        results = node.function._run_backward(node, tensors, self.graph)
        checked = []
        for i, grad in enumerate(results):
            if grad is None or node.edges[i] is None:
                checked.append(None)
                continue
            if not isinstance(grad, Tensor):
                raise TypeError(f"{node.name()}.backward: expected a Tensor or None as gradient {i}, got "
                                f"{type(grad).__name__}")
            if grad.shape != node.args[i]:
                if not self.can_reduce(grad.shape, node.args[i]):
                    raise RuntimeError(f"Function {node.name()} returned an invalid gradient at index {i} - got "
                                       f"{list(grad.shape)} but expected shape compatible with {list(node.args[i])}")
                grad = REGISTRY["sum_to"](grad, node.args[i])
            checked.append(self.from_tensor(grad))
        return tuple(checked)

    cdef bint can_reduce(self, object shape, object target):
        cdef Py_ssize_t offset = len(shape) - len(target), i
        if offset < 0:
            return False
        for i in range(len(target)):
            if target[i] != 1 and target[i] != shape[offset + i]:
                return False
        return True

    cdef int accumulate(self, Tensor leaf, object grad, bint ours) except -1:
        """Add ``grad`` to ``leaf.grad``."""
        cdef Tensor before = leaf.grad_tensor
        grad = dense(grad)
        if self.graph:
            # a tensor of its own also here: the rules hand one gradient to several leaves
            leaf.grad_tensor = REGISTRY["copy"](grad) if before is None else REGISTRY["add"](before, grad)
        elif before is None:
            leaf.grad_tensor = wrap(grad if ours else self.backend.copy(grad), leaf.backend)
        elif before.needs_grad():
            leaf.grad_tensor = wrap(self.backend.add(raw_of(before), grad), leaf.backend)
        else:
            compute_waiting(before.storage)
            self.backend.add_(raw_of(before), grad)
            before.storage.version += 1
        return 0

    cdef int finish(self) except -1:
        """Deliver the gradients of the leaves."""
        cdef Tensor leaf
        cdef Pending waiting
        cdef object grad, base
        cdef bint ours
        for leaf in self.leaves:
            waiting = <Pending>self.pending.pop(leaf)
            grad = waiting.grads.pop()
            ours = waiting.ours & 1
            if leaf.hooks:
                grad = self.run_hooks(leaf.hooks, grad)
                ours = False
            if self.captures is not None:
                if leaf in self.captures:
                    for _, position in self.captures[leaf]:
                        self.captured[position] = grad
                    continue
            if not self.graph:
                ours = ours or exclusively_held(grad)
            self.accumulate(leaf, grad, ours)
            run_post_accumulate_hooks(leaf)
        return 0


cdef object hook_name(hook):
    return getattr(hook, "__name__", type(hook).__name__)


cdef int run_post_accumulate_hooks(Tensor leaf) except -1:
    if leaf.post_accumulate_hooks:
        for hook in list(leaf.post_accumulate_hooks.values()):
            hook(leaf)
    return 0


cdef bint exclusively_held(object grad):
    """True if nobody but the caller's variable and this argument's reference knows the array or its memory."""
    cdef object base
    if type(grad) is DeviceArray:
        base = (<DeviceArray>grad).base
        return (Py_REFCNT(grad) <= 1 and (<DeviceArray>grad).contiguous and type(base) is Storage
                and Py_REFCNT(base) <= 2)
    if not cnp.PyArray_CheckExact(grad) or Py_REFCNT(grad) > 1:
        return False
    if cnp.PyArray_BASE(<cnp.ndarray>grad) == NULL or not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>grad):
        return False
    # One reference from the array, one from the local variable.
    base = <object>cnp.PyArray_BASE(<cnp.ndarray>grad)
    return type(base) is Storage and Py_REFCNT(base) <= 2


cdef set ancestors_of(list roots, set targets):
    """The targets, and all nodes on the way from ``roots`` to them: an iterative walk, oldest node last."""
    cdef set seen = set()
    cdef list stack = list(roots)
    cdef list nodes = []
    cdef Node node
    while stack:
        item = stack.pop()
        if item in seen:
            continue
        seen.add(item)
        if isinstance(item, Node):
            nodes.append(item)
            for edge in (<Node>item).edges:
                if edge is not None and edge not in seen:
                    stack.append(edge)
    cdef set wanted = set(targets)
    for node in sorted(nodes, key=lambda n: (<Node>n).sequence):
        for edge in node.edges:
            if edge is not None and edge in wanted:
                wanted.add(node)
                break
    return wanted


def run_backward(list tensors not None, list grads not None, bint retain_graph, bint create_graph, list inputs, bint allow_unused,
                 bint accumulate):
    """Run the engine.

    tensors         the Tensors to differentiate
    grads           their gradients, one Tensor each
    inputs          Tensors to differentiate with respect to, or None for every leaf
    accumulate      add to ``.grad`` (of the leaves, or of ``inputs``) instead of returning the gradients
    Returns the list of gradients of ``inputs`` (Tensors or None), or None.
    """
    cdef Run run = Run.__new__(Run)
    cdef Tensor tensor
    cdef bint before
    run.graph = create_graph
    run.keep = retain_graph
    run.backend = (<Tensor>tensors[0]).backend
    run.F = graph_namespace() if create_graph else run.backend
    roots = []
    for tensor in tensors:
        tensor.needs_grad()
        roots.append((tensor.node if tensor.node is not None else tensor, tensor.output_nr))
    targets = []
    if inputs is not None:
        run.captures = {}
        run.captured = [None] * len(inputs)
        for position, tensor in enumerate(inputs):
            tensor.needs_grad()
            target = tensor.node if tensor.node is not None else tensor
            targets.append(target)
            run.captures.setdefault(target, []).append((tensor.output_nr, position))
        run.wanted = ancestors_of([root for root, _ in roots], set(targets))
    before = set_grad(create_graph)
    try:
        for (target, number), grad in zip(roots, grads):
            run.deliver(target, number, run.from_tensor(grad))
        run.go()
        if inputs is None:
            return None
        results = []
        for position, tensor in enumerate(inputs):
            grad = run.captured[position]
            run.captured[position] = None       # so that the count of references tells whether the array is ours
            if grad is None:
                if not allow_unused and not accumulate:
                    raise RuntimeError(
                        "One of the differentiated Tensors appears to not have been used in the graph. Set "
                        "allow_unused=True if this is the desired behavior.")
                results.append(None)
            elif accumulate:
                if not tensor.retains_grad:     # else it is in .grad already
                    run.accumulate(tensor, grad, False)
                run_post_accumulate_hooks(tensor)
            else:
                results.append(grad if create_graph else wrap(
                    grad if exclusively_held(grad) else run.backend.copy(grad), run.backend))
        return results
    finally:
        set_grad(before)


def run_from_number(Tensor loss not None, bint retain_graph):
    """``run_backward`` in its most frequent form: from one number, with gradient one, to all leaves.

    Returns False, with nothing done, for a tensor that is no single number or has no history.
    """
    cdef Run run
    cdef bint before
    if not loss.needs_grad() or loss.raw.size != 1:
        return False
    run = Run.__new__(Run)
    run.keep = retain_graph
    run.F = run.backend = loss.backend
    before = set_grad(False)
    try:
        run.deliver(loss.node if loss.node is not None else loss, loss.output_nr,
                    loss.backend.full(loss.raw.shape, 1, loss.raw.dtype))
        run.go()
    finally:
        set_grad(before)
    return True


cdef bint is_end(Node node, set wanted):
    """Whether nothing behind this node is wanted: then its rule need not run."""
    for edge in node.edges:
        if edge is not None and edge in wanted:
            return False
    return True
