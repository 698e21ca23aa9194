"""The callable that ``minidl.compile`` returns."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any

from minidl._ext.core import memory_root
from minidl._ext.plan import Plan
from minidl._tensor import Tensor
from minidl.autograd import is_grad_enabled
from minidl.compiler.planning import made_plan
from minidl.compiler.recording import CannotRepeatError, Recording, difference, finish, is_recording, recording
from minidl.nn.module import Module

_RUNS_BEFORE_RECORDING = 1  # in which optimizers and caches fill up
_MOST_PLANS = 8  # for different shapes and modes of one function


class _Attempt:
    """What is known of one kind of call: shapes, modes and values of its arguments."""

    def __init__(self) -> None:
        self.runs = 0
        self.record: Recording | None = None
        self.plan: Plan | None = None
        self.refused: str | None = None


class Compiled:
    """A step that is repeated from a recording of it; made by ``minidl.compile``.

    ``fallback_reason`` says why the latest call ran as it is written, None when it was repeated.  Other attributes are
    those of the function or module.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._attempts: dict[Any, _Attempt] = {}
        self._latest: Plan | None = None
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self.fallback_reason: str | None = "it has not been recorded yet"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)

    def __repr__(self) -> str:
        return f"compile({self._function!r})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_recording():
            self.fallback_reason = "it is a part of another compiled step, which is being recorded"
            return self._function(*args, **kwargs)
        # which names were given is a value like others: a plan is for them alone
        values = [*args, *kwargs.values(), ", ".join(kwargs)] if kwargs else list(args)
        if not self._lock.acquire(blocking=False):
            self.fallback_reason = "another thread is in it"
            return self._function(*args, **kwargs)
        try:
            if self._latest is not None and self._latest.takes(values):
                self.fallback_reason = None
                return self._latest.run(values)
            return self._not_as_before(args, kwargs, values)
        finally:
            self._lock.release()

    @property
    def device_calls(self) -> list[str]:
        """The names of the device functions that a repetition of the latest call makes; empty if it ran as written."""
        return self._latest.names if self._latest is not None and self.fallback_reason is None else []

    def _not_as_before(self, args: tuple[Any, ...], kwargs: dict[str, Any], values: list[Any]) -> Any:
        """Look for another plan, or record, or run as written."""
        key = (is_grad_enabled(), self._modes(), tuple(map(_kind, values)))
        for attempt in self._attempts.values():
            if attempt.plan is not None and attempt.plan.takes(values):
                self._latest, self.fallback_reason = attempt.plan, None
                return attempt.plan.run(values)
        if key not in self._attempts and len(self._attempts) >= _MOST_PLANS:
            return self._as_written(args, kwargs, f"it was called in more than {_MOST_PLANS} ways: other shapes, modes "
                                    "or values of its arguments; call it with fewer, or compile a function for each")
        if key not in self._attempts and self._attempts and not self._warned:
            self._warn(f"its arguments changed to {', '.join(map(_told, values))}; such calls are recorded apart")
        attempt = self._attempts.setdefault(key, _Attempt())
        if attempt.refused is not None:
            return self._as_written(args, kwargs, attempt.refused)
        attempt.runs += 1
        if attempt.runs <= _RUNS_BEFORE_RECORDING:
            self.fallback_reason = "it has not been recorded yet"
            return self._function(*args, **kwargs)
        return self._record(attempt, args, kwargs, values)

    def _record(self, attempt: _Attempt, args: tuple[Any, ...], kwargs: dict[str, Any], values: list[Any]) -> Any:
        """Run once more and write down what happens; the second recording becomes a plan if it equals the first."""
        tensors = [value for value in values if isinstance(value, Tensor)]
        backend = tensors[0]._backend if tensors else None
        reason = _unfit(values, tensors)
        if backend is None or reason is not None:
            attempt.refused = reason
            return self._as_written(args, kwargs, reason or "")
        attempt.plan = None
        with recording(backend, values) as record:
            output = self._function(*args, **kwargs)
            try:
                finish(record, output)
            except CannotRepeatError as error:
                record.refuse(str(error))
        before, attempt.record = attempt.record, record
        attempt.refused = record.refused or _leads_on(output, record)
        if attempt.refused is None and before is not None:
            attempt.refused = difference(before, record)
            attempt.record = None
            if attempt.refused is None:
                try:
                    attempt.plan = made_plan(record, values, backend)
                except CannotRepeatError as error:
                    attempt.refused = str(error)
        if attempt.refused is not None:
            self._warn(attempt.refused + "; it runs as written")
        self._latest, self.fallback_reason = attempt.plan, attempt.refused
        return output

    def _as_written(self, args: tuple[Any, ...], kwargs: dict[str, Any], reason: str) -> Any:
        self.fallback_reason = reason
        self._warn(reason + "; it runs as written")
        return self._function(*args, **kwargs)

    def _warn(self, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            name = getattr(self._function, "__name__", type(self._function).__name__)
            warnings.warn(f"minidl.compile: {name} is not repeated from a recording: {reason}", RuntimeWarning,
                          stacklevel=4)

    def _modes(self) -> Any:
        return self._function.training if isinstance(self._function, Module) else None


def _kind(value: Any) -> Any:
    """What of an argument decides whether two calls do the same."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype, value.device, value.requires_grad
    try:
        hash(value)
    except TypeError:
        return type(value)
    return type(value), value


def _told(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _unfit(values: list[Any], tensors: list[Tensor]) -> str | None:
    """Why a call with these arguments cannot be recorded, or None."""
    if not tensors:
        return "none of its arguments is a tensor"
    if any(not isinstance(value, (Tensor, bool, int, float, str, type(None))) for value in values):
        return "its arguments are not all tensors, numbers, texts or None"
    if len({tensor.device for tensor in tensors}) > 1:
        return "its arguments are on several devices; copy them to one before the call"
    if any(not tensor.is_contiguous() for tensor in tensors):
        return "an argument is not contiguous in memory; pass x.contiguous()"
    if any(tensor.requires_grad for tensor in tensors):
        return "an argument requires grad; compile the whole step, with forward, backward and optimizer"
    if len({id(memory_root(tensor._raw)) for tensor in tensors}) != len(tensors):
        return "two arguments lie in the same memory; pass copies"
    return None


def _leads_on(output: Any, record: Recording) -> str | None:
    """A result that a gradient may still flow through cannot come from a repetition, which records no tape."""
    if isinstance(output, (tuple, list)):
        return next((reason for each in output if (reason := _leads_on(each, record))), None)
    if isinstance(output, dict):
        return _leads_on(list(output.values()), record)
    ran_backward = any(place is not None and place.kind != "outside" for _, place in record.grads)
    if isinstance(output, Tensor) and output.requires_grad and not ran_backward:
        return ("its result would carry gradients on; compile the whole step, with backward and optimizer, or call "
                "it under no_grad")
    return None


def compile(fn: Callable[..., Any]) -> Compiled:
    """``fn``, a training step or a module, from its fourth call on without Python per op.

    The first call runs as it is written, the next two are recorded: every call of a device function, in forward,
    backward and optimizer.  If both did the same, all memory is planned once, and from then on a call repeats the
    device functions on it, at a fraction of the cost for small networks.  The bits are those of the step as written,
    but where a convolution's gradients come from behind ReLU and 2x2 max pooling: fused, their sums have another order.

        @minidl.compile
        def step(images, labels):
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
            return loss

    What may change from call to call: the numbers in the arguments, parameters, buffers and optimizer state, learning
    rates and other hyperparameters of parameter groups, random numbers, ``train()`` and ``eval()``, and the shapes of
    the arguments (each is recorded apart).  What may not, because Python does not run again: printing, counting,
    control flow that depends on anything but the arguments; a schedule is stepped outside.  Where a recording shows
    that a step cannot be repeated, it runs as written and a ``RuntimeWarning`` says why; so does ``fallback_reason``.

    On a GPU the kernels of a step become one CUDA graph (https://docs.nvidia.com/cuda/cuda-c-programming-guide, "CUDA
    Graphs"): arguments are copied to where it reads them, it is launched, results are copied out, and Python waits for
    nothing.  All arguments have to be on one GPU; a step may not move data between devices.  What may change and what
    not is the same.  The bits are those of the step as written, but for what is fused: float32 to 1e-5 of the largest
    number, float64 to 1e-12.  A class out of range is no exception there: the loss is NaN.

    An argument may not lie in memory that the step also reads in another way, such as that of a weight.  Returned
    tensors are copies without history.  The gradients in ``.grad`` are overwritten by the next call.

    Raises ``TypeError`` for what cannot be called.
    """
    if not callable(fn):
        raise TypeError(f"compile(): expected a function or a module, got {type(fn).__name__}")
    return Compiled(fn)
