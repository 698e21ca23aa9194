"""What a Tensor says of itself, is turned into and is asked with behaves on the GPU as on the CPU, or as in PyTorch."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minidl
from minidl import nn

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def _gpu(gpu):
    return gpu


def cuda(*values, **options):
    return minidl.tensor(list(values), device="cuda", **options)


def test_what_it_says_of_itself():
    x = cuda(1.0, 2.5, -3.0)
    assert repr(x) == "tensor([ 1.0000,  2.5000, -3.0000], device='cuda:0')"
    assert repr(x.requires_grad_() * 2) == (
        "tensor([ 2.,  5., -6.], device='cuda:0', grad_fn=<MulBackward0>)")
    assert repr(nn.Parameter(cuda(1.0))) == (
        "Parameter containing:\ntensor([1.], device='cuda:0', requires_grad=True)")
    assert f"{cuda(2.5)[0]:.2f}" == "2.50"
    assert x.is_cuda and x.device == minidl.device("cuda", 0) and x.type() == "minidl.cuda.FloatTensor"
    assert x[1:].storage_offset() == 1 and x[1:].data_ptr() == x.data_ptr() + 4
    assert x.stride() == (1,) and x.element_size() == 4 and x.nbytes == 12 and x.dtype == minidl.float32


def test_numbers_come_back():
    x = cuda(1, 2, 3)
    assert x.tolist() == [1, 2, 3] and x[1].item() == 2 and int(x[2]) == 3 and float(x[0]) == 1.0
    assert [10, 20, 30, 40][x[2]] == 40 and bool(x[0]) and len(x) == 3 and [int(each) for each in x] == [1, 2, 3]
    assert 2 in x and 7 not in x and x[0] in x
    assert minidl.equal(x, x.clone()) and minidl.allclose(x.float(), x.float() + 1e-9)
    with pytest.raises(RuntimeError, match="a Tensor with 3 elements cannot be converted to Scalar"):
        x.item()
    with pytest.raises(TypeError, match=r"can't convert cuda:0 device type tensor to numpy\. Use Tensor\.cpu\(\) to "
                                        r"copy the tensor to host memory first\."):
        x.numpy()
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        np.asarray(x)
    np.testing.assert_array_equal(x.numpy(force=True), [1, 2, 3])


def test_copies_of_objects():
    x = cuda(1.0, 2.0).requires_grad_()
    (x * x).sum().backward()
    for made in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert made.device == x.device and made.requires_grad and made.is_leaf and made.tolist() == [1.0, 2.0]
        assert made.data_ptr() != x.data_ptr()
    assert copy.deepcopy(x).grad.tolist() == [2.0, 4.0]
    layer = nn.Linear(2, 3).to("cuda")
    twin = copy.deepcopy(layer)
    assert twin.weight.is_cuda and isinstance(twin.weight, nn.Parameter) and minidl.equal(twin.weight, layer.weight)
    assert isinstance(pickle.loads(pickle.dumps(layer.weight)), nn.Parameter)


def test_saved_and_loaded(tmp_path):
    x = cuda(1.0, 2.0, 3.0, 4.0).view(2, 2)
    minidl.save({"x": x, "column": x[:, 1]}, tmp_path / "x")
    loaded = minidl.load(tmp_path / "x")
    assert loaded["x"].device.type == "cpu" and loaded["column"].tolist() == [2.0, 4.0]
    there = minidl.load(tmp_path / "x", map_location="cuda")
    assert there["x"].is_cuda and there["x"].tolist() == x.tolist()


def test_a_state_dict_goes_between_devices():
    on_cpu, on_gpu = nn.Linear(2, 3), nn.Linear(2, 3).to("cuda")
    on_gpu.load_state_dict(on_cpu.state_dict())
    assert on_gpu.weight.is_cuda and on_gpu.weight.tolist() == on_cpu.weight.tolist()
    with minidl.no_grad():
        on_gpu.weight.mul_(2.0)
    on_cpu.load_state_dict(on_gpu.state_dict())
    assert not on_cpu.weight.is_cuda and on_gpu.weight.tolist() == on_cpu.weight.tolist()


def test_new_tensors_are_where_the_old_one_is():
    x = cuda(1.0, 2.0)
    made = [x.new_zeros(2), x.new_tensor([3]), x.new_full((2,), 1), minidl.zeros_like(x), minidl.ones_like(x),
            minidl.full_like(x, 2.0), minidl.empty_like(x), minidl.as_tensor(x), minidl.tensor(x), x.double(), x[None],
            minidl.stack([x, x]), minidl.cat([x, x]), minidl.where(x > 1, x, 0.0), x.clone(), minidl.meshgrid(x, x)[1],
            minidl.diag(x), x.to(minidl.int64), minidl.zeros(3, device="cuda"), minidl.arange(3, device="cuda:0")]
    assert all(each.device == x.device for each in made)


KEYS = {
    "int": 1, "slice": slice(1, None), "list": [2, 0], "list of lists": ([0, 1], [1, 2]), "none": None,
    "bools": [True, False, True], "numpy": np.array([2, 2, 0]), "ints": (1, 2), "ellipsis": (..., 0),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys(name):
    x, key = minidl.arange(12.0).view(3, 4), KEYS[name]
    y = x.cuda()
    assert y[key].is_cuda and y[key].tolist() == x[key].tolist()
    x[key], y[key] = 7.0, 7.0
    assert y.tolist() == x.tolist()
    x[key], y[key] = x[key] * 2, y[key] * 2
    assert y.tolist() == x.tolist()


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_tensors_as_keys(where):
    x = minidl.arange(12.0).view(3, 4)
    for key in (minidl.tensor([2, 0]), minidl.tensor(1), minidl.tensor([True, False, True]), x > 5,
                minidl.tensor([[0], [2]])):
        y, at = x.cuda(), key.to(where)
        assert y[at].is_cuda and y[at].tolist() == x[key].tolist()
        z = x.clone()
        z[key], y[at] = -1.0, -1.0
        assert y.tolist() == z.tolist()
        z[key], y[at] = z[key] + 1, y[at] + 1
        assert y.tolist() == z.tolist()
        w = x.cuda().requires_grad_()
        (w[at] * 2).sum().backward()
        v = x.clone().requires_grad_()
        (v[key] * 2).sum().backward()
        assert w.grad.tolist() == v.grad.tolist()


def test_a_key_on_the_gpu_does_not_fit_a_tensor_on_the_cpu():
    with pytest.raises(RuntimeError, match=r"indices should be either on cpu or on the same device as the indexed "
                                           r"tensor \(cpu\)"):
        minidl.arange(3)[cuda(1)]


def test_a_cpu_tensor_of_no_dimensions_is_a_number():
    x, number = cuda(1.0, 2.0), minidl.tensor(3.0)
    assert (x * number).tolist() == (number * x).tolist() == [3.0, 6.0] and (number * x).is_cuda
    assert (x < number).tolist() == [True, True] and (x ** minidl.tensor(2)).tolist() == [1.0, 4.0]
    assert (cuda(1, 2) + minidl.tensor(0.5)).tolist() == [1.5, 2.5]
    assert (x + minidl.tensor(1, dtype=minidl.float64)).dtype == minidl.float32
    assert minidl.where(x > 1, x, minidl.tensor(0.0)).tolist() == [0.0, 2.0]
    x += number
    assert x.tolist() == [4.0, 5.0]
    x[minidl.tensor([0])] = number
    assert x.tolist() == [3.0, 5.0]
    for call in (lambda: number.add_(x), lambda: minidl.tensor([1.0]) + x, lambda: x * minidl.ones(2),
                 lambda: minidl.cat([x, minidl.ones(2)]), lambda: x.add_(minidl.ones(2)),
                 lambda: nn.functional.mse_loss(x, minidl.ones(2)), lambda: minidl.where(minidl.ones(2) > 0, x, x)):
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device, but found at least two "
                                               r"devices, (cuda:0 and cpu|cpu and cuda:0)"):
            call()


def test_gradients_of_mixed_tensors():
    x = cuda(1.0, 2.0).requires_grad_()
    (x * minidl.tensor(3.0)).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0] and x.grad.is_cuda
    with pytest.raises(RuntimeError, match="assigned grad has data located on a different device"):
        x.grad = minidl.ones(2)
    with pytest.raises(RuntimeError):
        (x * 2).backward(minidl.ones(2))


def test_gradients_are_added_up_in_place_and_taken_over():
    x = cuda(1.0, 2.0).requires_grad_()
    (x * 2.0).sum().backward()
    first = x.grad
    (x * 3.0).sum().backward()
    assert x.grad is first and first.tolist() == [5.0, 5.0]


def test_comparisons_and_operators_with_numpy():
    x = cuda(1.0, 2.0)
    assert (x + np.array([1.0, 2.0], np.float32)).tolist() == [2.0, 4.0]
    assert (x * np.float32(2)).tolist() == [2.0, 4.0] and (2 - x).tolist() == [1.0, 0.0]
    assert (x == cuda(1.0, 3.0)).tolist() == [True, False] and (1 / x).tolist() == [1.0, 0.5]


def test_values_of_lists_and_arrays_are_assigned():
    x = minidl.zeros(2, 2, device="cuda")
    x[0] = [1.0, 2.0]
    x[1] = np.array([3.0, 4.0])
    x[0, 0] = minidl.tensor(9.0)
    x[1] = minidl.tensor([5.0, 6.0])
    assert x.tolist() == [[9.0, 2.0], [5.0, 6.0]]


def test_tensors_of_many_numbers_are_printed_in_part():
    assert repr(minidl.zeros(10000, device="cuda")) == "tensor([0., 0., 0.,  ..., 0., 0., 0.], device='cuda:0')"


