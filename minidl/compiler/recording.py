"""Writing down a step while it runs: the calls of device functions, and where the memory of their arrays comes from.

Everything that computes goes through the functions of a backend, those of the backward pass and of the in-place ops
too.  For the time of a recording the backend is given functions that do the same and note the call.  Arrays are noted
as a ``Place``: which memory, and which part of it.  No reference to an array of the step is kept, so that the step runs
as it would without a recording.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl import _random
from minidl._devices.reference.repeating import Repeating
from minidl._devices.registry import backend_of
from minidl._ext import core
from minidl._tensor import Parameter, Tensor
from minidl.nn.module import Module
from minidl.optim.lr_scheduler import LRScheduler
from minidl.optim.optimizer import Optimizer

_FILLS = ("uniform_", "normal_", "random_", "bernoulli_")
_DRAWS = ("dropout_mask", "randperm")
VARYING = {*_FILLS, *_DRAWS, "optimizer step"}  # calls that do something else each time
_recording = threading.Lock()
_recording_thread: int | None = None


class CannotRepeatError(Exception):
    """Why a step cannot be repeated from a recording."""


@dataclass(frozen=True)
class Place:
    """Where an array lies.

    ``kind`` is "new" (memory that the step took from the allocator; ``number`` counts them), "host" (memory that a
    recorded function made in NumPy), "input" (of the tensor argument ``number``) or "outside" (memory that was there
    before: ``number`` counts them).  ``offset`` and ``strides`` are in bytes.
    """

    kind: str
    number: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype


@dataclass
class Recorded:
    """One call: ``arguments``, ``keywords`` and ``result`` with a ``Place`` for each array; it took the new arrays
    from ``first`` to before ``last`` from the allocator."""

    name: str
    function: Callable[..., Any]
    arguments: Any
    keywords: Any
    result: Any
    first: int
    last: int


@dataclass
class Recording:
    """What one run of a step did on ``device``."""

    device: Repeating = field(default_factory=Repeating)
    script: Any = None
    calls: list[Recorded] = field(default_factory=list)
    outside: list[Any] = field(default_factory=list)  # owners of memory
    outside_arrays: dict[Place, Any] = field(default_factory=dict)
    host: list[Place] = field(default_factory=list)
    modules: dict[int, Module] = field(default_factory=dict)
    optimizers: dict[int, Optimizer] = field(default_factory=dict)
    grads: list[tuple[Tensor, Place | None]] = field(default_factory=list)
    output: Any = None
    refused: str | None = None
    _roots: dict[int, tuple[str, int, int]] = field(default_factory=dict)  # id of an owner -> kind, number, address
    _input_bytes: dict[int, int] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)  # so that no id is given twice
    _depth: int = 0

    def __post_init__(self) -> None:
        self.script = self.device.script()

    def refuse(self, reason: str) -> None:
        """Note the first reason why this step cannot be repeated."""
        self.refused = self.refused or reason

    # -- where arrays lie

    def place(self, array: Any) -> Place:
        """The place of an array of this step."""
        address = self.device.address(array)
        root = core.memory_root(array)
        kind, number, start = self._memory(root, array)
        if kind == "input" and not start <= address <= start + self._input_bytes[number] - array.nbytes:
            self.refuse("it reads memory around an argument, which is a part of a larger tensor; pass a copy")
        return Place(kind, number, address - start, array.shape, array.strides, array.dtype)

    def _memory(self, root: Any, array: Any) -> tuple[str, int, int]:
        if id(root) in self._roots:
            return self._roots[id(root)]
        start = self.device.address_of_owner(root)
        if start in self.script.numbers:
            return "new", self.script.numbers[start], start
        start = start or self.device.address(array)
        self._know(root, "outside", len(self.outside), start)
        self.outside.append(root)
        return self._roots[id(root)]

    def _know(self, root: Any, kind: str, number: int, address: int) -> None:
        self._roots[id(root)] = kind, number, address
        self._kept.append(root)

    def know_input(self, number: int, array: Any) -> None:
        """Say that this array is argument ``number`` of the step."""
        self._know(core.memory_root(array), "input", number, self.device.address(array))
        self._input_bytes[number] = array.nbytes

    def is_input(self, array: Any) -> bool:
        """Whether an array lies in the memory of an argument."""
        return self._roots.get(id(core.memory_root(array)), ("",))[0] == "input"

    def _know_host(self, array: Any) -> None:
        """An array that a recorded function made outside of the allocator."""
        root = core.memory_root(array)
        if id(root) in self._roots or self.device.address_of_owner(root) in self.script.numbers:
            return
        self._know(root, "host", len(self.host), self.device.address(array))
        self.host.append(Place("host", len(self.host), 0, array.shape, array.strides, array.dtype))

    def noted(self, value: Any) -> Any:
        """``value`` with a ``Place`` for each array in it."""
        if isinstance(value, self.device.array_type):
            place = self.place(value)
            if place.kind == "outside":
                self.outside_arrays.setdefault(place, value)
            return place
        if type(value) in (tuple, list):
            return type(value)(self.noted(each) for each in value)
        return value

    # -- what is noted

    def call(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...],
             keywords: dict[str, Any]) -> Any:
        """Call a device function and note it."""
        if self._depth:
            return function(*arguments, **keywords)
        first = len(self.script.entries)
        before, before_keywords = self.noted(arguments), {key: self.noted(each) for key, each in keywords.items()}
        if name.endswith("_") and arguments and isinstance(arguments[0], self.device.array_type) and self.is_input(
                arguments[0]):
            self.refuse("it changes an argument in place; let it change a copy")
        self._depth += 1
        try:
            result = function(*arguments, **keywords)
        finally:
            self._depth -= 1
        for each in result if type(result) is tuple else (result,):
            if isinstance(each, self.device.array_type):
                self._know_host(each)
        self.calls.append(Recorded(name, function, before, before_keywords, self.noted(result), first,
                                   len(self.script.entries)))
        return result

    def update(self, optimizer: Optimizer, update: Callable[..., Any], backend: Any, group: dict[str, Any],
               parameters: list[Tensor], raws: list[Any], grads: list[Any]) -> None:
        """Let an optimizer change its parameters, and note it as one call that reads its hyperparameters anew."""
        self.optimizers[id(optimizer)] = optimizer
        self._kept.append(parameters)
        self.call("optimizer step", update, (optimizer, backend, group, parameters, raws, grads), {})


def is_recording() -> bool:
    """Whether this thread's work is being recorded."""
    return _recording_thread is not None and _recording_thread == threading.get_ident()


