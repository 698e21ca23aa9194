"""The caching allocator of CPU memory: alignment, reuse, figures, limits, and no block given out twice."""

from __future__ import annotations

import gc
import itertools
import random
import sys
import threading

import numpy as np
import pytest

import minidl
from minidl._ext import storage


def stats():
    return minidl.memory_stats()


@pytest.mark.parametrize("size", [1, 3, 16, 17, 1000, 65_537, 1 << 20])
def test_memory_is_aligned(size):
    for x in (minidl.zeros(size), minidl.ones(size) * 2.0, minidl.rand(size)):
        assert x.data_ptr() % 64 == 0
    assert minidl.zeros((2 << 20) // 4).data_ptr() % (2 << 20) == 0


def test_freed_memory_is_used_again():
    x = minidl.zeros(12_345)
    address, held = x.data_ptr(), stats()["held"]
    del x
    assert minidl.empty(12_345).data_ptr() == address
    assert minidl.empty(12_300).data_ptr() == address, "a block serves all sizes of its bin"
    assert stats()["held"] == held


def test_figures():
    minidl.empty_cache()
    before = stats()
    x = minidl.empty(100_000)
    during = stats()
    assert 400_000 <= during["in_use"] - before["in_use"] <= 400_000 * 1.25
    assert during["peak"] >= during["in_use"] and during["held"] >= during["in_use"]
    y = x[10:].view(-1)
    del x
    assert stats()["in_use"] == during["in_use"], "a view keeps its memory"
    del y
    assert stats()["in_use"] == before["in_use"] and stats()["held"] == during["held"]
    minidl.empty_cache()
    assert stats()["held"] < during["held"]


@pytest.mark.parametrize("nbytes", [
    0, 1, 63, 64, 65, 80, 81, 96, 97, 112, 113, 128, 129, 1 << 12, (1 << 12) + 1, 5 << 20,
])
def test_a_block_holds_what_was_asked_for_and_wastes_at_most_a_quarter(nbytes):
    minidl.empty_cache()
    before = stats()["in_use"]
    x = storage.empty((nbytes,), np.dtype(np.uint8))
    taken = stats()["in_use"] - before
    assert taken >= nbytes and taken <= max(64, nbytes * 1.25)
    x[:] = 255
    assert x.nbytes == nbytes


@pytest.mark.parametrize("shape", [(1 << 50,), (1 << 62, 4), (1 << 40, 1 << 40), (1 << 63 - 1,), (3, 1 << 60, 7)])
def test_more_than_there_is_says_so(shape):
    before = stats()
    with pytest.raises((MemoryError, RuntimeError), match=r"CPU allocator: .*bytes"):
        minidl.empty(shape)
    with pytest.raises((MemoryError, RuntimeError), match=r"CPU allocator: .*bytes"):
        storage.empty(shape, np.dtype(np.float64))
    assert stats()["in_use"] == before["in_use"]
    assert minidl.ones(3).tolist() == [1.0] * 3


def test_sizes_that_make_no_sense():
    for wrong in ((-1,), (2, -3)):
        with pytest.raises((RuntimeError, ValueError)):
            storage.empty(wrong, np.dtype(np.float32))
    with pytest.raises((ValueError, RuntimeError)):
        storage.empty((1,) * 65, np.dtype(np.float32))
    with pytest.raises(TypeError):
        storage.empty((1,), None)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        storage.empty(("a",), np.dtype(np.float32))
    with pytest.raises((TypeError, ValueError)):
        storage.empty((2,), np.dtype(object))


def test_tensors_of_no_numbers():
    for shape in ((0,), (3, 0), (0, 1 << 40), (2, 0, 5)):
        x = minidl.zeros(shape, requires_grad=True)
        y = (x * 2.0 + 1.0).exp()
        y.sum().backward()
        assert tuple(y.shape) == shape == tuple(x.grad.shape) and y.sum().item() == 0.0
        assert minidl.cat([x, x]).shape[0] == 2 * shape[0] and x.clone().numel() == 0


def test_no_block_is_given_out_twice():
    """Tensors of many sizes, kept and dropped at random by several threads, each with a number of its own inside."""
    wrong = []

    def work(seed):
        rng = random.Random(seed)
        kept = []
        for i in range(4000):
            value = float(seed * 10_000 + i)
            kept.append((minidl.full((rng.choice((1, 7, 16, 100, 1000, 5000)),), value), value))
            if len(kept) > 30:
                tensor, expected = kept.pop(rng.randrange(len(kept)))
                array = tensor.numpy()
                if array.min() != expected or array.max() != expected:
                    wrong.append((seed, i))
            if i % 1000 == 0:
                minidl.empty_cache()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    before = stats()["in_use"]
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    del threads
    gc.collect()
    assert wrong == [] and stats()["in_use"] <= before


def test_live_tensors_do_not_overlap():
    tensors = [minidl.empty(n) for n in (1, 5, 16, 17, 33, 1000) for _ in range(20)]
    places = sorted((t.data_ptr(), t.data_ptr() + t.nbytes) for t in tensors)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
