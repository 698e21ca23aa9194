from minidl._ext.storage cimport Storage


cdef class Deferred:
    cdef readonly tuple chain           # names of the ops
    cdef readonly tuple shape
    cdef readonly object dtype          # NumPy's
    cdef readonly str function          # the device function that does them all
    cdef object backend
    cdef list raws                      # its arguments
    cdef list storages                  # of its arguments
    cdef object array                   # once it is computed
    cdef Py_ssize_t place               # in the list of those that wait, -1 outside
    cdef object finish(self)
    cdef int enter(self) except -1
    cdef void leave(self) noexcept


cdef class PooledCodes:
    cdef readonly object codes
    cdef readonly tuple shape
    cdef readonly object backend
    cdef object indices(self)


cdef class PooledGrad:
    cdef readonly object grad_output
    cdef readonly PooledCodes codes
    cdef readonly bint rectified


cdef class Op:
    cdef readonly str name
    cdef readonly object grad_name
    cdef readonly object forward
    cdef readonly object backward
    cdef readonly int outputs
    cdef readonly bint view
    cdef unsigned long output_mask      # save the first output if one of these arguments needs a gradient
    cdef readonly int promotion
    cdef unsigned long save_masks[8]
    cdef object defers                  # whether a call may wait
    cdef dict joins                     # chain of a first argument that waits -> (device function, condition)
    cdef readonly bint takes_pooled     # whether the rule takes a PooledGrad
    cdef object bound_backend
    cdef object bound
    cdef unsigned long bound_at         # the number of ``rebind`` calls when it was bound
    cdef object bind(self, object backend)
    cdef object call(self, tuple args)
    cdef object run(self, object backend, list raws)
    cdef object wait(self, tuple args, list raws, object backend)
    cdef object join(self, Deferred waiting, list raws, object backend)
    cdef Node record(self, tuple args, list raws)
    cdef Tensor wrap_output(self, object raw, object backend, Tensor first, tuple args)


cdef enum:
    MOST_SAVED = 12

cdef class Node:
    cdef readonly Op op
    cdef readonly object function       # the context of a user's autograd.Function, or None
    cdef readonly unsigned long sequence
    cdef readonly list edges            # per argument: Node, leaf Tensor or None
    cdef list edge_outputs              # per argument: which output of that Node; None where all are 0
    cdef readonly list args             # the arguments, each tensor replaced by its shape
    cdef object backend
    cdef list saved                     # raw arrays and plain values, in the order that the rule takes them
    cdef list saved_storages            # per saved value: its Storage, or None for what no Tensor owns
    cdef int saved_edges[MOST_SAVED]    # the argument it came from, or -1 - i for output i
    cdef unsigned long saved_versions[MOST_SAVED]
    cdef bint released
    cdef readonly list output_meta      # per output: (shape, raw dtype)
    cdef dict hooks                     # output number -> {handle: function}
    cdef dict retained                  # output number -> weak reference to the tensor whose .grad is kept
    cdef object __weakref__
    cdef int save(self, object raw, Storage storage, int origin) except -1
    cdef list unpack(self)
    cdef list unpack_computed(self)
    cdef list unpack_tensors(self)
    cdef int release(self) except -1
    cdef int edge_output(self, Py_ssize_t index)
    cdef str describe_saved(self, Py_ssize_t i)


cdef class Tensor:
    cdef object raw
    cdef Storage storage
    cdef object backend
    cdef bint leaf_requires_grad
    cdef bint inference
    cdef Node node
    cdef int output_nr
    cdef Tensor grad_tensor
    cdef View view_of
    cdef unsigned long view_version
    cdef object size
    cdef object hooks                   # Hooks: handle -> function
    cdef object post_accumulate_hooks
    cdef object __weakref__
    cdef dict __dict__
    cdef int refresh_view(self) except -1
    cdef int rebase(self, tuple steps, Node inner) except -1
    cdef int move_to(self, Node node) except -1
    cdef bint needs_grad(self) except -1


cdef class View:
    cdef readonly Tensor base
    cdef readonly tuple steps           # ((name of a view op, arguments after the tensor), ...) from base to view
    cdef readonly bint recorded         # False: made in no_grad, so the tape cannot follow an in-place change of it


cdef Tensor wrap(object raw, object backend)
cdef object raw_of(Tensor tensor)
cdef object dense(object grad)
cdef int compute_waiting(Storage storage) except -1
cdef Tensor wrap_on(object raw, object backend, Storage storage, Node node, int output_nr)
cdef bint is_grad_enabled() noexcept
cdef bint set_grad(bint enabled) noexcept
cdef object graph_namespace()
cdef bint is_floating(object raw)
cdef dict REGISTRY
