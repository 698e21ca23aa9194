"""From a recording to a plan: every array of the step gets its place in one block of memory, once.

An array is alive from the call that makes it to the last one that reads it, gradients of leaves and results to the end.
Arrays that are never alive together may lie in the same place; the largest are placed first, each at the lowest offset
that is free all its life ("greedy by size", Pisarchyk and Lee 2020, https://arxiv.org/abs/2001.03288).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl._ext import core, storage
from minidl._ext.plan import Call, Input, InputInPlace, Plan
from minidl._tensor import Tensor
from minidl.compiler.fusion import Fusion
from minidl.compiler.layouts import Layouts
from minidl.compiler.recording import VARYING, CannotRepeatError, Place, Recorded, Recording
from minidl.compiler.use import places_in


def is_view(call: Recorded) -> bool:
    """Whether a call only looks at memory in another way: then there is nothing to repeat."""
    op, result = core.REGISTERED.get(call.name), call.result
    if not (isinstance(op, core.Op) and op.view and isinstance(result, Place)):
        return False
    return any((place.kind, place.number) == (result.kind, result.number) for place in places_in(call.arguments))


class Layout:
    """Where the arrays of a recording lie: offsets into one block, and the arrays themselves on demand."""

    def __init__(self, record: Recording, calls: list[Recorded], kept: list[Place]) -> None:
        self.record, self.device = record, record.device
        births: dict[tuple[str, int], int] = {}
        deaths: dict[tuple[str, int], int] = {}
        sizes: dict[tuple[str, int], int] = {}
        for index, call in enumerate(calls):
            for number in range(call.first, call.last):
                births["new", number] = deaths["new", number] = index
                sizes["new", number] = record.script.entries[number][0]
            for place in places_in(call.result):
                if place.kind == "host" and (place.kind, place.number) not in births:
                    births["host", place.number] = deaths["host", place.number] = index
                    whole = record.host[place.number]
                    sizes["host", place.number] = int(np.prod(whole.shape)) * whole.dtype.itemsize
            for place in places_in((call.arguments, call.keywords, call.result)):
                if place.kind in ("new", "host"):
                    if (place.kind, place.number) not in births:
                        raise CannotRepeatError(f"{call.name} reads memory that no op of the step has made")
                    deaths[place.kind, place.number] = index
        for place in kept:
            if place.kind in ("new", "host"):
                if (place.kind, place.number) not in births:
                    raise CannotRepeatError("it returns or leaves behind memory that none of its ops has made")
                deaths[place.kind, place.number] = len(calls)
        self.offsets, self.bytes = packed(births, deaths, sizes, self.device.align)
        self._block = self.device.empty((max(self.bytes, 1),), np.dtype(np.uint8))
        self._arrays: dict[Place, Any] = {}
        self._inputs: dict[int, tuple[Any, list[Any], list[int]]] = {}

    def array(self, place: Place) -> Any:
        """The array of the plan that stands for a place of the recording."""
        if place not in self._arrays:
            if place.kind == "outside":
                self._arrays[place] = self.record.outside_arrays[place]
            elif place.kind == "input":
                rest, views, offsets = self._inputs[place.number]
                views.append(self.device.part(rest, place.offset, place.shape, place.strides, place.dtype))
                offsets.append(place.offset)
                self._arrays[place] = views[-1]
            else:
                offset = self.offsets[place.kind, place.number] + place.offset
                self._arrays[place] = self.device.part(self._block, offset, place.shape, place.strides, place.dtype)
        return self._arrays[place]

    def input(self, number: int, tensor: Tensor) -> Input:
        """Argument ``number`` of the step; the arrays that stand for it join as they are asked for."""
        rest = self.device.empty(tuple(tensor.shape), tensor._raw.dtype)
        self._inputs[number] = rest, [], []
        return (InputInPlace if self.device.on_host else Input)(tensor, *self._inputs[number])

    def new(self, number: int) -> Any:
        """What the allocator is to give out as array ``number``; None if no call asks for it."""
        if ("new", number) not in self.offsets:
            return None
        _, shape, dtype = self.record.script.entries[number]
        return self.device.part(self._block, self.offsets["new", number], shape, None, dtype)

    def filled(self, value: Any) -> Any:
        """``value`` with the plan's array for each place."""
        if isinstance(value, Place):
            return self.array(value)
        if type(value) in (tuple, list):
            return type(value)(self.filled(each) for each in value)
        return value


