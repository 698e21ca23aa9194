"""One call made in minidl and in PyTorch: the same result, or an error of the same kind."""

from __future__ import annotations

import numpy as np

import minidl


def same(got, expected):
    """A minidl result and a PyTorch result: dtype, shape and values."""
    assert str(got.dtype).split(".")[-1] == str(expected.dtype).split(".")[-1]
    assert tuple(got.shape) == tuple(expected.shape)
    np.testing.assert_allclose(got.detach().numpy(), expected.detach().numpy(), rtol=1e-6, atol=1e-7)


def outcome(lib, call):
    """The result, or the kind of error."""
    try:
        return call(lib)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        return error


def same_outcome(torch, call):
    got, expected = outcome(minidl, call), outcome(torch, call)
    if isinstance(expected, Exception) or isinstance(got, Exception):
        assert isinstance(got, Exception) and isinstance(expected, Exception), (got, expected)
        kinds = [kind for kind in (IndexError, TypeError, ValueError, RuntimeError) if isinstance(expected, kind)]
        assert isinstance(got, kinds[0]), (got, expected)
        return
    same(got, expected)
