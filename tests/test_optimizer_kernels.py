"""Optimizer steps on raw arrays: torch.optim, the reference and the compiled steps against each other."""

import inspect
import itertools

import numpy as np
import pytest

from minidl._devices.cpu.optimizer import OptimizerCPU
from minidl._devices.reference.optimizer import OptimizerReference

DEVICES = [OptimizerReference(), OptimizerCPU()]
SHAPES = [(3, 4), (17,), (), (0,), (2, 3, 5, 5), (1,)]
STEPS = 20
# A float32 step may round where PyTorch's fused multiply-add does not; after 20 steps that is some units of the
# largest number seen.  In float64 the same, to the 1e-15 or so of each step.
TOLERANCE = {np.float32: {"rtol": 1e-5, "atol": 1e-6}, np.float64: {"rtol": 2e-14, "atol": 2e-15}}

each_device = pytest.mark.parametrize("device", DEVICES, ids=["reference", "cpu"])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def make_arrays(dtype, shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    parameters = [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]
    grads = [[np.asarray(rng.normal(size=shape), dtype) for shape in shapes] for _ in range(STEPS)]
    return parameters, grads


def run_sgd(device, parameters, grads, lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
            maximize=False):
    # A buffer that is not to be read before it is written holds NaN here.
    buffers = [np.full_like(each, np.nan) if momentum else None for each in parameters]
    for step, now in enumerate(grads):
        device.sgd_step(parameters, now, buffers, [step == 0] * len(parameters), lr, momentum, dampening, weight_decay,
                        nesterov, maximize)
    return buffers


def run_adam(device, parameters, grads, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False,
             maximize=False, decoupled=False):
    exp_avgs, exp_avg_sqs, largest = ([np.zeros_like(each) for each in parameters] for _ in range(3))
    for step, now in enumerate(grads):
        device.adam_step(parameters, now, exp_avgs, exp_avg_sqs, largest if amsgrad else None,
                         [step + 1] * len(parameters), lr, *betas, eps, weight_decay, amsgrad, maximize, decoupled)
    return exp_avgs, exp_avg_sqs, largest


def run_torch(torch, make, parameters, grads):
    tensors = [torch.tensor(each, requires_grad=True) for each in parameters]
    optimizer = make(tensors)
    for now in grads:
        for tensor, grad in zip(tensors, now, strict=True):
            tensor.grad = torch.tensor(grad)
        optimizer.step()
    return [each.detach().numpy() for each in tensors]


def check(ours, expected, dtype):
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, **TOLERANCE[dtype])


