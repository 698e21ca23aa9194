"""Reductions, cumulative sums and sorting: the CPU against the reference, and both against PyTorch."""

import itertools

import numpy as np
import pytest

from minidl._devices.cpu import CPU
from minidl._devices.reference import Reference
from minidl._ext import threads

device = pytest.mark.parametrize("F", [Reference(), CPU()], ids=["reference", "cpu"])
rng = np.random.default_rng(7)

SHAPES = [(), (1,), (5,), (130,), (3, 4), (1, 7), (7, 1), (2, 3, 4), (3, 1, 5), (2, 3, 4, 5), (2, 300, 3), (9, 513)]


def subsets(ndim):
    return [None, *itertools.chain.from_iterable(itertools.combinations(range(ndim), n) for n in range(1, ndim + 1))]


def check(ours, theirs, rtol=0.0, atol=0.0):
    theirs = theirs.numpy()
    assert type(ours) is np.ndarray and ours.flags.c_contiguous
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def torch_reduce(torch, name, x, dims, keepdim):
    function = getattr(torch, name)
    if name == "prod":  # takes one dimension at a time
        for dim in sorted(range(x.ndim) if dims is None else dims, reverse=True):
            x = function(x, dim, keepdim=keepdim)
        return x.prod() if x.ndim == 0 and dims is None else x
    return function(x, dim=tuple(range(x.ndim)) if dims is None else dims, keepdim=keepdim)


@device
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "amin", "logsumexp", "any", "all"])
def test_reductions_of_floats(F, name, dtype):
    torch = pytest.importorskip("torch")
    for shape in SHAPES:
        x = np.asarray(1 + rng.standard_normal(shape), dtype)
        far = np.asfortranarray(np.stack([x, x], -1))[..., 0]
        for dims, keepdim in itertools.product(subsets(len(shape)), (False, True)):
            expected = torch_reduce(torch, name, torch.from_numpy(x), dims, keepdim)
            for layout in (x, far):
                # Sums in another order: the rounding of some hundred additions.
                check(getattr(F, name)(layout, dims, keepdim), expected, 1e-4 if dtype == "f4" else 1e-12, 1e-6)


@device
@pytest.mark.parametrize("dtype", ["i8", "i4", "u1", "?"])
@pytest.mark.parametrize("name", ["sum", "prod", "amax", "amin", "any", "all"])
def test_reductions_of_integers(F, name, dtype):
    torch = pytest.importorskip("torch")
    x = rng.integers(0, 3, (2, 3, 4)).astype(dtype)
    for dims, keepdim in itertools.product(subsets(3), (False, True)):
        expected = torch_reduce(torch, name, torch.from_numpy(x), dims, keepdim)
        if name in ("any", "all"):
            expected = expected.bool()  # PyTorch keeps uint8
        check(getattr(F, name)(x, dims, keepdim), expected)


@device
def test_var(F):
    torch = pytest.importorskip("torch")
    for shape in [(3, 4), (2, 3, 4), (1, 5)]:
        x = rng.standard_normal(shape).astype("f4") + 100
        for dims, correction in itertools.product(subsets(len(shape)), (0, 1)):
            sizes = np.prod([shape[dim] for dim in (range(len(shape)) if dims is None else dims)])
            if sizes > correction:
                expected = torch.from_numpy(x).double().var(dims, correction=correction, keepdim=True).float()
                check(F.var(x, dims, correction, True), expected, 1e-5)
    assert np.isnan(F.var(np.ones(1, "f4"), None, 1, False))


@device
def test_empty_reductions(F):
    x = np.zeros((0, 3), "f4")
    np.testing.assert_array_equal(F.sum(x, (0,), False), [0, 0, 0])
    np.testing.assert_array_equal(F.mean(x, (0,), True), [[np.nan] * 3])
    np.testing.assert_array_equal(F.logsumexp(x, (0,), False), [-np.inf] * 3)
    assert F.sum(x, None, False) == 0 and np.isnan(F.mean(x, None, False)) and F.prod(x, None, False) == 1
    assert F.sum(x, (1,), False).shape == (0,) and F.amax(x, (1,), False).shape == (0,)
    for name in ("amax", "amin"):
        with pytest.raises(IndexError, match=f"{name}: reduction dim 0 .* non-zero size"):
            getattr(F, name)(x, (0,), False)
        with pytest.raises(RuntimeError, match=name):
            getattr(F, name)(x, None, False)
    for name in ("argmax", "max_with_indices"):
        with pytest.raises(IndexError, match="argmax: reduction dim 0"):
            getattr(F, name)(x, 0, False)
    with pytest.raises(IndexError, match="argmax"):
        F.argmax(x, None, False)