def packed(births: dict[Any, int], deaths: dict[Any, int], sizes: dict[Any, int],
           align: int) -> tuple[dict[Any, int], int]:
    """An offset, a multiple of ``align``, for each array such that none that are alive together overlap, and the bytes
    of the whole."""
    offsets: dict[Any, int] = {}
    total = 0
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        size = -(-max(sizes[name], 1) // align) * align
        beside = sorted(
            (offsets[other], offsets[other] + -(-max(sizes[other], 1) // align) * align)
            for other in offsets if births[other] <= deaths[name] and births[name] <= deaths[other])
        offset = 0
        for start, end in beside:
            if offset + size <= start:
                break
            offset = max(offset, end)
        offsets[name] = offset
        total = max(total, offset + size)
    return offsets, total


def made_plan(record: Recording, inputs: list[Any], backend: Any) -> Plan:
    """The plan of a recorded step.  Raises ``CannotRepeatError`` where it reads memory that no op has made."""
    calls = [call for call in record.calls if not is_view(call)]
    fusion = Fusion(record, calls, places_in((record.output, [place for _, place in record.grads])), backend)
    output, grads = fusion.moved(record.output), [(leaf, fusion.moved(place)) for leaf, place in record.grads]
    layouts = Layouts(record, fusion.calls, places_in((output, [place for _, place in grads])), backend)
    calls, output = layouts.calls, layouts.moved(output)
    layout = Layout(record, calls, places_in((output, [place for _, place in grads])))
    expected = [layout.input(i, value) if isinstance(value, Tensor) else value for i, value in enumerate(inputs)]
    copied: set[int] = set()
    steps = [Call(call.name, call.function, layout.filled(call.arguments),
                  {key: layout.filled(each) for key, each in call.keywords.items()}, call.first,
                  call.first < call.last, tuple(_copies(call, layout, copied)), call.name in VARYING)
             for call in calls]
    gradients = [(leaf, None if place is None else core.from_raw(layout.array(place), backend))
                 for leaf, place in grads if place is None or place.kind != "outside"]
    fields, tensors, changed = watched(record)
    arrays = [layout.new(number) for number in range(len(record.script.entries))]
    repeater = record.device.repeater(steps, arrays, [each.rest for each in expected if isinstance(each, Input)])
    return Plan(steps, arrays, repeater, expected, fields, tensors, changed, gradients,
                _outputs(output, layout, backend))


def _copies(call: Recorded, layout: Layout, copied: set[int]) -> Iterator[tuple[int, Any]]:
    """What a function makes in NumPy's memory has to be brought to the place that the plan has for it."""
    results = enumerate(call.result) if type(call.result) is tuple else [(-1, call.result)]
    for position, place in results:
        if isinstance(place, Place) and place.kind == "host" and place.number not in copied:
            copied.add(place.number)
            if place != layout.record.host[place.number]:
                raise CannotRepeatError(f"{call.name} returns a part of memory that it made itself")
            yield position, layout.array(place)


def watched(record: Recording) -> tuple[list[Any], list[Any], list[Any]]:
    """The Python state that the step depends on, as ``Plan`` takes it: fields, tensors, and what the step changes."""
    fields: list[Any] = [*record.device.settings()]
    tensors: dict[int, Tensor] = {}
    changed: dict[int, Any] = {}
    for module in record.modules.values():
        state = vars(module)
        fields.append((state, "training", module.training))
        fields.append((state, "_hooked", state.get("_hooked", ...)))
        for table in (module._parameters, module._buffers):
            for name, value in table.items():
                fields.append((table, name, value))
                if value is not None:
                    tensors[id(value)] = value
        changed.update((id(value), value) for value in module._buffers.values() if value is not None)
    for optimizer in record.optimizers.values():
        for group in optimizer.param_groups:
            fields.append((group, "params", group["params"]))
            tensors.update((id(value), value) for value in group["params"])
            changed.update((id(value), value) for value in group["params"])
    for call in record.calls:
        target = call.arguments[0] if call.name.endswith("_") and call.arguments else None
        if isinstance(target, Place) and target.kind == "outside":
            owner = record.outside[target.number]
            if isinstance(owner, storage.Storage):
                changed[id(owner)] = owner
    return fields, [(value, value._raw) for value in tensors.values()], list(changed.values())


def _outputs(output: Any, layout: Layout, backend: Any) -> Callable[[Any], Any]:
    """A function that puts together what the step returns, with a copy of each array."""
    if isinstance(output, Place):
        array = layout.array(output)
        return lambda copy: core.from_raw(copy(array), backend)
    if type(output) in (tuple, list):
        kind, parts = type(output), [_outputs(each, layout, backend) for each in output]
        return lambda copy: kind(part(copy) for part in parts)
    if type(output) is dict:
        named = {key: _outputs(each, layout, backend) for key, each in output.items()}
        return lambda copy: {key: part(copy) for key, part in named.items()}
    return lambda copy: output
