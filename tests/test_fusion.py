"""A compiled step does convolution, ReLU and pooling in one pass where nobody can tell, to the same bits."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl._devices.cpu import CPU
from minidl._devices.reference import Reference
from minidl.backends.cpu import use_conv_kernel
from minidl.geometry import conv2d_geometry

FORWARD, BACKWARD = "conv2d_relu_max_pool2d", "conv2d_relu_max_pool2d_backward"


class Net(nn.Module):
    """Two convolutions and a layer over what ``body`` makes of them."""

    def __init__(self, body, bias=True):
        super().__init__()
        self.body = body
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2, bias=bias)
        self.conv2 = nn.Conv2d(6, 16, 5, bias=bias)
        self.last = nn.Linear(400, 10)

    def forward(self, x):
        return self.last(self.body(self, x))


def lenet(net, x):
    x = F.max_pool2d(F.relu(net.conv1(x)), 2)
    return F.max_pool2d(F.relu(net.conv2(x)), 2).flatten(1)


def activation_used_twice(net, x):
    h = F.relu(net.conv1(x))
    x = F.max_pool2d(h, 2) + h[:, :, ::2, ::2] * 0.5
    return F.max_pool2d(F.relu(net.conv2(x)), 2).flatten(1)


def convolution_used_twice(net, x):
    h = net.conv1(x)
    x = F.max_pool2d(F.relu(h), 2) + F.avg_pool2d(h, 2)
    return F.max_pool2d(F.relu(net.conv2(x)), 2).flatten(1)


def indices_used(net, x):
    x = F.max_pool2d(F.relu(net.conv1(x)), 2)
    values, indices = F.max_pool2d(F.relu(net.conv2(x)), 2, return_indices=True)
    return (values + indices.float() * 0.01).flatten(1)


def other_windows(net, x):
    x = F.max_pool2d(F.relu(net.conv1(x)), 3, 2, 1)
    return F.max_pool2d(F.relu(net.conv2(x)), 2).flatten(1)


def without_pooling(net, x):
    x = F.avg_pool2d(F.relu(net.conv1(x)), 2)
    return F.max_pool2d(F.relu(net.conv2(x)), 2).flatten(1)


def input_changed_meanwhile(net, x):
    x = x * 2
    h = F.relu(net.conv1(x))
    x.zero_()
    return F.max_pool2d(F.relu(net.conv2(F.max_pool2d(h.detach(), 2))), 2).flatten(1)


# body -> how many forward and backward passes are fused
BODIES = {lenet: (2, 2), activation_used_twice: (1, 1), convolution_used_twice: (1, 1), indices_used: (1, 1),
          other_windows: (1, 1), without_pooling: (1, 1)}


def trained(body, compiled, bias=True, calls=7):
    """The losses, the last gradients and weights, and the calls of a repetition."""
    minidl.manual_seed(0)
    net = Net(body, bias)
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

    def step(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    run = minidl.compile(step) if compiled else step
    generator = np.random.default_rng(0)
    losses = []
    for _ in range(calls):
        images = minidl.from_numpy(generator.standard_normal((20, 1, 28, 28), np.float32))
        labels = minidl.from_numpy(generator.integers(0, 10, 20))
        losses.append(run(images, labels).detach().numpy())
    kept = [array for p in net.parameters() for array in (p.detach().numpy(), p.grad.numpy())]
    return losses, kept, run.device_calls if compiled else None


@pytest.mark.parametrize("body", BODIES)
def test_the_bits_and_the_calls(body):
    with use_conv_kernel(None, "direct_rows", "direct_rows"):
        losses, kept, _ = trained(body, False)
        fused_losses, fused_kept, calls = trained(body, True)
    for one, two in zip([*losses, *kept], [*fused_losses, *fused_kept], strict=True):
        np.testing.assert_array_equal(one, two)
    assert (calls.count(FORWARD), calls.count(BACKWARD)) == BODIES[body]


@pytest.mark.parametrize("body", BODIES)
def test_gradients_of_the_chosen_kernels_differ_by_rounding(body):
    """A few units of the last place in a step, which seven steps amplify."""
    losses, kept, _ = trained(body, False)
    fused_losses, fused_kept, _ = trained(body, True)
    for one, two in zip([*losses, *kept], [*fused_losses, *fused_kept], strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * np.abs(one).max())


def test_no_bias_no_fusion():
    losses, _, _ = trained(lenet, False, bias=False)
    fused_losses, _, calls = trained(lenet, True, bias=False)
    np.testing.assert_array_equal(losses, fused_losses)
    assert FORWARD not in calls


def test_an_input_that_changes_meanwhile_is_read_before():
    net = Net(input_changed_meanwhile)
    run = minidl.compile(net)
    with minidl.no_grad():
        for seed in range(5):
            minidl.manual_seed(seed)
            x = minidl.rand(4, 1, 28, 28)
            np.testing.assert_array_equal(run(x).numpy(), net(x).numpy())
    assert run.fallback_reason is None
    assert run.device_calls.count(FORWARD) == 1 and "conv2d_relu" in run.device_calls


def test_inference_is_fused_too():
    net = Net(lenet).eval()
    run = minidl.compile(net)
    with minidl.no_grad():
        for _ in range(4):
            x = minidl.rand(4, 1, 28, 28)
            np.testing.assert_array_equal(run(x).numpy(), net(x).numpy())
    assert run.device_calls == [FORWARD, FORWARD, "linear"]


def test_float64_is_not_fused():
    net = Net(lenet).double().eval()
    run = minidl.compile(net)
    with minidl.no_grad():
        for _ in range(4):
            run(minidl.rand(4, 1, 28, 28, dtype=minidl.float64))
    assert run.fallback_reason is None and FORWARD not in run.device_calls


@pytest.mark.parametrize("N, C, OC, H, W, K, padding, needs_input", [
    (2, 1, 6, 12, 12, 5, 2, False), (3, 6, 16, 9, 14, 5, 0, False), (3, 6, 16, 9, 14, 5, 0, True),
    (1, 2, 3, 7, 7, 3, 1, True),
])
def test_the_device_does_what_the_reference_says(N, C, OC, H, W, K, padding, needs_input):
    generator = np.random.default_rng(0)
    x, weight = (generator.standard_normal(shape, np.float32) for shape in ((N, C, H, W), (OC, C, K, K)))
    bias = generator.standard_normal(OC, np.float32)
    g = conv2d_geometry(x.shape, weight.shape, 1, padding)
    cpu, reference = CPU(), Reference()
    assert cpu.can_fuse_conv2d(g, needs_input)
    # sums of up to 150 products of normal numbers, in another order
    activated = cpu.conv2d_relu(x, weight, bias, g)
    np.testing.assert_allclose(activated, reference.conv2d_relu(x, weight, bias, g), atol=5e-5)
    output, codes = cpu.conv2d_relu_max_pool2d(x, weight, bias, g)
    expected, expected_codes = reference.conv2d_relu_max_pool2d(x, weight, bias, g)
    np.testing.assert_allclose(output, expected, atol=5e-5)
    np.testing.assert_array_equal(codes, expected_codes)
    grad = generator.standard_normal(output.shape, np.float32)
    actual = cpu.conv2d_relu_max_pool2d_backward(grad, codes, x, weight, g, needs_input)
    judged = reference.conv2d_relu_max_pool2d_backward(grad, codes, x, weight, g, needs_input)
    assert (actual[0] is None) == (judged[0] is None) == (not needs_input)
    for one, two in zip(actual[not needs_input:], judged[not needs_input:], strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4)
