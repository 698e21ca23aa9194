"""What a compiled step fuses on a GPU: the end of a classifier, and the way back of a pooled convolution.

Fused sums are taken in another order: float32 within 1e-5 of the largest number, a few hundred roundings of 6e-8,
float64 within 1e-12.
"""

from __future__ import annotations

import itertools

import cuda_device
import numpy as np
import pytest
from test_cuda_lenet import Training

import minidl
from minidl import nn
from minidl._devices.cuda import perceptron
from minidl._devices.cuda.conv_table import BACKWARD_WEIGHT
from minidl._devices.cuda.conv_table import use as use_conv_kernel
from minidl._devices.reference import Reference
from minidl.geometry import conv2d_geometry

pytestmark = pytest.mark.cuda

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


# ---- the kernels by themselves --------------------------------------------------------------------------------------


def perceptron_of_reference(input, weights, biases, target, ignore_index, reduction):
    """The same results by the reference's single calls."""
    F, inputs, x = Reference(), [], input
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if number:
            x = F.relu(x)
        inputs.append(x)
        x = F.linear(x, weight, bias)
    loss, log_probs, total = F.cross_entropy(x, target, None, ignore_index, reduction, 0.0)
    grad = F.cross_entropy_backward(np.ones((), input.dtype), log_probs, total, target, None, ignore_index, reduction,
                                    0.0)
    results = []
    for number in reversed(range(len(weights))):
        bias = None if biases[number] is None else F.linear_backward_bias(grad)
        results = [F.linear_backward_weight(grad, inputs[number]), bias, *results]
        grad = F.linear_backward_input(grad, weights[number])
        if number:
            grad = F.relu_backward(grad, inputs[number])
    return loss, grad, *results


def perceptron_case(rows, widths, dtype=np.float32, biased=True, classes=np.int64, seed=0):
    generator = np.random.default_rng(seed)
    normal = lambda *shape: (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)  # noqa: E731
    weights = tuple(normal(out, width) for width, out in itertools.pairwise(widths))
    biases = tuple(normal(out) if biased else None for out in widths[1:])
    return normal(rows, widths[0]), weights, biases, generator.integers(0, widths[-1], rows).astype(classes)


def on_gpu(values):
    return tuple(None if each is None else cuda_device.raw(each) for each in values)


def run_perceptron(gpu, input, weights, biases, target, ignore_index=-100, reduction="mean"):
    results = gpu.perceptron(cuda_device.raw(input), on_gpu(weights), on_gpu(biases), cuda_device.raw(target),
                             ignore_index, reduction, True)
    return [None if each is None else gpu.to_host(each) for each in results]


def assert_close(got, wanted, tolerance):
    assert len(got) == len(wanted)
    for one, two in zip(got, wanted, strict=True):
        assert (one is None) == (two is None)
        if two is not None:
            assert (one.shape, one.dtype) == (two.shape, two.dtype)
            np.testing.assert_allclose(one, two, rtol=0, atol=tolerance * max(1.0, np.abs(two).max(initial=0)))


@pytest.mark.parametrize("rows, widths", [
    (8, [400, 120, 84, 10]), (1, [3, 2]), (5, [7, 33, 2]), (70, [20, 17, 16, 15, 33, 4, 3]), (3, [1, 1, 1]),
    (9, [64, 600]),
])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_end_of_a_classifier_agrees_with_its_single_calls(gpu, rows, widths, dtype):
    case = perceptron_case(rows, widths, dtype)
    assert_close(run_perceptron(gpu, *case), perceptron_of_reference(*case, -100, "mean"), TOLERANCE[dtype])


@pytest.mark.parametrize("traffic, each", [(64 << 20, 1), (25_000, 4), (12_000, 8)])
def test_a_block_may_take_several_rows(gpu, traffic, each, monkeypatch):
    """To the same bits, as the sums of a row are the same."""
    case = perceptron_case(13, [30, 20, 6], seed=1)
    expected = run_perceptron(gpu, *case)
    monkeypatch.setattr(perceptron, "_MOST_TRAFFIC", traffic)
    assert perceptron._rows_of_a_block(13, [30, 20, 6], np.dtype(np.float32)) == each
    for one, two in zip(run_perceptron(gpu, *case), expected, strict=True):
        np.testing.assert_array_equal(one, two)
    monkeypatch.setattr(perceptron, "_MOST_TRAFFIC", 11_000)
    assert not gpu.can_fuse_perceptron(13, [30, 20, 6], np.dtype(np.float32))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("classes", [np.int64, np.uint8])
def test_ignored_targets_narrow_targets_and_layers_without_bias(gpu, reduction, classes):
    case = perceptron_case(11, [9, 8, 5], biased=False, classes=classes)
    assert_close(run_perceptron(gpu, *case, 2, reduction), perceptron_of_reference(*case, 2, reduction), 1e-5)