SGD_OPTIONS = [
    {"momentum": momentum, "dampening": dampening, "weight_decay": decay, "nesterov": nesterov, "maximize": maximize}
    for momentum, dampening, decay, nesterov, maximize in itertools.product(
        [0.0, 0.9], [0.0, 0.3], [0.0, 0.05], [False, True], [False, True])
    if not (nesterov and (momentum == 0 or dampening != 0))     # PyTorch refuses these
]
ADAM_OPTIONS = [
    {"betas": betas, "weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize}
    for betas, decay, amsgrad, maximize in itertools.product(
        [(0.9, 0.999), (0.4, 0.8), (0.0, 0.99)], [0.0, 0.05], [False, True], [False, True])
]


@each_device
@each_dtype
@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
def test_sgd_like_torch(torch, device, dtype, options):
    parameters, grads = make_arrays(dtype)
    expected = run_torch(torch, lambda tensors: torch.optim.SGD(tensors, lr=0.1, foreach=False, **options),
                         parameters, grads)
    run_sgd(device, parameters, grads, **options)
    check(parameters, expected, dtype)


@each_device
@each_dtype
@pytest.mark.parametrize("options", ADAM_OPTIONS, ids=str)
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_like_torch(torch, device, dtype, options, decoupled):
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    parameters, grads = make_arrays(dtype)
    expected = run_torch(torch, lambda tensors: kind(tensors, lr=0.01, foreach=False, **options), parameters, grads)
    run_adam(device, parameters, grads, decoupled=decoupled, **options)
    check(parameters, expected, dtype)


@each_dtype
@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
def test_sgd_like_reference(dtype, options):
    """Large enough for several threads, which cut through the parameters anywhere."""
    shapes = [(100_003,), (7,), (200, 301), (1,)]
    ours, grads = make_arrays(dtype, shapes)
    spec = [each.copy() for each in ours]
    buffers = run_sgd(OptimizerCPU(), ours, grads[:3], **options)
    expected = run_sgd(OptimizerReference(), spec, grads[:3], **options)
    resolution = 8 * np.finfo(dtype).eps
    for mine, theirs in zip(ours, spec, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=resolution, atol=resolution)
    if options["momentum"]:
        for mine, theirs in zip(buffers, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=resolution, atol=resolution)


@each_dtype
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_like_reference(dtype, amsgrad):
    shapes = [(50_001,), (7,), (100, 301), (1,)]
    ours, grads = make_arrays(dtype, shapes)
    spec = [each.copy() for each in ours]
    state = run_adam(OptimizerCPU(), ours, grads[:3], weight_decay=0.1, amsgrad=amsgrad)
    expected = run_adam(OptimizerReference(), spec, grads[:3], weight_decay=0.1, amsgrad=amsgrad)
    resolution = 16 * np.finfo(dtype).eps
    for mine, theirs in zip([ours, *state], [spec, *expected], strict=True):
        for each, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(each, other, rtol=resolution, atol=resolution)


@each_device
def test_steps_and_first_belong_to_each_parameter(torch, device):
    """A parameter that joins later has its own step count and its own first step."""
    parameters, grads = make_arrays(np.float64, [(4,), (5,)])
    tensors = [torch.tensor(each, requires_grad=True) for each in parameters]
    sgd, adam = torch.optim.SGD(tensors, 0.1, momentum=0.9), torch.optim.Adam(tensors, 0.01)
    buffers = [np.full_like(each, np.nan) for each in parameters]
    exp_avgs, exp_avg_sqs = ([np.zeros_like(each) for each in parameters] for _ in range(2))
    for step, (one, two) in enumerate(grads[:6]):
        joined = step >= 3
        tensors[0].grad, tensors[1].grad = torch.tensor(one), torch.tensor(two) if joined else None
        sgd.step()
        adam.step()
        n = 2 if joined else 1
        device.sgd_step(parameters[:n], [one, two][:n], buffers[:n], [step == 0, step == 3][:n], 0.1, 0.9, 0.0, 0.0,
                        False, False)
        device.adam_step(parameters[:n], [one, two][:n], exp_avgs[:n], exp_avg_sqs[:n], None, [step + 1, step - 2][:n],
                         0.01, 0.9, 0.999, 1e-8, 0.0, False, False, False)
    check(parameters, [each.detach().numpy() for each in tensors], np.float64)


@pytest.mark.parametrize("odd", ["parameter", "grad", "state", "dtype"])
def test_what_a_kernel_does_not_take(odd):
    """Strided arrays and other dtypes beside ordinary ones: each changed once, in place, as the reference does."""
    shapes = [(4, 6), (6, 4), (5,)]
    parameters, grads = make_arrays(np.float32, shapes)
    dense = [each.copy() for each in parameters]
    if odd == "parameter":
        parameters[1] = np.asfortranarray(parameters[1])
    grads = [list(now) for now in grads]
    if odd == "grad":
        for now in grads:
            now[1] = np.asfortranarray(now[1])
    if odd == "dtype":
        parameters[1], dense[1] = parameters[1].astype(np.longdouble), dense[1].astype(np.longdouble)
    kept = list(parameters)
    for device, arrays in ((OptimizerCPU(), parameters), (OptimizerReference(), dense)):
        state = [[np.zeros(each.shape, each.dtype, order="F" if odd == "state" else "C") for each in arrays]
                 for _ in range(3)]
        for step, now in enumerate(grads[:4]):
            device.sgd_step(arrays, now, state[0], [step == 0] * 3, 0.1, 0.9, 0.1, 0.01, False, False)
            device.adam_step(arrays, now, state[1], state[2], None, [step + 1] * 3, 0.01, 0.9, 0.999, 1e-8, 0.01,
                             False, False, False)
    assert all(a is b for a, b in zip(parameters, kept, strict=True))
    for mine, theirs in zip(parameters, dense, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@each_device
def test_lists_of_different_lengths(device):
    parameters, (grads, *_) = make_arrays(np.float32)
    message = "one entry per parameter|is shorter than argument"
    with pytest.raises(ValueError, match=message):
        device.sgd_step(parameters, grads[:-1], [None] * 6, [True] * 6, 0.1, 0.0, 0.0, 0.0, False, False)
    with pytest.raises(ValueError, match=message):
        device.adam_step(parameters, grads, grads, grads, None, [1], 0.1, 0.9, 0.99, 1e-8, 0.0, False, False, False)


def test_a_read_only_parameter_is_refused():
    parameters, (grads, *_) = make_arrays(np.float32)
    parameters[0].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        OptimizerCPU().sgd_step(parameters, grads, [None] * 6, [True] * 6, 0.1, 0.0, 0.0, 0.0, False, False)


@each_device
def test_no_parameters(device):
    """A step of nothing is made without an error, and leaves nothing in the lists that it fills for others."""
    buffers, averages, squares, steps = [], [], [], []
    device.sgd_step([], [], buffers, [], 0.1, 0.9, 0.0, 0.0, False, False)
    device.adam_step([], [], averages, squares, None, steps, 0.1, 0.9, 0.99, 1e-8, 0.0, False, False, False)
    assert buffers == averages == squares == steps == []


def test_same_signatures():
    for name, method in inspect.getmembers(OptimizerReference, inspect.isfunction):
        assert inspect.signature(method) == inspect.signature(getattr(OptimizerCPU, name)), name
        assert name in vars(OptimizerCPU), f"{name} has no compiled version"
