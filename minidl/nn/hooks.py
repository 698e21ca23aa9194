"""The long way of calling a module: with the hooks that were registered on it."""

from __future__ import annotations

from typing import Any

from minidl._tensor import Tensor
from minidl.autograd import Function, Hooks, RemovableHandle, is_grad_enabled


class ModuleHandle(RemovableHandle):
    """The handle of a module's hook; a copy of it, also a pickled one, belongs to the copy of the module."""

    _hooks: Any  # gives the table, or None where it is gone

    def __getstate__(self) -> tuple[Any]:
        return (self._hooks(),)

    def __setstate__(self, state: tuple[Any]) -> None:
        RemovableHandle.__init__(self, Hooks() if state[0] is None else state[0])


def add_hook(module: Any, hooks: dict[RemovableHandle, Any], hook: Any, prepend: bool) -> RemovableHandle:
    """Enter a hook into one of a module's tables, at the end or at the front."""
    handle = ModuleHandle(hooks)
    later = dict(hooks) if prepend else {}
    for other in later:
        del hooks[other]
    hooks[handle] = hook
    hooks.update(later)
    object.__setattr__(module, "_hooked", True)
    return handle


def call_with_hooks(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward`` between its pre-hooks and its hooks, watched by its backward hooks."""
    for hook, with_kwargs in list(module._forward_pre_hooks.values()):
        if with_kwargs:
            changed = hook(module, args, kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise RuntimeError("forward pre-hook must return None or a tuple of (new_args, new_kwargs), but "
                                       f"got {changed}.")
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    watch = _BackwardWatch(module) if module._backward_hooks and is_grad_enabled() else None
    if watch is not None:
        args = watch.enter(args)
    output = module.forward(*args, **kwargs)
    for hook, with_kwargs in list(module._forward_hooks.values()):
        changed = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
        if changed is not None:
            output = changed
    return output if watch is None else watch.leave(output)


class _Boundary(Function):
    """Passes tensors through, and their gradients through ``report``, which may replace them."""

    @staticmethod
    def forward(ctx: Any, report: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.report = report
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, *ctx.report(grads)


class _BackwardWatch:
    """One call of a module with backward hooks: the gradients of its outputs, then those of its inputs, pass by."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.inputs = self.outputs = 0      # how many there are
        self.watched: list[int] = []        # which inputs
        self.places: list[int] = []         # and which outputs are on the tape
        self.grad_output: tuple[Any, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.inputs = len(args)
        args, self.watched = _through_boundary(args, self._inputs_done)
        return args

    def leave(self, output: Any) -> Any:
        outputs = output if isinstance(output, tuple) else (output,)
        self.outputs = len(outputs)
        results, self.places = _through_boundary(outputs, self._outputs_done)
        return results if isinstance(output, tuple) else results[0]

    def _outputs_done(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        self.grad_output = _spread(grads, self.places, self.outputs)
        if not self.watched:
            self._run(_spread((), (), self.inputs))
        return grads

    def _inputs_done(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        grad_input = self._run(_spread(grads, self.watched, self.inputs))
        return tuple(grad_input[place] for place in self.watched)

    def _run(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in list(self.module._backward_hooks.values()):
            changed = hook(self.module, grad_input, self.grad_output)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                if len(changed) != len(grad_input):
                    raise RuntimeError(f"Backward hook returned an invalid number of grad_input, got {len(changed)}, "
                                       f"but expected {len(grad_input)}")
                grad_input = changed
        return grad_input


def _through_boundary(values: tuple[Any, ...], report: Any) -> tuple[tuple[Any, ...], list[int]]:
    """The values with those on the tape led through a boundary, and the places of these."""
    places = [i for i, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]
    if not places:
        return values, places
    passed = _Boundary.apply(report, *(values[i] for i in places))
    changed = list(values)
    for place, value in zip(places, passed, strict=True):
        changed[place] = value
    return tuple(changed), places


def _spread(values: tuple[Any, ...], places: Any, count: int) -> tuple[Any, ...]:
    """``count`` values, None but at ``places``."""
    found = dict(zip(places, values, strict=True))
    return tuple(found.get(i) for i in range(count))
