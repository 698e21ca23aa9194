"""Making tensors: PyTorch's dtypes, shapes and values."""

from __future__ import annotations

import numpy as np
import pytest
from outcomes import same_outcome

import minidl

CREATION = {
    "int": lambda lib: lib.tensor(3),
    "float": lambda lib: lib.tensor(3.5),
    "bool": lambda lib: lib.tensor(True),
    "nested": lambda lib: lib.tensor([[1, 2], [3, 4]]),
    "mixed": lambda lib: lib.tensor([1, 2.5]),
    "bools": lambda lib: lib.tensor([True, False]),
    "empty list": lambda lib: lib.tensor([]),
    "empty rows": lambda lib: lib.tensor([[], []]),
    "tuple": lambda lib: lib.tensor((1, (2), 3)),
    "of tensors": lambda lib: lib.tensor([lib.tensor(1.0), lib.tensor(2.0)]),
    "dtype": lambda lib: lib.tensor([1.7, -1.7], dtype=lib.int32),
    "of numpy": lambda lib: lib.tensor(np.arange(3, dtype=np.int16)),
    "of numpy scalar": lambda lib: lib.tensor(np.float64(2.5)),
    "uneven": lambda lib: lib.tensor([[1, 2], [3]]),
    "text": lambda lib: lib.tensor("a"),
    "zeros": lambda lib: lib.zeros(2, 3),
    "zeros tuple": lambda lib: lib.zeros((2, 3), dtype=lib.int64),
    "zeros nothing": lambda lib: lib.zeros(()),
    "ones": lambda lib: lib.ones(2, 0, 3),
    "full": lambda lib: lib.full((2, 2), 7),
    "full float": lambda lib: lib.full((2,), 7.5),
    "full bool": lambda lib: lib.full((2,), True),
    "negative": lambda lib: lib.zeros(-1),
    "like": lambda lib: lib.zeros_like(lib.ones(2, dtype=lib.int8)),
    "ones like": lambda lib: lib.ones_like(lib.ones(2, 2), dtype=lib.float64),
    "full like": lambda lib: lib.full_like(lib.ones(2, 2), 3),
    "arange": lambda lib: lib.arange(5),
    "arange range": lambda lib: lib.arange(2, 10, 3),
    "arange float": lambda lib: lib.arange(0.0, 1.0, 0.1),
    "arange down": lambda lib: lib.arange(5, 0, -2),
    "arange wrong": lambda lib: lib.arange(5, 0),
    "linspace": lambda lib: lib.linspace(0, 1, 7),
    "linspace one": lambda lib: lib.linspace(3, 5, 1),
    "eye": lambda lib: lib.eye(3),
    "eye wide": lambda lib: lib.eye(2, 4),
    "tril": lambda lib: lib.tril(lib.ones(3, 3)),
    "diag": lambda lib: lib.diag(lib.tensor([1.0, 2.0])),
    "meshgrid": lambda lib: lib.meshgrid(lib.arange(2), lib.arange(3), indexing="ij")[1],
    "as_tensor": lambda lib: lib.as_tensor([1.5, 2.5]),
    "new_zeros": lambda lib: lib.ones(2, dtype=lib.float64).new_zeros(3, 2),
    "new_full": lambda lib: lib.ones(2, dtype=lib.float64).new_full((2,), 3),
    "new_tensor": lambda lib: lib.ones(2, dtype=lib.int32).new_tensor([1, 2]),
    "one-hot": lambda lib: lib.nn.functional.one_hot(lib.tensor([0, 2, 1])),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CREATION)
def test_creation_is_pytorchs(name, torch):
    same_outcome(torch, CREATION[name])


def test_default_dtype():
    assert minidl.get_default_dtype() == minidl.float32
    minidl.set_default_dtype(minidl.float64)
    try:
        assert (
            minidl.tensor(1.5).dtype == minidl.float64 == minidl.zeros(1).dtype
            and minidl.tensor(1).dtype == minidl.int64
        )
    finally:
        minidl.set_default_dtype(minidl.float32)
