"""Shapes and options of an op by its name: integers of the right number and range, or an error that says so."""

import operator
from collections.abc import Sequence
from typing import Any

IntOrPair = int | Sequence[int]

# By the number of sides: what the axes of an input and of a kernel are called, and the sides in a message.
_AXES = {1: ("(N, C, L)", "K", ("long",)), 2: ("(N, C, H, W)", "KH, KW", ("high", "wide")),
         3: ("(N, C, D, H, W)", "KD, KH, KW", ("deep", "high", "wide"))}
NUMBERS = {1: "one integer", 2: "one integer or a pair (rows, columns)",
            3: "one integer or three (depth, rows, columns)"}


def axes_of(op: str) -> tuple[str, str, tuple[str, ...]]:
    """The axes of the input, those of the weight, and the sides of an op by its name."""
    input_axes, kernel_axes, sides = _AXES[int(op[-2])]
    channels = "C, OC/groups" if "transpose" in op else "OC, C/groups"
    return input_axes, f"({channels}, {kernel_axes})", sides


def kept(make: Any, *arguments: Any) -> Any:
    """``make(*arguments)`` of a function with ``functools.lru_cache``, which cannot keep lists."""
    try:
        return make(*arguments)
    except TypeError:  # a list does not hash; anything else is found wrong again, with a message
        return make(*map(_hashable, arguments))


def checked_shape(op: str, what: str, axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape with as many integers as ``axes`` names; ``RuntimeError`` for another number of them."""
    dimensions = axes.count(",") + 1
    if len(shape) != dimensions:
        raise RuntimeError(f"{op}: {what} must have the {dimensions} dimensions {axes}, got {len(shape)} in "
                           f"{tuple(shape)}")
    return tuple(map(operator.index, shape))


def per_side(op: str, name: str, value: IntOrPair, sides: int, least: int) -> tuple[int, ...]:
    """One number for all sides, or one for each."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if len(values) not in (1, sides):
        raise RuntimeError(f"{op}: {name} must be {NUMBERS[sides]}, got {value!r}")
    numbers = tuple(checked_index(op, name, number) for number in values)
    if min(numbers) < least:
        raise RuntimeError(f"{op}: {name} must be at least {least}, got {value!r}")
    return numbers if len(numbers) == sides else numbers * sides


def checked_index(op: str, name: str, value: object) -> int:
    """An integer of any kind but bool; ``TypeError`` for what is none."""
    if isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be integers, got bool {value}")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{op}: {name} must be integers, got {type(value).__name__} {value!r}") from None


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