def test_a_target_that_is_no_class_makes_the_loss_nan_and_reads_nothing_out_of_bounds(gpu):
    input, weights, biases, target = perceptron_case(4, [6, 5, 3])
    target[1] = 77
    loss, grad_input, *_ = run_perceptron(gpu, input, weights, biases, target, reduction="sum")
    assert np.isnan(loss) and np.isnan(grad_input[1]).all() and np.isfinite(grad_input[[0, 2, 3]]).all()


def test_nan_and_infinity_pass_as_in_the_single_calls(gpu):
    input, weights, biases, target = perceptron_case(4, [6, 5, 3])
    input[2, 3] = np.nan
    got, wanted = run_perceptron(gpu, input, weights, biases, target), perceptron_of_reference(
        input, weights, biases, target, -100, "mean")
    assert np.isnan(got[0]) and np.isnan(wanted[0])
    np.testing.assert_array_equal(np.isnan(got[1]), np.isnan(wanted[1]))


def test_what_the_kernels_do_not_take_is_refused(gpu):
    float32 = np.dtype(np.float32)
    assert not gpu.can_fuse_perceptron(8, [11000, 10], float32)
    assert not gpu.can_fuse_perceptron(100_000, [400, 120, 84, 10], float32)
    assert not gpu.can_fuse_perceptron(8, [4] * 8, float32)
    assert not gpu.can_fuse_perceptron(0, [4, 4], float32)
    assert not gpu.can_fuse_perceptron(8, [4, 4], np.dtype(np.int64))
    assert all(gpu.can_fuse_perceptron(rows, [400, 120, 84, 10], float32) for rows in (1, 8, 64, 1024))
    with pytest.raises(ValueError, match="ask can_fuse_perceptron first"):
        run_perceptron(gpu, *perceptron_case(2, [11000, 2]))


@pytest.mark.parametrize("case", [
    # N, C, H, W, OC, kernel, stride, padding, dilation
    (2, 1, 12, 12, 6, (5, 5), 1, 2, 1), (3, 6, 14, 14, 16, (5, 5), 1, 0, 1), (1, 3, 9, 11, 5, (3, 8), 1, 3, 1),
    (2, 2, 13, 9, 4, (2, 3), 1, 1, 2), (5, 2, 16, 16, 3, (3, 3), (2, 3), 1, 1),
])
@pytest.mark.parametrize("needs_input", [True, False])
def test_the_way_back_of_a_pooled_convolution_agrees_with_its_single_calls(gpu, case, needs_input):
    N, C, H, W, OC, (KH, KW), stride, padding, dilation = case
    pair = lambda value: value if isinstance(value, tuple) else (value, value)  # noqa: E731
    g = conv2d_geometry((N, C, H, W), (OC, C, KH, KW), pair(stride), pair(padding), pair(dilation), 1)
    generator = np.random.default_rng(0)
    input, weight = (generator.standard_normal(each).astype(np.float32) for each in (g.input_shape, g.weight_shape))
    shape = (N, OC, g.OH // 2, g.OW // 2)
    grad, codes = generator.standard_normal(shape).astype(np.float32), generator.integers(0, 5, shape).astype(np.uint8)
    F = Reference()
    dense = np.zeros(g.output_shape, np.float32)
    for code in range(4):
        rows, columns = slice(code // 2, shape[2] * 2, 2), slice(code % 2, shape[3] * 2, 2)
        dense[:, :, rows, columns] = np.where(codes == code, grad, 0)
    wanted = [F.conv2d_backward_input(dense, weight, g) if needs_input else None,
              F.conv2d_backward_weight(dense, input, g), F.conv2d_backward_bias(dense)]
    raws = [cuda_device.raw(each) for each in (grad, codes, input, weight)]
    for order in (0, 1, 2):
        with cuda_device.order(order):
            got = gpu.conv2d_relu_max_pool2d_backward(*raws, g, needs_input)
        assert_close([None if each is None else gpu.to_host(each) for each in got], wanted, 1e-5)


# ---- what the compiler makes of a step ------------------------------------------------------------------------------


class Step:
    """LeNet's training step, on arguments."""

    def __init__(self, dtype=minidl.float32):
        self.training = Training("cuda", dtype)

    def __call__(self, images, labels):
        self.training.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.training.net(images), labels)
        loss.backward()
        self.training.optimizer.step()
        return loss

    def losses(self, run, steps):
        results = []
        for number in range(steps):
            part = slice(number % 30 * 8, (number % 30 + 1) * 8)
            results.append(run(self.training.images[part], self.training.labels[part]).item())
        return results

    def state(self):
        net = self.training.net
        return [cuda_device.numbers(each) for p in net.parameters() for each in (p, p.grad)]


def test_a_compiled_lenet_has_the_losses_of_the_step_as_written(gpu, strict):
    """Twelve steps, and the weights and gradients behind them: to 1e-5 in float32, 1e-12 in float64, as one kernel."""
    for dtype, tolerance in ((minidl.float32, 1e-5), (minidl.float64, 1e-12)):
        written, compiled = Step(dtype), Step(dtype)
        run = minidl.compile(compiled)
        expected, got = written.losses(written, 12), compiled.losses(run, 12)
        assert run.fallback_reason is None and "perceptron" in run.device_calls
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
        assert_close(compiled.state(), written.state(), tolerance)


@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_threads_does_not_matter(gpu, strict, order):
    results = []
    for number in (0, order):
        with cuda_device.order(number):
            step = Step()
            results.append([np.array(step.losses(minidl.compile(step), 5)), *step.state()])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.skipif(cuda_device.REAL, reason="counts what the emulated GPU does")
def test_a_compiled_lenet_step_is_at_most_8_launches_without_allocations_or_copies(pooled, strict):
    """But for the copies of two arguments and of the loss."""
    step = Step()
    run = minidl.compile(step)
    step.losses(run, 5)
    images, labels = step.training.images[:8], step.training.labels[:8]
    gpu = cuda_device.emulation()
    gpu.reset_counters()
    loss = run(images, labels)
    counted = gpu.counters()
    assert run.fallback_reason is None and np.isfinite(loss.item())
    assert counted.graph_launches == 1 and counted.launches == counted.graph_nodes == 7, counted.kernels
    assert (counted.copies_to_device, counted.copies_to_host, counted.copies_on_device) == (0, 0, 3)
    assert counted.allocations == 0


class Classifier(nn.Module):
    """Three layers with something between."""

    def __init__(self, bias=True):
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(6, 12, bias=bias), nn.Linear(12, 12, bias=bias),
                                          nn.Linear(12, 4, bias=bias))

    def forward(self, x, body):
        return body(self, x)


