"""Softmax and log-softmax on raw arrays: PyTorch, the reference and the compiled kernels against each other."""

import inspect

import numpy as np
import pytest

from minidl._devices.cpu.softmax import SoftmaxCPU
from minidl._devices.reference.softmax import SoftmaxReference
from minidl._ext import threads

DEVICES = [SoftmaxReference(), SoftmaxCPU()]
# Shapes with the dimension of the classes: rows shorter and longer than a vector register, tiles that end early.
CASES = [((1, 10), 1), ((64, 10), 1), ((3, 1), 1), ((7, 33), 1), ((5, 1000), 1), ((5, 7), 0), ((2, 5, 3, 4), 1),
         ((2, 21, 9, 15), 1), ((3, 4, 130), 0), ((2, 3, 4), 2), ((13,), 0), ((), 0), ((0, 4), 1), ((4, 0), 1),
         ((2, 0, 3), 1), ((1000, 400), 1), ((4, 30, 50, 60), 1)]
# Rounding of a float32 sum of up to 1000 exponentials and of its logarithm, a few units in the last place.
TOLERANCE = {np.float32: {"rtol": 3e-6, "atol": 2e-6}, np.float64: {"rtol": 1e-13, "atol": 1e-14}}

each_device = pytest.mark.parametrize("device", DEVICES, ids=["reference", "cpu"])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def check_result(array, shape, dtype):
    assert type(array) is np.ndarray and array.shape == shape and array.dtype == dtype
    assert array.flags.c_contiguous and array.flags.writeable


@each_device
@each_dtype
@pytest.mark.parametrize(("shape", "dim"), CASES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_forward_and_backward_like_torch(torch, device, dtype, shape, dim, name):
    rng = np.random.default_rng(0)
    input = np.asarray(rng.normal(size=shape) * 3, dtype)
    grad_output = np.asarray(rng.normal(size=shape), dtype)
    theirs = torch.tensor(input, requires_grad=True)
    expected = getattr(torch, name)(theirs, dim)
    expected.backward(torch.tensor(grad_output))

    output = getattr(device, name)(input, dim)
    grad_input = getattr(device, f"{name}_backward")(grad_output, output, dim)
    check_result(output, shape, dtype)
    check_result(grad_input, shape, dtype)
    np.testing.assert_allclose(output, expected.detach().numpy(), **TOLERANCE[dtype])
    # A gradient is a difference of numbers up to the sum of grad_output.
    scale = max(1.0, float(np.abs(grad_output.sum(axis=dim if shape else None)).max(initial=0)))
    np.testing.assert_allclose(grad_input, theirs.grad.numpy(), rtol=TOLERANCE[dtype]["rtol"],
                               atol=scale * TOLERANCE[dtype]["atol"])


@each_device
@each_dtype
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_any_memory_layout(device, dtype, name):
    rng = np.random.default_rng(1)
    input = rng.normal(size=(6, 8, 10)).astype(dtype)
    views = {"transposed": input.transpose(2, 0, 1), "stepped": input[::2, 1::3, ::-1],
             "broadcast": np.broadcast_to(input[:1, :1], (6, 8, 10)),
             "unaligned": np.frombuffer(b"x" + input.tobytes(), dtype=np.uint8)[1:].view(dtype).reshape(6, 8, 10)}
    for layout, view in views.items():
        output = getattr(device, name)(view, 1)
        check_result(output, view.shape, dtype)
        np.testing.assert_array_equal(output, getattr(device, name)(view.copy(order="C"), 1), err_msg=layout)
        backward = getattr(device, f"{name}_backward")
        np.testing.assert_array_equal(backward(view, output, 1), backward(view.copy(order="C"), output, 1), layout)


@each_device
@each_dtype
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("columns", [False, True])
def test_extreme_numbers_like_torch(torch, device, dtype, name, columns):
    inf, nan = np.inf, np.nan
    rows = np.array([[1e4, -1e4, 0], [1e4, 1e4, 1e4], [-inf, 0, 1], [-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1],
                     [-90, 0, -100], [-104, 0, -1e30], [3e38, -3e38, 0]], dtype)
    input = np.ascontiguousarray(rows.T) if columns else rows
    dim = 0 if columns else 1
    theirs = torch.tensor(input, requires_grad=True)
    expected = getattr(torch, name)(theirs, dim)
    expected.backward(torch.ones_like(expected) * torch.tensor([[0.5]], dtype=expected.dtype))
    output = getattr(device, name)(input, dim)
    grad_input = getattr(device, f"{name}_backward")(np.full_like(input, 0.5), output, dim)
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(grad_input, theirs.grad.numpy(), rtol=1e-5, atol=1e-6)


@each_dtype
def test_exponential_over_its_range(dtype):
    """softmax of (x, 0) is exp(x) / (1 + exp(x)): the compiled exponential against libm's, denormals included."""
    x = np.linspace(-104, 0, 20001, dtype=dtype)
    output = SoftmaxCPU().softmax(np.stack([x, np.zeros_like(x)], axis=1), 1)
    exp = np.exp(x.astype(np.float64))
    # 2.5 units in the last place: of exp, of the sum and of the product; 2 units of the smallest denormal below.
    resolution = np.finfo(dtype)
    np.testing.assert_allclose(output[:, 0], exp / (1 + exp), rtol=2.5 * resolution.eps,
                               atol=2 * float(resolution.smallest_subnormal))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("shape", "dim"), [((1000, 400), 1), ((4, 30, 50, 60), 1)])
def test_threads_do_not_change_the_bits(name, shape, dim):
    input = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    before = threads.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            output = getattr(SoftmaxCPU(), name)(input, dim)
            results.append((output, getattr(SoftmaxCPU(), f"{name}_backward")(input, output, dim)))
    finally:
        threads.set_num_threads(before)
    for output, grad_input in results[1:]:
        np.testing.assert_array_equal(output, results[0][0])
        np.testing.assert_array_equal(grad_input, results[0][1])


def test_other_dtypes_take_the_reference():
    input = np.random.default_rng(3).normal(size=(3, 4)).astype(np.longdouble)
    assert SoftmaxCPU().softmax(input, 1).dtype == np.longdouble


def test_same_signatures():
    for name, method in inspect.getmembers(SoftmaxReference, inspect.isfunction):
        assert inspect.signature(method) == inspect.signature(getattr(SoftmaxCPU, name)), name
        assert name in vars(SoftmaxCPU), f"{name} has no compiled version"
