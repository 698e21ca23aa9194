"""The same layer or function in minidl and in PyTorch, and what comes out of both, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

import minidl

# float64: sums of at most a few thousand products, each rounded to 1e-16; float32: the same of 6e-8, and a cancellation
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers in float64, for both libraries."""
    return np.random.default_rng(seed).standard_normal(shape)


def assert_close(got: Any, expected: Any, tolerance: float) -> None:
    """Equal up to ``tolerance`` times the largest number (a sum's rounding is relative to its terms)."""
    got, expected = np.asarray(got.detach()), expected.detach().numpy()
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale)


def assert_same(torch: Any, ours: Any, theirs: Any, *inputs: np.ndarray, dtype: type = np.float64,
                parameters: Any = None, tolerance: float | None = None) -> None:
    """``ours(*inputs)`` and ``theirs(*inputs)`` agree, and so do the gradients of floating inputs and parameters.

    ``parameters`` is a pair of modules; left out, it is ``(ours, theirs)`` where these are modules.
    """
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    if parameters is None:
        parameters = (ours, theirs) if isinstance(ours, minidl.nn.Module) else None
    mine, other = [], []
    for array in inputs:
        array = array.astype(dtype) if array.dtype.kind == "f" else array
        mine.append(minidl.tensor(array).requires_grad_(array.dtype.kind == "f"))
        other.append(torch.from_numpy(array.copy()).requires_grad_(array.dtype.kind == "f"))
    got, expected = ours(*mine), theirs(*other)
    assert_close(got, expected, tolerance)
    if not expected.requires_grad:
        return
    direction = np.random.default_rng(1).standard_normal(expected.shape).astype(dtype)
    got.backward(minidl.tensor(direction))
    expected.backward(torch.tensor(direction))
    for a, b in zip(mine, other, strict=True):
        if b.requires_grad:
            assert_close(a.grad, b.grad, tolerance)
    if parameters is not None:
        for a, b in zip(*(module.parameters() for module in parameters), strict=True):
            assert_close(a.grad, b.grad, tolerance)


def twins(torch: Any, make: Any, dtype: type = np.float64, seed: int = 0) -> tuple[Any, Any]:
    """``make(nn)`` with minidl's nn and with PyTorch's from the same seed; their states are equal to the bit."""
    made = []
    for library in (minidl, torch):
        library.manual_seed(seed)
        made.append(make(library.nn))
    ours, theirs = made
    state, expected = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(np.asarray(state[key]), value.numpy(), err_msg=key)
    assert repr(ours) == repr(theirs)
    return (ours.double(), theirs.double()) if dtype is np.float64 else (ours, theirs)
