"""Layouts kept between the calls of a plan: the bits of the network as it is written, and the calls that it makes."""

import warnings

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.backends.cpu import use_conv_kernel
from minidl.compiler import planning
from minidl.compiler.layouts import Layouts

pytestmark = [
    pytest.mark.usefixtures("isa", "thread_count"),
    pytest.mark.parametrize("thread_count", [1, 2], indirect=True),  # what is kept depends on vectors for each thread
]

LANES, POOLED = "conv2d_relu_max_pool2d_lanes", "conv2d_relu_max_pool2d"


class Net(nn.Module):
    """Two or three convolutions; ``body`` says what is made of them."""

    def __init__(self, body, channels=(1, 6, 16), side=28):
        super().__init__()
        minidl.manual_seed(0)
        self.body, self.side = body, side
        self.conv1 = nn.Conv2d(channels[0], channels[1], 5, padding=2)
        self.conv2 = nn.Conv2d(channels[1], channels[2], 5)
        self.conv3 = nn.Conv2d(channels[2], 3, 3, padding=1)
        self.last = nn.Linear(channels[2] * ((side // 2 - 4) // 2) ** 2, 10)

    def forward(self, x):
        return self.body(self, x)


def block(conv, x):
    return F.max_pool2d(F.relu(conv(x)), 2)


def lenet(net, x):
    return net.last(block(net.conv2, block(net.conv1, x)).flatten(1))


def three(net, x):
    return block(net.conv3, block(net.conv2, block(net.conv1, x)))


def returned_too(net, x):
    h = block(net.conv1, x)
    return h, block(net.conv2, h)


def used_otherwise(net, x):
    h = block(net.conv1, x)
    return block(net.conv2, h), h.sum()


def two_readers(net, x):
    h = block(net.conv1, x)
    return block(net.conv2, h) + block(net.conv2, h * 1)


def two_convolutions(net, x):
    h = block(net.conv1, x)
    return block(net.conv2, h), net.conv2(h)


def two_of_the_same_kind(net, x):
    h = block(net.conv1, x)
    return block(net.conv2, h) - block(net.conv2, h) * 0.5


def changed_in_place(net, x):
    h = block(net.conv1, x)
    h.mul_(2)
    return block(net.conv2, h)


def looked_at_sideways(net, x):
    return block(net.conv2, block(net.conv1, x).transpose(2, 3))


def without_relu(net, x):
    return block(net.conv2, F.max_pool2d(net.conv1(x), 2))


# body -> (calls with lanes, those of them that keep a result so) where the batch fills vectors
BODIES = {lenet: (2, 1), three: (3, 2), returned_too: (2, 0), used_otherwise: (2, 0), two_readers: (3, 0),
          two_convolutions: (2, 0), two_of_the_same_kind: (3, 1), changed_in_place: (2, 0), looked_at_sideways: (2, 0),
          without_relu: (1, 0)}


def arrays(result):
    return [each.numpy() for each in (result if isinstance(result, tuple) else (result,))]


def repeated(net, images, calls=4, C=1):
    """The compiled network, having been compared with the network in each of its calls."""
    run = minidl.compile(net)
    with minidl.no_grad():
        for seed in range(calls):
            minidl.manual_seed(seed)
            x = minidl.randn(images, C, net.side, net.side)
            for one, two in zip(arrays(run(x)), arrays(net(x)), strict=True):
                np.testing.assert_array_equal(one, two)
    assert run.fallback_reason is None
    return run


@pytest.fixture
def layouts(monkeypatch):
    """The ``Layouts`` of each plan that is made."""
    made = []

    def remembered(*arguments):
        made.append(Layouts(*arguments))
        return made[-1]

    monkeypatch.setattr(planning, "Layouts", remembered)
    return made


@pytest.mark.parametrize("images", [0, 1, 7, 16, 17, 33])
@pytest.mark.parametrize("body", BODIES)
def test_the_bits_for_any_batch(body, images):
    repeated(Net(body).eval(), images)


@pytest.mark.parametrize("body", BODIES)
def test_what_stays_in_lanes(body, layouts):
    run = repeated(Net(body).eval(), 64)
    kept = sum(call.name == LANES and call.arguments[5] for call in layouts[-1].calls)
    assert (run.device_calls.count(LANES), kept) == BODIES[body]


@pytest.mark.parametrize("channels", [(1, 1, 1), (2, 5, 3), (3, 8, 17), (7, 13, 33)], ids=str)
@pytest.mark.parametrize("side", [14, 23, 28])
def test_any_channels_and_sides(channels, side):
    run = repeated(Net(lenet, channels, side).eval(), 32, C=channels[0])
    assert LANES in run.device_calls or POOLED in run.device_calls


def test_a_batch_that_leaves_vectors_empty_stays_as_it_was():
    assert LANES not in repeated(Net(lenet).eval(), 2).device_calls


def test_a_kernel_that_is_set_is_used():
    with use_conv_kernel("direct_rows"):
        assert LANES not in repeated(Net(lenet).eval(), 64).device_calls


def test_training_needs_the_codes():
    net = Net(lenet)
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.01)

    def step(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    run = minidl.compile(step)
    for _ in range(4):
        run(minidl.randn(64, 1, 28, 28), minidl.randint(0, 10, (64,)))
    assert run.device_calls.count(POOLED) == 2 and LANES not in run.device_calls


def test_changed_weights_are_used():
    net = Net(lenet).eval()
    run = repeated(net, 64)
    with minidl.no_grad():
        net.conv1.weight.mul_(-1)
        x = minidl.randn(64, 1, 28, 28)
        np.testing.assert_array_equal(run(x).numpy(), net(x).numpy())
    assert run.fallback_reason is None


def test_a_hook_sees_the_result_between():
    """It was not there when the network was recorded."""
    net = Net(lenet).eval()
    run = repeated(net, 64)
    seen = []
    handle = net.conv2.register_forward_hook(lambda module, args, output: seen.append(args[0].shape))
    with minidl.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        x = minidl.randn(64, 1, 28, 28)
        np.testing.assert_array_equal(run(x).numpy(), net(x).numpy())
        assert len(seen) == 2 and seen[0] == (64, 6, 14, 14)
        handle.remove()
        for _ in range(4):
            np.testing.assert_array_equal(run(x).numpy(), net(x).numpy())


def test_another_number_of_threads_is_another_plan(thread_count):
    net = Net(lenet).eval()
    run = repeated(net, 64)
    minidl.set_num_threads(3 - thread_count)
    x = minidl.randn(64, 1, 28, 28)
    with minidl.no_grad():
        for _ in range(4):
            np.testing.assert_array_equal(run(x).numpy(), net(x).numpy())
    assert run.fallback_reason is None
