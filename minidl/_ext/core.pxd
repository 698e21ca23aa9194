from minidl._ext.storage cimport Storage


cdef class Deferred:
    cdef readonly tuple chain           # names of the ops
    cdef readonly tuple shape
    cdef readonly object dtype          # NumPy's
    cdef int number                     # of the dtype
    cdef readonly str function          # the device function that does them all
    cdef object backend
    cdef tuple raws                     # its arguments
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
    cdef readonly object pooled         # the rule for a PooledGrad, or None
    cdef readonly bint leading
    cdef int places                     # for saved values
    cdef object bound_backend
    cdef object bound
    cdef unsigned long bound_at         # the number of ``rebind`` calls when it was bound
    cdef object bind(self, object backend)
    cdef object call(self, tuple args)
    cdef object run(self, object backend, tuple raws)
    cdef object wait(self, tuple args, tuple raws, object backend)
    cdef object join(self, Deferred waiting, tuple raws, object backend)
    cdef Node record(self, tuple args, tuple raws, int extras)
    cdef Tensor wrap_output(self, object raw, object backend, Tensor first, tuple args)


cdef enum:
    MOST_SAVED = 12

cdef enum Kind:                         # of a formula
    GRAD
    SAVED
    ARGUMENT
    CONSTANT
    CALL

cdef class Node:
    cdef readonly Op op
    cdef readonly object function       # the context of a user's autograd.Function, or None
    cdef readonly unsigned long sequence
    cdef readonly tuple edges           # per argument: Node, leaf Tensor or None
    cdef tuple edge_outputs             # per argument: which output of that Node; None where all are 0
    cdef readonly tuple args            # the arguments, each tensor replaced by its shape
    cdef object backend
    cdef tuple saved                    # per saved value: raw array or plain value, then its Storage or None
    cdef int saved_count                # how many of them are there already
    cdef int saved_edges[MOST_SAVED]    # the argument it came from, or -1 - i for output i
    cdef unsigned long saved_versions[MOST_SAVED]
    cdef bint released
    cdef readonly list output_meta      # per output: (shape, raw dtype)
    cdef dict hooks                     # output number -> {handle: function}
    cdef dict retained                  # output number -> weak reference to the tensor whose .grad is kept
    cdef object __weakref__
    cdef int save(self, object raw, Storage storage, int origin) except -1
    cdef int put(self, int i, object raw, Storage storage) except -1
    cdef object value(self, int i)
    cdef int check(self) except -1
    cdef list unpack(self)
    cdef list unpack_tensors(self)
    cdef int release(self) except -1
    cdef int edge_output(self, Py_ssize_t index)
    cdef str describe_saved(self, int i)


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
    cdef tuple dims                     # the shape, once it was asked for
    cdef object size                    # the same as a Size
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


cdef class Formula:
    cdef Kind kind
    cdef int index                      # of the saved value or the argument
    cdef object constant
    cdef readonly str function          # of a call
    cdef readonly tuple operands
    cdef object bound, bound_backend
    cdef unsigned long bound_at
    cdef object bind(self, object F)
    cdef object evaluate(self, object F, Node node, object grad, list values)


cdef class Formulas:
    cdef readonly object rule
    cdef readonly tuple of_arguments    # per argument: the Formula of its gradient, or None
    cdef readonly bint broadcasts
    cdef object gradient(self, Py_ssize_t i, object F, Node node, object grad, list values)