def plain(net, x):
    return net.three(net.two(net.one(x).relu()).relu())


def with_tanh(net, x):
    return net.three(net.two(net.one(x).tanh()).relu())


def used_twice(net, x):
    x = net.two(net.one(x).relu()).relu()
    return net.three(x) + x[:, :4] * 0.1


def hidden_used_twice(net, x):
    x = net.one(x).relu()
    return net.three(net.two(x).relu() + x)


def shared_layer(net, x):
    return net.three(net.two(net.two(net.one(x).relu()).relu()).relu())


def frozen(net, x):
    net.two.weight.requires_grad_(False)
    return plain(net, x)


def scaled(net, x):
    return plain(net, x) * 2


# body -> the calls of linear that are left
BODIES = {plain: 0, with_tanh: 1, used_twice: 3, hidden_used_twice: 2, shared_layer: 0, frozen: 2, scaled: 3}


def trained(body, compiled, loss_of, steps=8, bias=True):
    minidl.manual_seed(0)
    net = Classifier(bias).to("cuda")
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    generator = np.random.default_rng(0)

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(net(x, body), y)
        loss.backward()
        optimizer.step()
        return loss

    run = minidl.compile(step) if compiled else step
    results = []
    for _ in range(steps):
        x = cuda_device.tensor(generator.random((5, 6), np.float32))
        y = cuda_device.tensor(generator.integers(0, 4, 5))
        results.append(cuda_device.numbers(run(x, y)))
    results += [cuda_device.numbers(p) for p in net.parameters()]
    assert not compiled or run.fallback_reason is None
    return results, run.device_calls if compiled else []


@pytest.mark.parametrize("body", BODIES)
def test_only_what_nobody_else_reads_is_fused(gpu, strict, body):
    expected, _ = trained(body, False, nn.functional.cross_entropy)
    got, calls = trained(body, True, nn.functional.cross_entropy)
    assert_close(got, expected, 1e-5)
    assert calls.count("linear") == BODIES[body]


LOSSES = {
    "sum": (lambda x, y: nn.functional.cross_entropy(x, y, reduction="sum"), True),
    "ignored": (lambda x, y: nn.functional.cross_entropy(x, y, ignore_index=1), True),
    "smoothed": (lambda x, y: nn.functional.cross_entropy(x, y, label_smoothing=0.1), False),
    "scaled": (lambda x, y: nn.functional.cross_entropy(x, y) * 0.5, False),
    "none": (lambda x, y: nn.functional.cross_entropy(x, y, reduction="none").sum(), False),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_whose_gradient_is_not_one_stay_single_calls(gpu, strict, name):
    loss, fused = LOSSES[name]
    expected, _ = trained(plain, False, loss)
    got, calls = trained(plain, True, loss)
    assert_close(got, expected, 1e-5)
    assert ("perceptron" in calls) == fused


def test_layers_without_bias_are_fused_too(gpu, strict):
    expected, _ = trained(plain, False, nn.functional.cross_entropy, bias=False)
    got, calls = trained(plain, True, nn.functional.cross_entropy, bias=False)
    assert_close(got, expected, 1e-5)
    assert "perceptron" in calls


def test_a_kernel_that_is_asked_for_is_not_replaced_by_the_fused_one(gpu):
    g = conv2d_geometry((2, 2, 8, 8), (4, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    assert gpu._fuses_backward(g, True) or gpu._conv2d_choice(g, BACKWARD_WEIGHT, np.dtype(np.float32)).splits == 1
    with use_conv_kernel({BACKWARD_WEIGHT: "medium"}):
        assert not gpu._fuses_backward(g, True)
