# Formulas: derivative rules that are nothing but calls of device functions, evaluated without Python.
# A part of core.pyx, which includes it.
#
# Most rules are a call or two for each argument:
#
#     def _mul_backward(F, node, grad, input, other):
#         return F.mul(grad, other), F.mul(grad, input)
#
# ``formulas(rule)`` calls such a rule once, with symbols in the place of everything, and keeps the calls that it made:
# for each argument the formula of its gradient.  The engine evaluates those that are wanted.  The rule may also read
# ``node.args[i]``; it must not ask what is wanted, nor look at shapes or values.

@cython.final
cdef class Formula:
    """What a rule returned for one argument: a value that it was given, or a call of a function of ``F``."""

    cdef object bind(self, object F):
        """The function of a device; looked up once, like that of an Op."""
        if self.bound_backend is not F or self.bound_at != _bindings:
            self.bound = getattr(F, self.function)
            self.bound_backend = F
            self.bound_at = _bindings
        return self.bound

    cdef object evaluate(self, object F, Node node, object grad, list values):
        """Its value for ``F``, a device or the graph namespace; ``values`` as the rule takes them, None: of the node."""
        cdef Py_ssize_t n
        cdef object a, b
        if self.kind == GRAD:
            return grad
        if self.kind == SAVED:
            return node.value(self.index) if values is None else values[self.index]
        if self.kind == ARGUMENT:
            return node.args[self.index]
        if self.kind == CONSTANT:
            return self.constant
        n = PyTuple_GET_SIZE(self.operands)
        a = (<Formula>self.operands[0]).evaluate(F, node, grad, values)
        if n == 1:
            return self.bind(F)(a)
        b = (<Formula>self.operands[1]).evaluate(F, node, grad, values)
        if n == 2:
            return self.bind(F)(a, b)
        return self.bind(F)(a, b, *[(<Formula>each).evaluate(F, node, grad, values) for each in self.operands[2:]])


@cython.final
cdef class Formulas:
    """A rule that was read: still the rule when it is called, and a formula for each argument.

    With ``broadcasts`` the arguments are broadcast against each other, and each gradient is summed over the dimensions
    along which its argument was.
    """

    def __call__(self, F, Node node not None, grad, *saved):
        cdef list values = list(saved)
        return tuple([self.gradient(i, F, node, grad, values) if node.needs(i) else None
                      for i in range(len(self.of_arguments))])

    def __repr__(self):
        return f"<formulas of {self.rule.__name__}>"

    cdef object gradient(self, Py_ssize_t i, object F, Node node, object grad, list values):
        """The gradient of argument ``i``, or None."""
        cdef Formula formula = <Formula>self.of_arguments[i]
        cdef object result
        if formula is None:
            return None
        result = formula.evaluate(F, node, grad, values)
        if self.broadcasts and not has_shape(result, <tuple?>node.args[i]):
            return getattr(F, "sum_to")(result, node.args[i])
        return result


cdef bint has_shape(object value, tuple shape) except -1:
    """Whether a raw array or a Tensor has this shape."""
    cdef int dim
    if not cnp.PyArray_CheckExact(value):
        return value.shape == shape
    if cnp.PyArray_NDIM(<cnp.ndarray>value) != PyTuple_GET_SIZE(shape):
        return False
    for dim in range(cnp.PyArray_NDIM(<cnp.ndarray>value)):
        if cnp.PyArray_DIMS(<cnp.ndarray>value)[dim] != <Py_ssize_t>shape[dim]:
            return False
    return True


class _Functions:
    """``F`` while a rule is read: every function writes down that it was called."""

    def __getattr__(self, name):
        return lambda *operands: call_formula(name, operands)


class _Arguments:
    """``node`` while a rule is read."""

    def __init__(self):
        self.args = [symbol(ARGUMENT, i) for i in range(MOST_SAVED)]


cdef Formula symbol(Kind kind, int index):
    cdef Formula made = Formula.__new__(Formula)
    made.kind = kind
    made.index = index
    return made


cdef Formula call_formula(str name, tuple operands):
    cdef Formula made = symbol(CALL, 0), constant
    cdef list found = []
    for operand in operands:
        if not isinstance(operand, Formula):
            constant = symbol(CONSTANT, 0)
            constant.constant = operand
            operand = constant
        found.append(operand)
    made.function = name
    made.operands = tuple(found)
    return made


def formulas(rule, bint broadcasts=False):
    """``rule`` read as formulas; as a rule of an Op it is evaluated in compiled code."""
    cdef Formulas read = Formulas.__new__(Formulas)
    saved = [symbol(SAVED, i) for i in range(rule.__code__.co_argcount - 3)]
    results = rule(_Functions(), _Arguments(), symbol(GRAD, 0), *saved)
    read.rule = rule
    read.of_arguments = results if isinstance(results, tuple) else (results,)
    read.broadcasts = broadcasts
    for each in read.of_arguments:
        if each is not None and not isinstance(each, Formula):
            raise TypeError(f"formulas: {rule.__name__} returned {each!r} where the call of a function of F was expected")
    return read
