"""Indexing, gather and scatter on the GPU are the reference's, with arrays of the GPU and of the host as indices.

Reading and writing is exact.  Sums over equal indices may be made in another order: within 1e-5 (float32) and 1e-12.
"""

from __future__ import annotations

import itertools

import cuda_device
import numpy as np
import pytest
from dtypes import DTYPES
from test_cuda_pointwise import REFERENCE, numbers, outcome, same, tolerance

from minidl._devices.cuda import indexing

pytestmark = pytest.mark.cuda

ALL = slice(None)
ROWS = np.array([2, 0, -1, 2])
COLUMNS = np.array([[1], [3], [1], [0]])
MASK = np.array([[True, False, True, True, False], [False] * 5, [True] * 5, [False, True, False, False, True]])
KEYS = {
    "rows": (ROWS,),
    "rows in two dimensions": (ROWS.reshape(2, 2),),
    "int32 rows": (ROWS.astype(np.int32),),
    "columns": (ALL, ROWS),
    "last": (Ellipsis, ROWS),
    "rows and columns": (ROWS, ROWS),
    "rows and columns apart": (ROWS, ALL, ROWS),
    "broadcast": (ROWS, COLUMNS),
    "behind an int": (1, ALL, ROWS),
    "int between": (ROWS, 1, ROWS),
    "slice": (slice(1, None, 2), ROWS[[0, 1, 1]] % 2),
    "new dimension": (None, ROWS, None),
    "mask": (MASK,),
    "mask of rows": (MASK[:, 0],),
    "mask of columns": (ALL, MASK[0]),
    "mask and rows": (MASK[0, :4], ROWS[:3]),
    "mask of everything": (np.arange(120).reshape(4, 5, 6) % 7 == 0,),
    "nothing true": (np.zeros((4, 5), bool),),
    "true": (True,),
    "false": (False, ROWS),
    "no rows": (ROWS[:0],),
    "0-d": (np.array(2), ROWS),
    "list": ([0, 2, 2],),
    "only basic": (1, slice(2)),
    "wrong mask": (MASK[:, :3],),
    "too many": (ROWS, ROWS, ROWS, ROWS),
    "floats": (ROWS.astype(np.float32),),
    "do not broadcast": (ROWS, ROWS[:3]),
}


def key_of(F, key, where):
    """A key with its arrays on the device, or with those of the host as they are."""
    on_device = where == "device" and F.device.type == "cuda"
    return tuple(F.from_host(part) if on_device and isinstance(part, np.ndarray) else part for part in key)


@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize("name", KEYS)
def test_keys(gpu, name, where):
    key = KEYS[name]
    for dtype in ("float32", "int64", "uint8", "bool", "int16"):
        x = numbers((4, 5, 6), dtype)
        same(gpu, lambda F, x: F.index(x, key_of(F, key, where)), x)
        same(gpu, lambda F, x: F.index(F.permute(x, (2, 1, 0)), key_of(F, key, where)), numbers((6, 5, 4), dtype))
    expected = outcome(lambda: numbers((4, 5, 6), "float64")[key])
    if isinstance(expected, Exception):
        return

    def put(F, x, accumulate, *values):
        F.index_put_(x, key_of(F, key, where), values[0] if values else 7, accumulate)
        return x

    for dtype, accumulate in itertools.product(("float32", "int64", "bool"), (False, True)):
        x, near = numbers((4, 5, 6), dtype), tolerance("float32")
        shape = REFERENCE.index(numbers((4, 5, 6), dtype), key).shape
        same(gpu, lambda F, x: put(F, x, accumulate), x, tolerance=near)  # noqa: B023
        same(gpu, lambda F, x, v: put(F, x, accumulate, v), x, numbers(shape, dtype, 1), tolerance=near)  # noqa: B023
        same(gpu, lambda F, x, v: put(F, x, accumulate, v), x, numbers(shape[-1:], dtype, 1), tolerance=near)  # noqa: B023
        same(gpu, lambda F, x, v: put(F, x, accumulate, v), x, numbers((), dtype, 1), tolerance=near)  # noqa: B023
        same(gpu, lambda F, x, v: put(F, x, accumulate, v), x, numbers((9, 7, 5, 3), dtype, 1))  # noqa: B023
        same(gpu, lambda F, x, v: F.index_put(F.slice(x, (ALL, ALL, slice(None, None, 2))),
                                              key_of(F, key, where), v, accumulate),  # noqa: B023
             numbers((4, 5, 12), dtype), numbers(shape, dtype, 1), tolerance=near)
        same(gpu, lambda F, g: F.index_backward(g, (4, 5, 6), key_of(F, key, where)), numbers(shape, "float64"),
             tolerance=1e-12)


