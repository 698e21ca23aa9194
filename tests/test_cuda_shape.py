"""Views, rearrangements and new arrays on the GPU are the reference's: exactly, except for sums of gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from dtypes import DTYPES
from test_cuda_pointwise import MOVES, numbers, same

pytestmark = pytest.mark.cuda

DTYPE = "float32"


@pytest.mark.parametrize("how", MOVES)
def test_reshapes(gpu, how):
    """Where NumPy has a view there is one here: the memory is the same or not in both libraries."""
    shapes = [(4, 6), (24,), (2, 2, 6), (4, 1, 6), (1, 24, 1), (2, 12), (4, 3, 2), (3, 8), (72,), (3, 24), (3, 4, 6),
              (12, 6), (0,), (3, 0), (), (1, 1)]
    for start, wanted in itertools.product([(4, 6), (24,), (2, 3, 4), (0, 3), ()], shapes):
        same(gpu, lambda F, x: F.reshape(x, wanted), numbers(start, DTYPE), how=how)  # noqa: B023

        def shared(F, x):
            return np.array(F.same_memory(F.reshape(x, wanted), x))  # noqa: B023

        def told(F, x):
            return F.from_host(shared(F, x))

        same(gpu, told, numbers(start, DTYPE), how=how)


def test_views(gpu):
    x = numbers((4, 5, 6), DTYPE)
    for order in itertools.permutations(range(3)):
        same(gpu, lambda F, x: F.permute(x, order), x)  # noqa: B023
    same(gpu, lambda F, x: F.expand(x, (2, 4, 5, 6)), x)
    same(gpu, lambda F, x: F.expand(x, (3, 4)), numbers((1, 4), DTYPE))
    same(gpu, lambda F, x: F.expand(x, (4,)), x)
    same(gpu, lambda F, x: F.expand(x, (4, 5, 7)), x)
    same(gpu, lambda F, x: F.as_strided(x, (3, 2), (7, 2), 4), x)
    same(gpu, lambda F, x: F.reshape(x, (7, 3)), x)
    keys = [(), (1,), (-1,), (slice(None), 2), (slice(1, 3), None, slice(None, None, 2)), (Ellipsis, 3), (Ellipsis,),
            (None, Ellipsis, None), (0, 1, 2), (slice(3, 1),), (slice(-3, -1), slice(4, None, 3), -2),
            (0, Ellipsis, slice(9))]
    for key in keys:
        same(gpu, lambda F, x: F.slice(x, key), x)  # noqa: B023
        same(gpu, lambda F, x: F.slice_backward(F.slice(x, key), (4, 5, 6), key), x)  # noqa: B023
        same(gpu, lambda F, x: F.view_scatter(x, 2.5, (("permute", ((2, 0, 1),)), ("slice", (key,)))),  # noqa: B023
             numbers((5, 6, 4), DTYPE))
    same(gpu, lambda F, x: F.slice(x, (slice(None, None, -1),)), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_joined(gpu, dtype):
    a, b, c = numbers((2, 3, 4), dtype), numbers((2, 5, 4), dtype, 1), numbers((2, 1, 4), dtype, 2)
    same(gpu, lambda F, a, b, c: F.cat(1, a, b, c), a, b, c)
    same(gpu, lambda F, a, b, c: F.cat(1, a, F.slice(b, (slice(None), slice(1, 3))), c), a, b, c)
    same(gpu, lambda F, a: F.cat(0, a, a), a)
    same(gpu, lambda F, a: F.cat(2, a, F.zeros((0,), a.dtype), a), a)
    same(gpu, lambda F, a: F.cat(1, a, F.slice(a, (slice(None), slice(0, 0)))), a)
    same(gpu, lambda F, a: F.cat(0, *[F.slice(a, (slice(None, 1 + i % 2),)) for i in range(75)]), a)
    for dim in range(4):
        same(gpu, lambda F, a: F.stack(dim, a, F.mul(a, a), a), a)  # noqa: B023
    same(gpu, lambda F, a, b: F.cat(0, a, b), a, b)
    same(gpu, lambda F, a, b: F.stack(0, a, b), a, b)
    same(gpu, lambda F, a: F.cat(0, a), numbers((), dtype))


@pytest.mark.parametrize("how", MOVES)
def test_flips_rolls_and_repetitions(gpu, how):
    x = numbers((3, 4, 5), DTYPE)
    for dims in ((0,), (1, 2), (0, 1, 2), ()):
        same(gpu, lambda F, x: F.flip(x, dims), x, how=how)  # noqa: B023
    for shifts, dims in (((1,), (0,)), ((-7, 2), (1, 2)), ((3,), ()), ((1, 1), (0, 0)), ((-100,), ())):
        same(gpu, lambda F, x: F.roll(x, shifts, dims), x, how=how)  # noqa: B023
    if how != "repeated":
        for times in ((2, 1, 3), (2, 1, 1, 1), (1, 1, 1), (0, 1, 2), (2, 3)):
            same(gpu, lambda F, x: F.repeat(x, times), x, how=how)  # noqa: B023
    same(gpu, lambda F, x: F.roll(x, (1,), (0,)), numbers((0, 3), DTYPE))
    same(gpu, lambda F, x: F.flip(x, ()), numbers((), DTYPE))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular", "strange"])
def test_pads_and_their_gradients(gpu, mode):
    x = numbers((2, 4, 5), DTYPE)
    for pad in ((1, 2), (3, 0, 1, 3), (0, 0, 0, 0, 1, 0), (4, 4, 3, 3), (-1, 2), (-2, -2), (1,), (0, 0), (-9, 1),
                (5, 5)):
        same(gpu, lambda F, x: F.pad(x, pad, mode, 1.5), x)  # noqa: B023
        same(gpu, lambda F, x: F.pad_backward(F.pad(x, pad, mode, 1.5), (2, 4, 5), pad, mode), x,  # noqa: B023
             tolerance=1e-6)
    same(gpu, lambda F, x: F.pad(F.permute(x, (2, 0, 1)), (1, 1), mode, 0), x)
    same(gpu, lambda F, x: F.pad_backward(F.permute(x, (2, 0, 1)), (5, 2, 2), (1, 1), mode), x, tolerance=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_new_arrays(gpu, dtype):
    kind = np.dtype(dtype)
    for start, end, step in ((0, 10, 1), (5, -5, -3), (2, 2, 1), (0, 1, 2), (0, 3, 0), (1, 5, -1)):
        same(gpu, lambda F: F.arange(start, end, step, kind))  # noqa: B023
    for start, end, step in ((0.0, 1.0, 0.25), (1, 2.5, 0.5), (3.5, -1.0, -1.5)):
        same(gpu, lambda F: F.arange(start, end, step, kind), tolerance=1e-6)  # noqa: B023
    for start, end, steps in ((0.0, 1.0, 5), (-3, 8, 12), (1.5, 1.5, 3), (0, 1, 1), (0, 1, 0), (0, 1, -1),
                              (0.0, 9.0, 1000)):
        if dtype in ("float32", "float64") or steps < 100:
            same(gpu, lambda F: F.linspace(start, end, steps, kind), tolerance=1e-6)  # noqa: B023
    for n, m in ((3, 3), (2, 5), (5, 2), (0, 3), (-1, 2)):
        same(gpu, lambda F: F.eye(n, m, kind))  # noqa: B023
    for diagonal in (-2, 0, 1, 9):
        for how in MOVES:
            same(gpu, lambda F, x: F.tril(x, diagonal), numbers((2, 4, 5), dtype), how=how)  # noqa: B023
            same(gpu, lambda F, x: F.triu(x, diagonal), numbers((5, 3), dtype), how=how)  # noqa: B023
    same(gpu, lambda F, x: F.tril(x, 0), numbers((5,), dtype))
    if dtype in ("int64", "int32", "uint8"):
        classes = np.array([[0, 2], [1, 0], [2, 2]], dtype)
        for how in MOVES:
            same(gpu, lambda F, x: F.one_hot(x, 4), classes, how=how)
        same(gpu, lambda F, x: F.one_hot(x, -1), classes)
        same(gpu, lambda F, x: F.one_hot(x, -1), classes[:0])


def test_memory(gpu):
    x = numbers((3, 4), DTYPE)
    for how in MOVES:
        same(gpu, lambda F, x: F.zeros_like(x), x, how=how)
        same(gpu, lambda F, x: F.ones_like(x), x, how=how)
    same(gpu, lambda F, x: F.new_zeros(x, (2, 0, 3)), x)
    raw = gpu.from_host(x)
    assert gpu.same_memory(raw, gpu.slice(raw, (1,)))
    assert not gpu.same_memory(gpu.slice(raw, (0,)), gpu.slice(raw, (1,)))
    assert not gpu.same_memory(raw, gpu.copy(raw))
    assert not gpu.same_memory(raw, gpu.slice(raw, (slice(0, 0),)))
