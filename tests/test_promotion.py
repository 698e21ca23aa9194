"""Arithmetic and comparisons of tensors of all dtypes, with numbers and with NumPy arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from dtypes import DTYPES
from outcomes import same_outcome

import minidl

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}


def operands(lib):
    made = {}
    for name in DTYPES:
        made[name] = lib.tensor([1, 0, 1] if name == "bool" else [1, 2, 3], dtype=getattr(lib, name))
        made[f"{name} 0-d"] = lib.tensor(1 if name == "bool" else 2, dtype=getattr(lib, name))
    return made | {"True": True, "2": 2, "2.5": 2.5}


@pytest.mark.torch
@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_promote_as_pytorch(operator, torch):
    ours, theirs = operands(minidl), operands(torch)
    different = []
    for a, b in itertools.product(ours, ours):
        if not isinstance(ours[a], minidl.Tensor) and not isinstance(ours[b], minidl.Tensor):
            continue
        # a divisor of zero has no answer that integers could agree on
        if operator in ("//", "%") and b == "bool":
            continue
        # with a bare True: PyTorch refuses ``x - True`` and takes ``bool ** True`` for a copy; minidl the other way
        # round
        if operator in ("-", "**") and "True" in (a, b):
            continue
        try:
            same_outcome(
                torch,
                lambda lib, a=a, b=b: OPERATORS[operator](
                    *((ours[a], ours[b]) if lib is minidl else (theirs[a], theirs[b]))
                ),
            )
        except AssertionError as error:
            different.append(f"{a} {operator} {b}: {str(error).strip().splitlines()[0]}")
    assert not different, "\n".join(different)


IN_PLACE = {
    "+=": lambda a, b: a.__iadd__(b),
    "-=": lambda a, b: a.__isub__(b),
    "*=": lambda a, b: a.__imul__(b),
    "/=": lambda a, b: a.__itruediv__(b),
    "**=": lambda a, b: a.__ipow__(b),
}


@pytest.mark.torch
@pytest.mark.parametrize("operator", IN_PLACE)
def test_in_place_operators_keep_the_dtype_or_refuse_as_pytorch(operator, torch):
    different = []
    names = [name for name in operands(minidl) if name in DTYPES]
    for a, b in itertools.product(names, operands(minidl)):
        if b == "True" and operator in ("-=", "**="):
            continue
        try:
            same_outcome(torch, lambda lib, a=a, b=b: IN_PLACE[operator](operands(lib)[a], operands(lib)[b]))
        except AssertionError as error:
            different.append(f"{a} {operator} {b}: {str(error).strip().splitlines()[0]}")
    assert not different, "\n".join(different)


def test_promotion_without_pytorch():
    i, f, d = minidl.tensor([1]), minidl.tensor([1.0]), minidl.tensor([1.0], dtype=minidl.float64)
    assert (i + 1.5).dtype == minidl.float32 and (f + d).dtype == minidl.float64 and (i / i).dtype == minidl.float32
    assert (
        (f + d[0]).dtype == minidl.float32 and (f * 2**40).dtype == minidl.float32 and (i + True).dtype == minidl.int64
    )
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        i += 1.5
    with pytest.raises(RuntimeError, match=r"output with shape \[1\] doesn't match the broadcast shape \[3\]"):
        f += minidl.ones(3)


def test_shapes_that_do_not_broadcast():
    with pytest.raises(RuntimeError, match=r"(?s)\(?2, 3\)?.*\(?4,?\)?|size"):
        minidl.ones(2, 3) + minidl.ones(4)


def test_numpy_operands():
    t = minidl.tensor([1.0, 2.0])
    for result in (np.float32(2.0) * t, t * np.float64(2.0), np.array([2.0, 2.0], np.float32) * t, t * np.int64(2)):
        assert isinstance(result, minidl.Tensor) and result.tolist() == [2.0, 4.0] and result.dtype == minidl.float32
    assert isinstance(np.array([1.0, 2.0]) + t, minidl.Tensor)
    with pytest.raises(TypeError):
        t + "a"
    assert (t == "a") is False and (t != None) is True  # noqa: E711 - what Python makes of NotImplemented
