"""What the calls of a recording read and write: who uses which memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from minidl._ext import core
from minidl.compiler.recording import Place, Recorded, Recording

Root = tuple[str, int]


def places_in(value: Any) -> list[Place]:
    """Every place in nested tuples, lists and dicts."""
    if isinstance(value, Place):
        return [value]
    if type(value) is dict:
        return [place for each in value.values() for place in places_in(each)]
    if type(value) in (tuple, list):
        return [place for each in value for place in places_in(each)]
    return []


def root(place: Place) -> Root:
    """The memory that a place is in."""
    return place.kind, place.number


def moved(value: Any, to: dict[Root, int]) -> Any:
    """``value`` with the places in other new memory; what holds none, such as a parameter group, stays itself."""
    if not places_in(value):
        return value
    if isinstance(value, Place):
        return dataclasses.replace(value, kind="new", number=to[root(value)]) if root(value) in to else value
    if type(value) in (tuple, list):
        return type(value)(moved(each, to) for each in value)
    if type(value) is dict:
        return {key: moved(each, to) for key, each in value.items()}
    return value


def tried_call(record: Recording, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Recorded:
    """A call that was not recorded: tried on arrays that lie as its arguments do, to see which memory it takes."""
    device, entries = record.device, record.script.entries
    with device.trial() as script:
        result = function(*_blank(arguments, device))
    first = len(entries)

    def place(array: Any) -> Place:
        address = device.address_of_owner(core.memory_root(array))
        return Place("new", first + script.numbers[address], 0, array.shape, array.strides, array.dtype)

    parts = [None if each is None else place(each) for each in (result if type(result) is tuple else (result,))]
    entries.extend(script.entries)
    return Recorded(name, function, arguments, {}, tuple(parts) if type(result) is tuple else parts[0], first,
                    len(entries))


def _blank(value: Any, device: Any) -> Any:
    """``value`` with an array for a trial in place of each place."""
    if isinstance(value, Place):
        return device.blank(value.shape, value.strides, value.dtype)
    if type(value) in (tuple, list):
        return type(value)(_blank(each, device) for each in value)
    return value


def writes_to(calls: list[Recorded], memory: set[Root]) -> bool:
    """Whether one of the calls changes this memory; an optimizer's step may change any."""
    return any(call.name == "optimizer step" or
               (call.name.endswith("_") and not memory.isdisjoint(map(root, places_in(call.arguments[:1]))))
               for call in calls)


class Readers:
    """Who reads which memory."""

    def __init__(self, calls: list[Recorded], kept: list[Place]) -> None:
        self.calls = calls
        self.kept = {root(place) for place in kept}
        self.readers: dict[Root, list[int]] = {}
        for number, call in enumerate(calls):
            for memory in {root(place) for place in places_in((call.arguments, call.keywords))}:
                self.readers.setdefault(memory, []).append(number)

    def of(self, place: Any) -> list[int] | None:
        """The calls that read all of this new memory, or None if others may."""
        if not isinstance(place, Place) or place.kind != "new" or root(place) in self.kept:
            return None
        return self.readers.get(root(place), [])

    def only(self, place: Any, *names: str) -> dict[str, int] | None:
        """Name -> call, if nobody but one call of each of these names reads it; not all have to."""
        numbers = self.of(place)
        if numbers is None:
            return None
        found = {self.calls[number].name: number for number in numbers}
        return found if len(found) == len(numbers) and set(found) <= set(names) else None
