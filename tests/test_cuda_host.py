"""The host's side of a GPU: copies there and back, the tape across devices, streams, memory, sharing, errors."""

from __future__ import annotations

import gc
import threading

import cuda_device
import numpy as np
import pytest

import minidl
from minidl._ext.device_pool import DevicePool

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def _gpu(gpu):
    """Every test here needs one."""


@pytest.fixture
def pooled():
    """The pool as users have it, which keeps blocks."""
    runtime = cuda_device.backend().runtime
    before = runtime.pool
    runtime.pool = DevicePool(runtime._take)
    yield runtime.pool
    runtime.pool = before


def emulated():
    if cuda_device.REAL:
        pytest.skip("counts what the emulated GPU does")
    return cuda_device.emulation()


# ---- from one device to another --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_there_and_back(dtype):
    array = (np.arange(24).reshape(2, 3, 4) % 5).astype(dtype)
    x = minidl.from_numpy(array).cuda()
    assert x.device == minidl.device("cuda", 0) and x.is_cuda and x.shape == (2, 3, 4)
    np.testing.assert_array_equal(x.cpu().numpy(), array)
    np.testing.assert_array_equal(x.transpose(0, 2)[1:].cpu().numpy(), array.transpose(2, 1, 0)[1:])
    assert minidl.zeros(0, 3).cuda().cpu().shape == (0, 3)


def test_where_a_tensor_lies_already_it_stays():
    x = minidl.ones(3, device="cuda")
    assert x.to("cuda") is x and x.to("cuda:0") is x and x.cuda() is x and x.cuda(0) is x
    assert x.to("cuda", copy=True) is not x
    assert x.to("cpu", minidl.float64).dtype is minidl.float64


def test_gradients_go_back_to_where_the_numbers_came_from():
    x = minidl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x.cuda()
    assert y.grad_fn.name() == "ToCopyBackward0" and not y.is_leaf
    (y * y).sum().backward()
    assert x.grad.device.type == "cpu" and x.grad.tolist() == [2.0, 4.0, 6.0]
    (x.cuda().exp().cpu() * x).sum().backward()
    e = np.exp([1.0, 2.0, 3.0])
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy() + e + e * x.detach().numpy(), rtol=1e-6)


def test_second_derivatives_cross_devices_too():
    x = minidl.tensor([1.0, 2.0], dtype=minidl.float64, requires_grad=True)
    (first,) = minidl.autograd.grad((x.cuda() ** 3).cpu().sum(), x, create_graph=True)
    (second,) = minidl.autograd.grad(first.sum(), x)
    assert second.tolist() == [6.0, 12.0]


def test_a_leaf_used_on_both_devices_adds_up_at_home():
    x = minidl.tensor([2.0], requires_grad=True)
    y = minidl.tensor([5.0], device="cuda", requires_grad=True)
    (x * 3 + (x.cuda() * y).cpu()).sum().backward()
    assert x.grad.tolist() == [8.0] and y.grad.tolist() == [2.0] and y.grad.is_cuda


def test_modules_move_and_train():
    net = minidl.nn.Sequential(minidl.nn.Linear(3, 2), minidl.nn.BatchNorm1d(2)).to("cuda")
    assert all(each.is_cuda for each in (*net.parameters(), *net.buffers()))
    net(minidl.ones(4, 3, device="cuda")).sum().backward()
    assert all(each.grad is not None and each.grad.is_cuda for each in net.parameters())
    assert not any(each.is_cuda for each in net.cpu().parameters())


def test_mixed_devices_are_refused_by_name():
    with pytest.raises(RuntimeError, match=r"add: expected all tensors to be on the same device.*(cpu|cuda:0)"):
        minidl.ones(3) + minidl.ones(3, device="cuda")
    linear = minidl.nn.Linear(3, 2).cuda()
    with pytest.raises(RuntimeError, match="same device"):
        linear(minidl.ones(1, 3))


