"""``Function``: an op whose forward and backward a user writes in Python."""

from __future__ import annotations

from typing import Any

from minidl._ext import core
from minidl._ext.core import Tensor
from minidl.autograd.grad_mode import set_grad_enabled


class FunctionCtx:
    """What ``forward`` leaves for ``backward``; attributes of your own may be set on it freely."""

    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs, outputs or intermediate tensors; ``backward`` reads them from ``ctx.saved_tensors``."""
        for i, tensor in enumerate(tensors):
            if tensor is not None and not isinstance(tensor, Tensor):
                raise TypeError(f"save_for_backward can only save Tensors, but argument {i} is of type "
                                f"{type(tensor).__name__}; set other things as attributes of ctx")
        self._to_save = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Outputs that carry no gradient (indices, say)."""
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Inputs that ``forward`` changed in place and returns."""
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """False: an output without a gradient hands None to ``backward`` instead of zeros."""
        self._materialize = value

    _to_save: tuple[Tensor | None, ...] = ()
    _non_differentiable: tuple[Tensor, ...] = ()
    _dirty: tuple[Tensor, ...] = ()
    _materialize = True
    _released = False
    _kept: tuple[Any, ...] = ()
    _node: Any = None
    _dtypes: tuple[Any, ...] = ()

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors kept by ``save_for_backward``; ``RuntimeError`` after the graph was freed."""
        if self._released:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have "
                "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
                "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time "
                "or if you need to access saved tensors after calling backward."
            )
        values = []
        for tensor, version, output in self._kept:
            if tensor is not None and tensor._version != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: "
                    f"[{tensor.dtype} {list(tensor.shape)}], saved by {type(self).__name__}, is at version "
                    f"{tensor._version}; expected version {version} instead."
                )
            if output is not None:
                # An output is kept off the tape (it would close a cycle) and gets its place back here.
                tensor = tensor.detach()
                core.attach_output(tensor, self._node(), output)
            values.append(tensor)
        return tuple(values)

    def _keep(self, outputs: list[Any], node: Any) -> None:
        import weakref

        self._node = weakref.ref(node)
        kept = []
        for tensor in self._to_save:
            output = next((i for i, candidate in enumerate(outputs) if candidate is tensor), None)
            if tensor is not None and output is not None:
                tensor = tensor.detach()
            kept.append((tensor, tensor._version if tensor is not None else 0, output))
        self._kept = tuple(kept)
        self._to_save = ()
        self._dirty = ()

    def _release(self) -> None:
        if self._kept:
            self._released = True
            self._kept = ()

    def _run_backward(self, node: Any, grads: list[Tensor | None], create_graph: bool) -> tuple[Any, ...]:
        if self._materialize:
            grads = [
                core.from_raw(node_backend.full(shape, 0, dtype), node_backend) if grad is None else grad
                for grad, (shape, dtype, node_backend) in zip(grads, node.metadata, strict=True)
            ]
        with set_grad_enabled(create_graph):
            results = self._function.backward(self, *grads)  # type: ignore[attr-defined]
        results = results if isinstance(results, tuple) else (results,)
        expected = len(node.edges)
        if len(results) < expected or any(extra is not None for extra in results[expected:]):
            raise RuntimeError(
                f"function {type(self).__name__} returned an incorrect number of gradients (expected {expected}, got "
                f"{len(results)})"
            )
        with set_grad_enabled(create_graph):
            return tuple(
                grad.to(dtype)
                if isinstance(grad, Tensor) and dtype is not None and grad.dtype.is_floating_point
                else grad
                for grad, dtype in zip(results, self._dtypes, strict=False)
            )


def _require_changeable(function: type, tensor: Tensor) -> None:
    """An input that a Function changed in place must be able to take a new place on the tape."""
    if tensor.is_leaf and tensor.requires_grad:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    if tensor._base is not None:
        raise RuntimeError(f"{function.__name__} changes a view in place (mark_dirty): the tape cannot follow that to "
                           "the view's base; give it a .clone()")


class Function:
    """Subclass it with static ``forward(ctx, *args)`` and ``backward(ctx, *grad_outputs)`` and call ``.apply``.

    Alternatively ``forward(*args)`` without ctx together with ``setup_context(ctx, inputs, output)``.
    """

    _context_type: Any = FunctionCtx

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # One class for all calls: every class is a reference cycle, which only the garbage collector finds.
        cls._context_type = type(f"{cls.__name__}Backward", (FunctionCtx,), {})

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs from the inputs; nothing inside is recorded."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """One gradient (or None) per argument of ``forward``, from one gradient per output."""
        raise NotImplementedError("You must implement the backward function for your custom autograd.Function.")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run ``forward`` and put it on the tape as one step."""
        ctx = cls._context_type()
        ctx._function = cls
        ctx._dtypes = tuple(arg.dtype if isinstance(arg, Tensor) else None for arg in args)
        ctx.needs_input_grad = tuple(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        recorded = core.grad_enabled() and any(ctx.needs_input_grad)
        with set_grad_enabled(False):
            if "setup_context" in dir(cls):
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)  # type: ignore[attr-defined]
            else:
                result = cls.forward(ctx, *args)
        if not recorded:
            return result
        single = not isinstance(result, tuple)
        outputs = [result] if single else list(result)
        inputs = {id(arg) for arg in args if isinstance(arg, Tensor)}
        dirty = {id(tensor) for tensor in ctx._dirty}
        for i, output in enumerate(outputs):
            # An input handed through unchanged becomes a tensor of its own, or the input would be its own parent.
            if isinstance(output, Tensor) and id(output) in inputs and id(output) not in dirty:
                outputs[i] = output.detach()
        metadata = [
            (out._raw.shape, out._raw.dtype, out._backend) if isinstance(out, Tensor) else ((), None, None)
            for out in outputs
        ]
        for tensor in ctx._dirty:
            _require_changeable(cls, tensor)
        node = core.function_node(ctx, args, metadata)
        without = {id(tensor) for tensor in ctx._non_differentiable}
        for tensor in ctx._dirty:
            tensor._bump_version()
        ctx._keep(outputs, node)
        for i, output in enumerate(outputs):
            if isinstance(output, Tensor) and id(output) not in without and output.dtype.is_floating_point:
                core.attach_output(output, node, i)
        return outputs[0] if single else tuple(outputs)