@contextlib.contextmanager
def recording(backend: Any, inputs: list[Any]) -> Iterator[Recording]:
    """Record what this thread lets ``backend`` do."""
    global _recording_thread
    with _recording:
        record, thread = Recording(backend.repeating), threading.get_ident()
        for number, value in enumerate(inputs):
            if isinstance(value, Tensor):
                record.know_input(number, value._raw)

        def is_ours() -> bool:
            return threading.get_ident() == thread

        with contextlib.ExitStack() as restore:
            _watch_backend(backend, record, is_ours, restore)
            if record.device.on_host:
                _watch_random_numbers(record, is_ours, restore)
            else:
                _watch_backend(backend_of("cpu"), record, is_ours, restore, elsewhere=True)
                record.script.refuse = lambda doing: record.refuse(
                    f"one of its operations {doing}, which a repetition cannot; do that before the call")
            _watch_python(record, is_ours, restore)
            restore.callback(core.rebind)
            core.rebind()
            _recording_thread = thread
            try:
                with record.script:
                    yield record
            finally:
                _recording_thread = None


def _replace(owner: Any, name: str, value: Any, restore: contextlib.ExitStack) -> None:
    """Set an attribute until ``restore`` is left."""
    if name in vars(owner):
        restore.callback(setattr, owner, name, vars(owner)[name])
    else:
        restore.callback(delattr, owner, name)
    setattr(owner, name, value)


def _watch_backend(backend: Any, record: Recording, is_ours: Callable[[], bool], restore: contextlib.ExitStack,
                   elsewhere: bool = False) -> None:
    """Note every call of the backend's functions; ``elsewhere`` tells that the step may make none."""
    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any, **keywords: Any) -> Any:
            if not is_ours():
                return function(*arguments, **keywords)
            if elsewhere:
                record.refuse(record.device.refused["from_host"] if name == "to_device" else
                              f"it computes on the CPU too ({name}); do that before the call, or on the GPU")
                return function(*arguments, **keywords)
            if name in record.device.refused and not record._depth:
                record.refuse(record.device.refused[name])
            return record.call(name, function, arguments, keywords)

        return method

    for name in dir(backend):
        function = getattr(backend, name)
        computes = not name.startswith(("_", "can_"))
        if computes and callable(function) and not isinstance(function, type):
            _replace(backend, name, watched(name, function), restore)


def _watch_random_numbers(record: Recording, is_ours: Callable[[], bool], restore: contextlib.ExitStack) -> None:
    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def draw(*arguments: Any, **keywords: Any) -> Any:
            return record.call(name, function, arguments, keywords) if is_ours() else function(*arguments, **keywords)

        return draw

    for name in (*_FILLS, *_DRAWS):
        _replace(_random, name, watched(name, getattr(_random, name)), restore)


def _watch_python(record: Recording, is_ours: Callable[[], bool], restore: contextlib.ExitStack) -> None:
    """The modules that are called, the optimizers that step, the schedules that should step elsewhere."""
    call, scheduled = Module.__call__, LRScheduler.step

    def called(self: Module, *arguments: Any, **keywords: Any) -> Any:
        if is_ours():
            record.modules[id(self)] = self
        return call(self, *arguments, **keywords)

    def schedule(self: LRScheduler, *arguments: Any, **keywords: Any) -> Any:
        if is_ours():
            record.refuse("it steps a learning rate schedule; step it after the compiled step")
        return scheduled(self, *arguments, **keywords)

    _replace(Module, "__call__", called, restore)
    _replace(LRScheduler, "step", schedule, restore)

    def watched(update: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Optimizer, *arguments: Any) -> None:
            if is_ours():
                record.update(self, update, *arguments)
            else:
                update(self, *arguments)

        return method

    for kind in _with_update(Optimizer):
        _replace(kind, "_update", watched(vars(kind)["_update"]), restore)


