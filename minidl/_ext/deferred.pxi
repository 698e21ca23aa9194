# Results that wait: an op whose result is computed when somebody looks, or together with what follows.
# A part of core.pyx, which includes it.
#
# A convolution may wait for the ReLU that follows it, and both for a pooling: the three in one pass never write down
# what lies between.  A Tensor over a result that waits has a Deferred in place of its raw array, and every way to the
# numbers goes through ``raw_of``, which computes them.  Nothing else is different: the tape has all the nodes, and a
# result that is looked at or used twice is computed on its own.  The way back is alike: behind the pooling the gradient
# travels as a PooledGrad, which the ReLU passes on and the convolution takes in one pass; whoever else gets one sees
# the dense array.
#
# Nothing may change an argument while a result waits.  In-place ops let those compute first that wait on the same
# storage.  On memory that others can write to (foreign, or handed to NumPy: ``Storage.exposed``) nothing waits at all.

cdef PyObject** _waiting = NULL         # borrowed: a Deferred takes itself out when it goes
cdef Py_ssize_t _waiting_count = 0, _waiting_capacity = 0


@cython.final
@cython.freelist(16)
cdef class Deferred:
    """An array that is not there yet: the ops of ``chain``, the first of them over ``raws``, the others over it."""

    def __cinit__(self):
        self.place = -1

    def __dealloc__(self):
        self.leave()

    @property
    def ndim(self):
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self):
        """How many numbers."""
        cdef object product = 1
        for each in self.shape:
            product *= each
        return product

    cdef object finish(self):
        """The array, computed now if it was not before."""
        cdef tuple raws
        if self.array is None:
            raws = self.raws
            self.array = getattr(self.backend, self.function)(*raws)
            self.leave()
            self.raws = self.storages = None
        return self.array

    cdef int enter(self) except -1:
        """Be known to those who change memory."""
        global _waiting, _waiting_capacity, _waiting_count
        cdef PyObject** larger
        if _waiting_count == _waiting_capacity:
            larger = <PyObject**>realloc(_waiting, (2 * _waiting_capacity + 16) * sizeof(PyObject*))
            if larger == NULL:
                raise MemoryError("no memory for the list of results that wait")
            _waiting = larger
            _waiting_capacity = 2 * _waiting_capacity + 16
        self.place = _waiting_count
        _waiting[_waiting_count] = <PyObject*>self
        _waiting_count += 1
        return 0

    cdef void leave(self) noexcept:
        global _waiting_count
        if self.place < 0:
            return
        _waiting_count -= 1
        _waiting[self.place] = _waiting[_waiting_count]
        (<Deferred>_waiting[self.place]).place = self.place
        self.place = -1


cdef Deferred deferred(str function, tuple chain, tuple raws, list storages, tuple shape, object backend):
    cdef Deferred result = Deferred.__new__(Deferred)
    result.function = function
    result.chain = chain
    result.raws = raws
    result.storages = storages
    result.shape = shape
    result.dtype = raws[0].dtype
    result.number = typenum(raws[0])
    result.backend = backend
    result.enter()
    return result


cdef int compute_waiting(Storage storage) except -1:
    """Compute the results that wait on this storage (None: all), because it is about to change."""
    cdef Py_ssize_t i = 0
    cdef Deferred waiting
    while i < _waiting_count:
        waiting = <Deferred>_waiting[i]
        if storage is None or storage in waiting.storages:
            waiting.finish()        # it leaves, and the last one takes its place
        else:
            i += 1
    return 0


cdef object raw_of(Tensor tensor):
    """The raw array of a tensor."""
    if type(tensor.raw) is Deferred:
        tensor.raw = (<Deferred>tensor.raw).finish()
    return tensor.raw


@cython.final
cdef class PooledCodes:
    """Which pixel of each 2x2 window of a (N, C, H, W) image has its maximum: bytes (N, C, H // 2, W // 2), 0 to 3 in
    reading order, 4 where none is positive."""

    def __init__(self, codes, tuple shape not None, backend):
        self.codes = codes
        self.shape = shape
        self.backend = backend

    cdef object indices(self):
        """The same as ``max_pool2d`` has it: the place in the plane."""
        return self.backend.max_pool2d_indices(self.codes, self.shape)


@cython.final
cdef class PooledGrad:
    """The gradient of an image of which only the maxima of its 2x2 windows got one: ``grad_output`` with its ``codes``.

    It is that of the ReLU's output, where a window without a positive number, all zeros, hands its gradient to the
    first pixel; or, ``rectified``, that of its input, where such a window has none.
    """

    def __init__(self, grad_output, PooledCodes codes not None, bint rectified=False):
        self.grad_output = grad_output
        self.codes = codes
        self.rectified = rectified

    @property
    def shape(self):
        """Of the image."""
        return self.codes.shape

    def dense(self):
        """The gradient as an array (N, C, H, W)."""
        cdef PooledCodes where = self.codes
        return where.backend.max_pool2d_expand(self.grad_output, where.codes, where.shape, self.rectified)


cdef object dense(object grad):
    return (<PooledGrad>grad).dense() if type(grad) is PooledGrad else grad