@device
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_extremes_with_indices(F, dtype):
    torch = pytest.importorskip("torch")
    for shape in [(), (5,), (3, 4), (2, 3, 4)]:
        x = rng.integers(0, 3, shape).astype(dtype)
        if dtype == "f4" and x.size > 4:
            x.flat[3] = np.nan
        t = torch.from_numpy(x)
        for dim, keepdim in itertools.product(range(max(len(shape), 1)), (False, True)):
            for ours, theirs in ((F.max_with_indices, torch.max), (F.min_with_indices, torch.min)):
                for result, expected in zip(ours(x, dim, keepdim), theirs(t, dim, keepdim), strict=True):
                    check(result, expected)
            check(F.argmax(x, dim, keepdim), t.argmax(dim, keepdim))
            check(F.argmin(x, dim, keepdim), t.argmin(dim, keepdim))
        check(F.argmax(x, None, False), t.argmax())
        check(F.argmin(x, None, True), t.argmin(keepdim=True))


@device
@pytest.mark.parametrize("dtype", ["f4", "i4", "?"])
def test_cumulative_and_sort(F, dtype):
    torch = pytest.importorskip("torch")
    for shape in [(), (6,), (3, 4), (2, 3, 4), (0, 3)]:
        x = rng.integers(0, 4, shape).astype(dtype)
        if dtype == "f4" and x.size:
            x.flat[0] = np.nan
        t = torch.from_numpy(x)
        for dim in range(max(len(shape), 1)):
            check(F.cumsum(x, dim), t.cumsum(dim), 1e-6)
            check(F.cumprod(x, dim), t.cumprod(dim), 1e-6)
            for descending in (False, True):
                expected = torch.sort(t, stable=True, dim=dim, descending=descending)
                for ours, theirs in zip(F.sort(x, dim, descending), expected, strict=True):
                    check(ours, theirs)


@device
@pytest.mark.parametrize("shape", [(4,), (3, 1), (1, 1), (), (3, 4), (2, 3, 4), (2, 1, 1), (1, 3, 4), (1,)])
def test_sum_to(F, shape):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 3, 4)).astype("f4")
    result = F.sum_to(x, shape)
    check(result, torch.from_numpy(x).sum_to_size(shape), 1e-5, 1e-6)
    assert not np.shares_memory(result, x)
    check(F.sum_to(x.astype("i4"), shape), torch.from_numpy(x.astype("i4")).sum_to_size(shape).long())


@device
def test_float32_sums_keep_their_digits(F):
    """A million numbers around 1000: adding one after the other in float32 would lose three digits."""
    x = (1000 + rng.random((1000, 1000))).astype("f4")
    exact = x.astype("f8")
    for dims in subsets(2):
        np.testing.assert_allclose(F.sum(x, dims, False), exact.sum(dims), rtol=2e-7)
        np.testing.assert_allclose(F.mean(x, dims, False), exact.mean(dims), rtol=2e-7)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sums_on_several_threads(count):
    F, before = CPU(), threads.get_num_threads()
    x = rng.standard_normal((17, 5, 41, 43)).astype("f4")
    wide = rng.standard_normal((31, 4099)).astype("f4")
    try:
        threads.set_num_threads(count)
        for array in (x, wide):
            for dims in subsets(array.ndim):
                first, again = F.sum(array, dims, False), F.sum(array, dims, False)
                np.testing.assert_array_equal(first, again)
                np.testing.assert_allclose(first, array.astype("f8").sum(dims), rtol=1e-4, atol=1e-4)
    finally:
        threads.set_num_threads(before)