# ---- pinned memory ---------------------------------------------------------------------------------------------------


def test_pinned_memory():
    x = minidl.arange(6.0).reshape(2, 3)
    pinned = x.pin_memory()
    assert pinned.is_pinned() and not x.is_pinned() and pinned.pin_memory() is pinned
    assert pinned.tolist() == x.tolist() and not pinned.is_cuda
    assert pinned.to("cuda", non_blocking=True).cpu().tolist() == x.tolist()
    with pytest.raises(RuntimeError, match="cannot pin a tensor on cuda:0"):
        x.cuda().pin_memory()


def test_a_copy_from_pinned_memory_is_not_waited_for_and_keeps_its_source():
    gpu = emulated()
    with gpu.configured(lazy=1), minidl.cuda.stream(minidl.cuda.Stream()):  # the copy is done as late as it may be
        pinned = minidl.arange(1000.0).pin_memory()
        there = pinned.to("cuda", non_blocking=True)
        del pinned
        gc.collect()
        other = minidl.zeros(1000).pin_memory()
        assert there.cpu().tolist() == list(range(1000)) and other.sum().item() == 0


# ---- streams and events ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [0, 1, 2])
def test_streams_wait_for_each_other(lazy):
    side = minidl.cuda.Stream()
    assert minidl.cuda.current_stream() == minidl.cuda.default_stream() != side
    with cuda_device.lazy(lazy):
        x = minidl.full((100,), 2.0, device="cuda")
        side.wait_stream(minidl.cuda.current_stream())
        with minidl.cuda.stream(side):
            assert minidl.cuda.current_stream() == side
            y = x * 3.0
        minidl.cuda.current_stream().wait_stream(side)
        y.record_stream(minidl.cuda.current_stream())
        assert (y + x).tolist() == [8.0] * 100
    side.synchronize()
    assert side.query() and minidl.cuda.default_stream().query()
    assert minidl.cuda.current_stream() == minidl.cuda.default_stream()


def test_events_measure():
    start, end = minidl.cuda.Event(enable_timing=True), minidl.cuda.Event(enable_timing=True)
    with pytest.raises(ValueError, match="must be recorded"):
        start.elapsed_time(end)
    start.record()
    minidl.ones(10, device="cuda").exp()
    end.record()
    end.synchronize()
    assert end.query() and start.elapsed_time(end) >= 0
    with pytest.raises(ValueError, match="enable_timing"):
        minidl.cuda.Event().elapsed_time(end)


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_the_pool_gives_blocks_again(pooled):
    gpu = emulated()
    minidl.ones(1000, device="cuda")
    gpu.reset_counters()
    for _ in range(5):
        minidl.ones(1000, device="cuda")
    assert gpu.counters().allocations == 0


def test_garbage_is_collected_in_any_thread():
    in_use = []
    for number in range(3):
        gc.disable()
        x = minidl.ones(5, 7, device="cuda")
        cycle = [x, (x + number).sum()]
        cycle.append(cycle)
        del x, cycle
        other = threading.Thread(target=gc.collect)
        other.start()
        other.join()
        gc.enable()
        in_use.append(cuda_device.backend().runtime.pool.in_use)
    assert len(set(in_use)) == 1
    assert (minidl.ones(5, 7, device="cuda") * 2).sum().item() == 70


def test_memory_is_counted(pooled):
    minidl.cuda.reset_peak_memory_stats()
    x = minidl.zeros(1 << 18, device="cuda")
    assert minidl.cuda.memory_allocated() == 1 << 20
    assert minidl.cuda.max_memory_allocated() == minidl.cuda.memory_reserved() == 1 << 20
    del x
    assert (minidl.cuda.memory_allocated(), minidl.cuda.max_memory_allocated()) == (0, 1 << 20)
    minidl.cuda.empty_cache()
    assert minidl.cuda.memory_reserved() == 0