def _with_update(kind: type[Optimizer]) -> list[type[Optimizer]]:
    found = [kind] if "_update" in vars(kind) else []
    return found + [each for below in kind.__subclasses__() for each in _with_update(below)]


def finish(record: Recording, output: Any) -> None:
    """Note what the step left behind: what it returns and the gradients of the leaves."""
    record.output = placed(output, record)
    leaves: dict[int, Tensor] = {}
    for module in record.modules.values():
        for value in module.parameters():
            leaves[id(value)] = value
        if any(record.is_input(value._raw) for value in module.state_dict().values()):
            record.refuse("an argument lies in the memory of a parameter or buffer; pass a copy")
    for optimizer in record.optimizers.values():
        for group in optimizer.param_groups:
            leaves.update((id(value), value) for value in group["params"])
    if any(not isinstance(leaf._raw, record.device.array_type) for leaf in leaves.values()):
        raise CannotRepeatError("its parameters are not all on the device of its arguments; move them there")
    record.grads = [(leaf, None if leaf.grad is None else record.noted(leaf.grad._raw)) for leaf in leaves.values()]


def placed(output: Any, record: Recording) -> Any:
    """``output`` with a ``Place`` for each tensor in its tuples, lists and dicts."""
    if isinstance(output, Tensor):
        if not isinstance(output._raw, record.device.array_type):
            raise CannotRepeatError(f"it returns a tensor on {output.device}; move its results after the call")
        return record.noted(output._raw)
    if type(output) in (tuple, list):
        return type(output)(placed(each, record) for each in output)
    if type(output) is dict:
        return {key: placed(each, record) for key, each in output.items()}
    if output is None or isinstance(output, (bool, int, float, str)):
        return output
    raise CannotRepeatError(f"it returns a {type(output).__name__}; return tensors, in tuples, lists or dicts")


def difference(one: Recording, two: Recording) -> str | None:
    """What two recordings of a step do differently, or None."""
    for before, now in zip(one.calls, two.calls, strict=False):
        if before.name != now.name:
            return f"its ops changed from one call to the next: {before.name}, then {now.name} in its place"
        for what in ("arguments", "keywords", "result"):
            first, second = getattr(before, what), getattr(now, what)
            if not _same(first, second, one, two):
                return _why(before.name, what, first, second)
        if one.script.entries[before.first : before.last] != two.script.entries[now.first : now.last]:
            return f"{before.name} takes other memory from one call to the next"
    if len(one.calls) != len(two.calls):
        return f"its ops changed from one call to the next: {len(one.calls)}, then {len(two.calls)}"
    if not _same(one.output, two.output, one, two):
        return "it returns something else from one call to the next"
    grads = [[(id(leaf), place) for leaf, place in record.grads] for record in (one, two)]
    if [leaf for leaf, _ in grads[0]] != [leaf for leaf, _ in grads[1]]:
        return "it works on other parameters from one call to the next"
    if not _same([place for _, place in grads[0]], [place for _, place in grads[1]], one, two):
        return "it leaves other gradients behind from one call to the next"
    return None


def _why(name: str, what: str, first: Any, second: Any) -> str:
    flat = zip(first, second, strict=False) if type(first) is tuple else [(first, second)]
    for a, b in flat:
        if isinstance(a, Place) and isinstance(b, Place) and a.kind == b.kind == "outside":
            return (f"{name} reads a tensor that was made anew outside of minidl's ops between two calls, such as a "
                    "gradient that adds up over calls, or from_numpy inside the step; make it an argument of the step")
        if type(a) is type(b) and isinstance(a, (int, float, str)) and a != b:
            return f"an argument of {name} changed from one call to the next: {a!r}, then {b!r}"
    return f"{what} of {name} changed from one call to the next"


def _same(a: Any, b: Any, one: Recording, two: Recording) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Place):
        if a.kind == "outside" and one.outside[a.number] is not two.outside[b.number]:
            return False
        return a == b or (a.kind == "outside" and (a.offset, a.shape, a.strides, a.dtype) == (
            b.offset, b.shape, b.strides, b.dtype))
    if type(a) in (tuple, list):
        return len(a) == len(b) and all(_same(x, y, one, two) for x, y in zip(a, b, strict=True))
    if type(a) is dict:
        return a.keys() == b.keys() and all(_same(a[key], b[key], one, two) for key in a)
    if a is b or isinstance(a, (Tensor, Parameter, Module, Optimizer)):
        return a is b
    try:
        return bool(a == b)
    except Exception:
        return False