@pytest.mark.parametrize("positions", [3, indexing._SCANNED_POSITIONS, indexing._SCANNED_POSITIONS + 1, 5000])
@pytest.mark.parametrize("places", [1, 7, 1000])
def test_many_equal_indices(gpu, positions, places):
    """More positions than threads look through one by one; several passes of the sort; long and short runs."""
    rng = np.random.default_rng(positions)
    index = rng.integers(-places, places, positions)
    for dtype, rest in (("float32", ()), ("float64", (3,)), ("int64", (40,)), ("bool", ())):
        if positions * max(rest, default=1) > 50000:
            continue
        x, values = numbers((places, *rest), dtype), numbers((positions, *rest), dtype, 1)

        def put(F, x, values, index, accumulate):
            F.index_put_(x, (index,), values, accumulate)
            return x

        for accumulate in (False, True):
            same(gpu, lambda F, *a: put(F, *a, accumulate), x, values, index,  # noqa: B023
                 tolerance=1e-5 * np.sqrt(positions) if dtype == "float32" else 1e-11)


def test_equal_indices_give_the_same_bits_in_any_order_of_threads(gpu):
    rng = np.random.default_rng(0)
    x, index = gpu.from_host(numbers((50, 3), "float32")), gpu.from_host(rng.integers(0, 50, 700))
    values = gpu.from_host(numbers((700, 3), "float32", 1))
    flat = gpu.from_host(rng.integers(0, 50, (700, 3)))

    def all_of_them():
        results = [gpu.index_put(x, (index,), values, accumulate) for accumulate in (False, True)]
        results += [gpu.scatter(x, 0, flat, values), gpu.scatter_add(x, 0, flat, values)]
        results += [gpu.scatter(x, 0, gpu.slice(flat, (slice(20),)), values)]
        return [gpu.to_host(each) for each in (*results, gpu.nonzero(gpu.gt(values, 0.0)))]

    first = all_of_them()
    for number in (1, 2):
        with cuda_device.order(number):
            for one, two in zip(first, all_of_them(), strict=True):
                np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_and_scatter(gpu, dtype):
    rng = np.random.default_rng(1)
    for shape, dim, index_shape in (((4, 5), 0, (3, 5)), ((4, 5), 1, (4, 7)), ((4, 5), 1, (2, 2)), ((6,), 0, (40,)),
                                    ((3, 4, 5), 1, (3, 2, 5)), ((3, 4, 5), 2, (2, 4, 50)), ((), 0, ()),
                                    ((4, 5), 0, (0, 5)), ((4, 5), 0, (3, 6)), ((4, 5), 0, (3,))):
        x, source = numbers(shape, dtype), numbers(index_shape, dtype, 1)
        index = np.asarray(rng.integers(0, shape[dim] if shape else 1, index_shape))
        same(gpu, lambda F, x, i: F.gather(x, dim, i), x, index)  # noqa: B023
        same(gpu, lambda F, x, i, s: F.scatter(x, dim, i, s), x, index, source)  # noqa: B023
        same(gpu, lambda F, x, i: F.scatter(x, dim, i, 3), x, index)  # noqa: B023
        same(gpu, lambda F, x, i, s: F.scatter_add(x, dim, i, s), x, index, source, tolerance=1e-5)  # noqa: B023
        same(gpu, lambda F, x, i: F.scatter_add(x, dim, i, 2), x, index, tolerance=1e-5)  # noqa: B023
    same(gpu, lambda F, x, i: F.gather(F.permute(x, (1, 0)), 0, F.permute(i, (1, 0))), numbers((5, 4), dtype),
         rng.integers(0, 4, (3, 4)))
    same(gpu, lambda F, x, i, s: F.scatter(F.permute(x, (1, 0)), 0, i, F.permute(s, (1, 0))), numbers((5, 4), dtype),
         rng.integers(0, 4, (3, 5)), numbers((6, 4), dtype))
    same(gpu, lambda F, x, i, s: F.scatter(x, 0, i, s), numbers((4, 5), dtype), np.zeros((3, 5), np.int64),
         numbers((2, 5), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nonzero_masked_select_and_index_select(gpu, dtype):
    rng = np.random.default_rng(2)
    for shape in ((), (7,), (4, 5), (0, 3), (3, 2, 2), (5000,), (71, 83)):
        x = np.asarray(numbers(shape, dtype) * rng.integers(0, 2, shape)).astype(dtype)
        same(gpu, lambda F, x: F.nonzero(x), x)
        same(gpu, lambda F, x, m: F.masked_select(x, m), numbers(shape, dtype), np.asarray(x != 0))
    x = numbers((4, 5), dtype)
    same(gpu, lambda F, x: F.nonzero(F.permute(x, (1, 0))), x)
    same(gpu, lambda F, x, m: F.masked_select(x, m), x, MASK[0])
    same(gpu, lambda F, x, m: F.masked_select(F.permute(x, (1, 0)), m), x, MASK[:, :1] | MASK[:, 1:2].T[:, :4])
    same(gpu, lambda F, x, m: F.masked_select(x, m), x, MASK[0, :4])
    for index in (np.array([3, 0, 3]), np.array([1], np.int32), np.array(2), np.array([], np.int64),
                  np.zeros((2, 2), np.int64)):
        same(gpu, lambda F, x, i: F.index_select(x, 0, i), x, index)
        same(gpu, lambda F, x, i: F.index_select(x, 1, i), x, index)
        same(gpu, lambda F, x, i: F.index_select(F.permute(x, (1, 0)), 1, i), x, index)
    same(gpu, lambda F, x, i: F.index_select(x, 0, i), numbers((), dtype), np.array([0]))


def test_indices_outside_touch_no_memory(gpu):
    """The CPU raises; here it would need a look at them: they read NaN and write nothing."""
    x, index = numbers((4, 3), "float32"), gpu.from_host(np.array([1, 4, -5, 2**40, -1]))
    raw = gpu.from_host(x)
    got = gpu.to_host(gpu.index(raw, (index,)))
    np.testing.assert_array_equal(got, np.stack([x[1], *[np.full(3, np.nan, np.float32)] * 3, x[-1]]))
    np.testing.assert_array_equal(gpu.to_host(gpu.index(gpu.ne(raw, 0.0), (index,)))[1], False)
    expected = x.copy()
    expected[[1, -1]] = 2
    gpu.index_put_(raw, (index,), 2.0, False)
    np.testing.assert_array_equal(gpu.to_host(raw), expected)
    expected[[1, -1]] += 1
    gpu.index_put_(raw, (index,), 1.0, True)
    np.testing.assert_array_equal(gpu.to_host(raw), expected)
    column = gpu.reshape(index, (5, 1))
    assert np.isnan(gpu.to_host(gpu.gather(raw, 0, column))[1:4]).all()
    many = gpu.from_host(np.where(np.arange(1000) % 2, 9, 0))
    wide = gpu.from_host(np.zeros((1, 4), np.float32))
    gpu.index_put_(wide, (gpu.zeros((1000,), np.dtype(np.int64)), many), 1.0, True)
    np.testing.assert_array_equal(gpu.to_host(wide), [[500, 0, 0, 0]])
    assert gpu.to_host(gpu.scatter_add(wide, 1, gpu.reshape(many, (1, 1000)), 1.0))[0, 0] == 1000
    assert gpu.to_host(gpu.scatter(wide, 1, gpu.reshape(many, (1, 1000)), 1.0)).tolist() == [[1, 0, 0, 0]]
    with pytest.raises(IndexError, match="index 4 is out of bounds for dimension 0 with size 4"):
        gpu.index(raw, ([0, 4],))


def test_a_mask_with_a_number_is_written_without_a_look_at_it(gpu):
    if cuda_device.REAL:
        pytest.skip("a real GPU does not count")
    x, mask = gpu.from_host(numbers((4, 5), "float32")), gpu.from_host(MASK[:, 0])
    emulation = cuda_device.emulation()
    emulation.reset_counters()
    gpu.index_put_(x, (mask,), 1.5, False)
    gpu.index_put_(x, (gpu.from_host(ROWS),), 1.5, True)
    assert emulation.counters().copies_to_host == 0