def test_out_of_memory_says_what_was_asked_and_held(pooled):
    emulated()
    kept = minidl.zeros(1 << 18, device="cuda")
    with pytest.raises(minidl.cuda.OutOfMemoryError, match=(
            r"Tried to allocate 65536\.00 MiB\. GPU 0 has a total capacity of .* tensors hold 1\.00 MiB")):
        minidl.empty(1 << 34, device="cuda")
    assert kept.sum().item() == 0


# ---- sharing with other libraries ------------------------------------------------------------------------------------


class Offering:
    """Another library's array over the memory of a tensor."""

    def __init__(self, interface):
        self.__cuda_array_interface__ = interface


def test_the_cuda_array_interface_shares_memory():
    x = minidl.arange(12.0, device="cuda").reshape(3, 4)
    offered = x[:, 1:3].__cuda_array_interface__
    assert offered["shape"] == (3, 2) and offered["strides"] == (16, 4) and offered["typestr"] == "<f4"
    assert offered["data"] == (x.data_ptr() + 4, False) and offered["version"] == 3
    y = minidl.as_tensor(Offering(offered))
    assert y.is_cuda and y.tolist() == [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]
    y.zero_()
    assert x[:, 1:3].sum().item() == 0 and x.sum().item() == 0 + 3 + 4 + 7 + 8 + 11
    assert not hasattr(minidl.ones(1), "__cuda_array_interface__")
    with pytest.raises(RuntimeError, match="requires grad"):
        _ = x.clone().requires_grad_().__cuda_array_interface__


def test_dlpack_shares_memory_and_lets_go():
    x = minidl.arange(6, device="cuda").reshape(2, 3)
    assert x.__dlpack_device__() == (2, 0)
    y = minidl.from_dlpack(x.t())
    assert y.is_cuda and y.dtype is minidl.int64 and y.tolist() == [[0, 3], [1, 4], [2, 5]]
    y.add_(10)
    assert x.tolist() == [[10, 11, 12], [13, 14, 15]]
    del x
    gc.collect()
    assert y.tolist() == [[10, 13], [11, 14], [12, 15]]
    capsule = y.__dlpack__()
    minidl._ext.dlpack.from_capsule(capsule)
    with pytest.raises(RuntimeError, match="taken already"):
        minidl._ext.dlpack.from_capsule(capsule)
    with pytest.raises(BufferError, match="require gradient"):
        minidl.ones(2, device="cuda", requires_grad=True).__dlpack__()


# ---- devices and errors ----------------------------------------------------------------------------------------------


def test_devices_have_names_and_numbers():
    assert minidl.cuda.is_available() and minidl.cuda.device_count() >= 1 and minidl.cuda.current_device() == 0
    assert minidl.cuda.get_device_name() and minidl.cuda.get_device_capability("cuda:0")[0] >= 7
    with pytest.raises(RuntimeError, match=r"invalid device ordinal: cuda:99 was asked for"):
        minidl.zeros(1, device="cuda:99")
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
        minidl.cuda.synchronize("cpu")
    with minidl.cuda.device(0):
        assert minidl.ones(1, device="cuda").device.index == 0


def test_a_failing_launch_names_the_kernel_and_its_arrays():
    gpu = emulated()
    x = minidl.ones(4, 5, device="cuda")
    with gpu.configured(fail_launch=0), pytest.raises(RuntimeError, match=r"error in the kernel .*float32\[4, 5\]"):
        x.exp()
    gpu.clear_error()
    assert x.exp().shape == (4, 5)


def test_random_numbers_are_those_of_the_seed():
    minidl.manual_seed(3)
    a = minidl.rand(10, device="cuda").tolist()
    minidl.cuda.manual_seed(3)
    state = minidl.cuda.get_rng_state()
    assert minidl.rand(10, device="cuda").tolist() == a and minidl.cuda.initial_seed() == 3
    minidl.cuda.set_rng_state(state)
    assert minidl.rand(10, device="cuda").tolist() == a
