"""How tensors share memory with NumPy and PyTorch."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from dtypes import DTYPES

import minidl


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_numpy_and_numpy_share_memory(dtype):
    array = np.zeros((2, 3), dtype)
    t = minidl.from_numpy(array)
    t[0, 1] = 1
    array[1, 2] = 1
    assert t.sum().item() == 2 and array.sum() == 2
    assert (
        np.shares_memory(t.numpy(), array)
        and np.shares_memory(np.asarray(t), array)
        and t.data_ptr() == array.ctypes.data
    )
    assert (
        minidl.tensor(array).data_ptr() != array.ctypes.data and minidl.as_tensor(array).data_ptr() == array.ctypes.data
    )


def test_numpy_arrays_of_every_layout():
    base = np.arange(24.0).reshape(2, 3, 4)
    for array in (
        base.T,
        base[:, ::2],
        base[1],
        base[..., 1],
        base.swapaxes(0, 1),
        np.broadcast_to(base[0], (2, 3, 4)),
    ):
        t = minidl.from_numpy(array)
        assert t.tolist() == array.tolist() and (t * 2).tolist() == (array * 2).tolist()
    with pytest.raises(ValueError, match="negative"):
        minidl.from_numpy(base[::-1])
    with pytest.raises(TypeError):
        minidl.from_numpy(np.array(["a"]))
    with pytest.raises(TypeError, match=r"expected np\.ndarray"):
        minidl.from_numpy([1, 2])


def parts(array):
    return {"whole": array, "slice": array[3:], "rows": array.reshape(4, 3)[1:, ::2], "transposed":
            array.reshape(3, 4)[1:].T, "one": array[5:6].reshape(()), "empty": array[4:4]}


@pytest.mark.parametrize("name", parts(np.zeros(12)))
def test_an_array_that_is_part_of_another_starts_at_offset_0(name):
    array = parts(np.arange(12.0))[name]
    x = minidl.from_numpy(array)
    assert x.storage_offset() == 0
    assert x.data_ptr() == array.ctypes.data or not array.size
    assert x.tolist() == array.tolist()
    assert x.stride() == tuple(s // array.itemsize for s in array.strides)


def test_offsets_in_a_part_of_an_array_count_from_its_start():
    x = minidl.from_numpy(np.arange(12.0)[3:])
    assert (x[2:].storage_offset(), x[2:][1:].detach().storage_offset()) == (2, 3)
    assert minidl.from_numpy(x[2:].numpy()).storage_offset() == 0


def test_read_only_arrays_cannot_be_written_through():
    array = np.ones(3)
    array.flags.writeable = False
    t = minidl.from_numpy(array)
    assert (t + 1).tolist() == [2.0] * 3
    for change in (
        lambda: t.add_(1),
        lambda: t.__setitem__(0, 5.0),
        lambda: t.view(3, 1).zero_(),
        lambda: t.copy_(t + 1),
    ):
        with pytest.raises(RuntimeError, match="read-only"):
            change()
    assert array.tolist() == [1.0] * 3


def test_memory_lives_as_long_as_anyone_looks_at_it():
    array = np.arange(100_000.0)
    kept = minidl.from_numpy(array)[10:20]
    freed = weakref.ref(array)
    del array
    gc.collect()
    assert freed() is not None and kept.tolist() == list(range(10, 20))
    del kept
    gc.collect()
    assert freed() is None
    view = (minidl.arange(50_000.0) * 2.0).numpy()[5:8]
    other = [minidl.zeros(50_000) for _ in range(3)]
    assert view.tolist() == [10.0, 12.0, 14.0] and len(other) == 3


def test_numpy_of_a_tensor_on_the_tape_says_detach():
    x = minidl.ones(2, requires_grad=True)
    for call in (x.numpy, lambda: np.asarray(x), lambda: (x * 2).numpy(), lambda: np.from_dlpack(x)):
        with pytest.raises(RuntimeError, match=r"detach\(\)"):
            call()
    assert x.detach().numpy().tolist() == [1.0, 1.0] == x.numpy(force=True).tolist()


def test_array_protocol():
    x = minidl.tensor([1.5, 2.5])
    assert np.array(x).tolist() == [1.5, 2.5] and not np.shares_memory(np.array(x), x.numpy())
    assert np.asarray(x, dtype=np.float64).dtype == np.float64 and np.add(np.asarray(x), 1).sum() == 6.0
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(x, dtype=np.int64, copy=False)


def test_dlpack_with_numpy():
    x = minidl.arange(6.0).view(2, 3)
    array = np.from_dlpack(x.t())
    assert array.tolist() == x.t().tolist() and np.shares_memory(array, x.numpy())
    source = np.arange(4)
    back = minidl.from_dlpack(source)
    assert back.data_ptr() == source.ctypes.data and back.dtype == minidl.int64
    del source
    gc.collect()
    assert back.tolist() == [0, 1, 2, 3]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_pytorch(dtype, torch):
    theirs = torch.tensor([[1, 0, 1], [0, 1, 1]], dtype=getattr(torch, dtype))
    ours = minidl.from_dlpack(theirs)
    assert str(ours.dtype) == f"minidl.{dtype}" and ours.data_ptr() == theirs.data_ptr()
    ours[0, 1] = 1
    assert theirs[0, 1] == 1
    del theirs
    gc.collect()
    assert ours.tolist() == [[1, 1, 1], [0, 1, 1]]
    again = torch.from_dlpack(ours.t())
    assert again.tolist() == ours.t().tolist() and again.data_ptr() == ours.data_ptr()
    del ours
    gc.collect()
    assert again.sum().item() == 5
