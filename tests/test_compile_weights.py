"""Weights that stay packed from one repetition of a plan to the next, and are packed again when they have changed."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl._devices.reference.conv import ConvReference
from minidl._ext import conv2d, conv2d_kept
from minidl._ext.conv2d_table import Kernel
from minidl.backends.cpu import use_conv_kernel
from minidl.geometry import conv2d_geometry

pytestmark = pytest.mark.usefixtures("isa", "thread_count")

# Winograd's F(2,3) and the packed kernel are held to this share of the largest result elsewhere.
TOLERANCE = 2e-6

# (N, C, H, W), OC, kernel, stride, groups -> the kernel for a weight that stays packed, AUTO: it does not
CASES = {
    (1, 128, 16, 16, 128, 3, 1, 1): Kernel.WINOGRAD,
    (1, 256, 8, 8, 256, 3, 1, 1): Kernel.WINOGRAD,
    (5, 96, 7, 5, 72, 3, 1, 1): Kernel.WINOGRAD,
    (33, 64, 9, 9, 128, 3, 2, 1): Kernel.PACKED,
    (17, 64, 7, 7, 64, 5, 1, 1): Kernel.PACKED,
    (16, 64, 8, 8, 128, 3, 1, 2): Kernel.WINOGRAD,
    (9, 128, 6, 6, 128, 3, 1, 8): Kernel.PACKED,
    (64, 32, 32, 32, 32, 3, 1, 1): Kernel.AUTO,
    (4, 6, 14, 14, 16, 5, 1, 1): Kernel.AUTO,
    (2, 256, 8, 8, 64, 1, 1, 1): None,
}


def operands(case):
    N, C, H, W, OC, kernel, stride, groups = case
    g = conv2d_geometry((N, C, H, W), (OC, C // groups, kernel, kernel), stride, kernel // 2, 1, groups)
    minidl.manual_seed(0)
    return g, minidl.randn(*g.input_shape), minidl.randn(*g.weight_shape), minidl.randn(OC)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_kernel_against_float64(case):
    g, x, weight, bias = operands(case)
    storage = weight._raw.base
    if not conv2d_kept.can_keep(storage, weight._raw, g):
        with pytest.raises(ValueError, match="does not stay packed"):
            conv2d_kept.KeptWeight(storage, weight._raw, g)
        # the packed kernel makes no packed weight where few pixels are one piece of work
        assert CASES[case] in (Kernel.AUTO, Kernel.PACKED, None)
        return
    kept = conv2d_kept.KeptWeight(storage, weight._raw, g)
    if CASES[case] is not None:
        assert kept.kernel == CASES[case]
    expected = ConvReference().conv2d(*(each._raw.astype(np.float64) for each in (x, weight, bias)), g)
    for add in (bias._raw, None):
        judged = expected if add is not None else expected - bias._raw[None, :, None, None]
        for _ in range(2):
            actual = conv2d_kept.conv2d_kept_forward(x._raw, add, kept)
            np.testing.assert_allclose(actual, judged, rtol=0, atol=TOLERANCE * np.abs(judged).max())
        assert actual.tobytes() == conv2d.conv2d_forward(x._raw, weight._raw, add, g, kept.kernel).tobytes()


def test_what_does_not_stay_in_the_cache_together_is_not_kept(isa):
    """Forty weights of a megabyte with fewer pixels than channels, and as many with more; the smallest go first."""
    few, many = (conv2d_geometry((1, 128, side, side), (128, 128, 3, 3), 1, 1) for side in (11, 14))
    small = conv2d_geometry((1, 96, 14, 14), (64, 96, 3, 3), 1, 1)
    weights = [(each._raw.base, each._raw, g) for g, shape in ((few, few.weight_shape), (many, many.weight_shape))
               for each in (minidl.zeros(*shape) for _ in range(40))]
    last = minidl.zeros(*small.weight_shape)
    kept = conv2d_kept.kept_weights([*weights, (last._raw.base, last._raw, small)])
    assert 1 <= sum(each is not None for each in kept[:40]) <= 20
    assert all(each is not None for each in kept[40:])


def network():
    minidl.manual_seed(0)
    return nn.Sequential(nn.Conv2d(128, 144, 3, padding=1), nn.ReLU(), nn.Conv2d(144, 144, 3, padding=1, bias=False),
                         nn.BatchNorm2d(144), nn.Tanh(), nn.Conv2d(144, 64, 3, 2)).eval()


def close(run, net, x):
    with minidl.no_grad():
        actual, expected = (each(x)._raw for each in (run, net))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=4 * TOLERANCE * np.abs(expected).max())


def repeated(net, images=2):
    run = minidl.compile(net)
    for seed in range(5):
        minidl.manual_seed(seed)
        close(run, net, minidl.randn(images, 128, 8, 8))
    assert run.fallback_reason is None
    return run


@pytest.mark.parametrize("images", [1, 2, 7, 16, 17, 33])
def test_inference_keeps_weights(images):
    run = repeated(network(), images)
    assert images > 7 or run.device_calls.count("conv2d_kept") >= 2


def change_in_place(net):
    with minidl.no_grad():
        net[0].weight.mul_(-0.5)
        net[5].weight[3].zero_()


def change_by_loading(net):
    minidl.manual_seed(7)
    net.load_state_dict({name: 0.05 * minidl.randn(*value.shape) if value.ndim == 4 else value
                         for name, value in net.state_dict().items()})


def change_by_training(net):
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.1)
    net(minidl.randn(2, 128, 8, 8)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def change_by_a_compiled_step(net):
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = net(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    run = minidl.compile(step)
    for _ in range(5):
        run(minidl.randn(2, 128, 8, 8))
    assert run.fallback_reason is None and "conv2d_kept" not in run.device_calls


def change_by_numpy(net):
    net[0].weight.detach().numpy()[:] *= 2
    net[2].weight.detach().numpy()[1] = 0


def change_by_another_tensor(net):
    net[0].weight.data = net[0].weight.detach() * 3


def change_through_data(net):
    net[0].weight.data.mul_(-2)
    net[2].weight.data[1] = 0.5


def change_by_init(net):
    nn.init.kaiming_normal_(net[0].weight)
    nn.init.constant_(net[2].weight, 0.01)


def change_through_a_view(net):
    view = net[0].weight.detach().view(-1)[100:20000]
    view.add_(1)
    net[2].weight.detach()[3].copy_(minidl.randn(144, 3, 3))


CHANGES = [change_in_place, change_through_data, change_by_init, change_through_a_view, change_by_loading,
           change_by_training, change_by_a_compiled_step, change_by_numpy, change_by_another_tensor]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_weight_is_used(change):
    net = network()
    run = repeated(net)
    assert "conv2d_kept" in run.device_calls
    x = minidl.randn(2, 128, 8, 8)
    for _ in range(2):
        change(net)
        for _ in range(4):
            close(run, net, x)


def test_memory_that_numpy_goes_on_writing_to():
    net = network()
    run = repeated(net)
    array = net[0].weight.detach().numpy()
    for factor in (2, 0.5, -1):
        array *= factor
        close(run, net, minidl.randn(2, 128, 8, 8))
    assert "conv2d_kept" in run.device_calls
    assert "conv2d_kept" in repeated(net).device_calls  # for the other weights


def test_a_plan_that_changes_the_weight_itself():
    weight = minidl.randn(128, 128, 3, 3)
    x = minidl.randn(1, 128, 8, 8)
    run = minidl.compile(lambda x: F.conv2d(x, weight.mul_(0.5), padding=1))
    expected = [F.conv2d(x, weight * 0.5 ** (i + 1), padding=1)._raw for i in range(5)]
    for each in expected:
        np.testing.assert_allclose(run(x)._raw, each, rtol=0, atol=TOLERANCE * np.abs(each).max())
    assert run.fallback_reason is None and "conv2d_kept" not in run.device_calls


def test_a_kernel_that_is_set_is_used():
    with use_conv_kernel("im2col"):
        assert "conv2d_kept" not in repeated(network()).device_calls
