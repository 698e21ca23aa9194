"""``DataLoader(pin_memory=True)``: batches in memory that a GPU reads by itself, whatever they are made of."""

from __future__ import annotations

import contextlib
import gc
from collections import OrderedDict, namedtuple

import cuda_device
import numpy as np
import pytest

import minidl
from minidl._devices.cuda import process
from minidl.utils.data import DataLoader, TensorDataset
from minidl.utils.data.pinning import pin

pytestmark = pytest.mark.cuda
Point = namedtuple("Point", "x y")


@contextlib.contextmanager
def later():
    """Work goes to a stream of its own, in which the emulated GPU does it as late as it may."""
    with cuda_device.lazy(1), minidl.cuda.stream(minidl.cuda.Stream()):
        yield


def numbers(count=12):
    return TensorDataset(minidl.arange(count).float(), minidl.arange(count))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_pinned(gpu, workers):
    plain = list(DataLoader(numbers(), 5, num_workers=workers))
    pinned = list(DataLoader(numbers(), 5, num_workers=workers, pin_memory=True))
    assert len(plain) == len(pinned) == 3
    for before, after in zip(plain, pinned, strict=True):
        assert type(after) is list and not any(each.is_pinned() for each in before)
        for one, two in zip(before, after, strict=True):
            assert two.is_pinned() and not two.is_cuda and two.dtype is one.dtype and two.tolist() == one.tolist()


def test_every_container_is_looked_into_and_keeps_its_kind(gpu):
    x, y = minidl.ones(2, 3), minidl.arange(4)

    class Own:
        def pin_memory(self):
            return "pinned by itself"

    found = pin({"a": [x, (y, "text", 3)], "b": Point(x.t(), None), "c": OrderedDict(d=b"bytes", e=np.ones(2)),
                 "f": Own()})
    assert list(found) == ["a", "b", "c", "f"] and type(found["a"][1]) is tuple and type(found["b"]) is Point
    assert type(found["c"]) is OrderedDict and found["c"]["d"] == b"bytes" and type(found["c"]["e"]) is np.ndarray
    assert found["a"][1][1:] == ("text", 3) and found["b"].y is None and found["f"] == "pinned by itself"
    for pinned, tensor in ((found["a"][0], x), (found["a"][1][0], y), (found["b"].x, x.t())):
        assert pinned.is_pinned() and pinned.tolist() == tensor.tolist()
    assert pin(found["a"][0]) is found["a"][0]
    assert pin(minidl.zeros(0, 3)).shape == (0, 3)
    with pytest.raises(RuntimeError, match="cannot pin a tensor on cuda:0"):
        pin([x.cuda()])


def test_own_batches_and_streams(gpu):
    loader = DataLoader(numbers(4), None, collate_fn=lambda sample: {"x": sample[0]}, pin_memory=True)
    assert [batch["x"].item() for batch in loader if batch["x"].is_pinned()] == [0.0, 1.0, 2.0, 3.0]


def test_copies_of_batches_are_not_waited_for(gpu):
    """The device does the copies as late as it may; every batch arrives as it was although its memory is used again."""
    with later():
        there = [(x.to("cuda", non_blocking=True), y.cuda(non_blocking=True))
                 for x, y in DataLoader(numbers(64), 4, pin_memory=True)]
        gc.collect()
        assert [value for x, _ in there for value in x.tolist()] == list(range(64))
        assert [value for _, y in there for value in y.tolist()] == list(range(64))


def test_a_copy_from_pinned_memory_comes_later_and_one_from_other_memory_at_once(gpu):
    if cuda_device.REAL:
        pytest.skip("looks at when the emulated GPU copies")
    source = minidl.ones(1000)
    pinned = source.pin_memory()
    with later():
        there, beside = pinned.to("cuda", non_blocking=True), source.to("cuda", non_blocking=True)
        pinned.fill_(2)     # what nobody should do
        again = pinned.to("cuda")
        pinned.fill_(3)
        source.fill_(4)
        assert again.sum().item() == 2000 and beside.sum().item() == 1000, "these were waited for"
        late = pinned.to("cuda", non_blocking=True)
        pinned.fill_(5)
        assert late.sum().item() == 5000, "this one was only asked for"
    minidl.cuda.synchronize()
    assert there.shape == late.shape


def test_memory_is_pinned_once(gpu, monkeypatch):
    """Pinning takes longer than many a copy, so blocks are used again."""
    taken = []
    pool = gpu.runtime._pinned
    counting = type(pool)(lambda nbytes: taken.append(nbytes) or gpu.runtime._pin(nbytes))
    monkeypatch.setattr(gpu.runtime, "_pinned", counting)
    for _ in range(3):
        for x, y in DataLoader(numbers(40), 4, pin_memory=True):
            x.to("cuda", non_blocking=True)
            y.to("cuda", non_blocking=True)
        minidl.cuda.synchronize()
    assert len(taken) <= 6, "those of a batch, of the one before, and what a copy still reads"


def test_views_of_pinned_memory_are_pinned(gpu):
    pinned = minidl.arange(12.0).reshape(3, 4).pin_memory()
    assert pinned[1].is_pinned() and pinned.t().is_pinned() and pinned.reshape(-1)[2:5].is_pinned()
    assert not pinned.clone().is_pinned() and not (pinned + 1).is_pinned()
    pinned.mul_(2)
    assert pinned[1:, ::2].to("cuda", non_blocking=True).tolist() == [[8.0, 12.0], [16.0, 20.0]]


def test_without_a_gpu_a_warning_says_so(monkeypatch, torch):
    monkeypatch.setattr(process, "device_count", lambda: 0)
    loader = DataLoader(numbers(), 4, pin_memory=True)
    with pytest.warns(UserWarning, match="'pin_memory' argument is set as true but no accelerator") as ours:
        batches = list(loader)
    assert [batch[0].shape[0] for batch in batches] == [4, 4, 4]
    assert len(ours) == 1 and ours[0].filename == __file__
    if not torch.cuda.is_available():
        with pytest.warns(UserWarning, match="pin_memory") as theirs:
            list(torch.utils.data.DataLoader([1, 2], pin_memory=True))
        assert str(theirs[0].message) == str(ours[0].message)
