"""``Conv2d`` and ``conv2d``: a grid of options against PyTorch, published silent bugs by name, and every message."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nn_twins import assert_close, assert_same, numbers, twins

import minidl
from minidl import nn
from minidl.nn import functional as F

GRID = list(itertools.product(
    [(2, 4, 7, 9), (1, 4, 8, 6), (4, 9, 7)],                # input
    [(1, 1), 3, (3, 2), (2, 4)],                            # kernel
    [1, 2, (1, 3)],                                         # stride
    [0, (2, 1), "same"],                                    # padding
    [1, 2],                                                 # dilation
    [(1, 6, True), (2, 6, False), (4, 8, True)],            # groups, out_channels, bias
))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_grid_is_pytorchs(torch, groups):
    tried = 0
    for shape, kernel, stride, padding, dilation, (g, out_channels, bias) in GRID:
        if g != groups or (padding == "same" and stride != 1):
            continue
        options = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": g,
                   "bias": bias}
        theirs = torch.nn.Conv2d(4, out_channels, **options).double()
        ours = nn.Conv2d(4, out_channels, **options).double()
        try:
            theirs(torch.zeros(shape, dtype=torch.float64))
        except RuntimeError:
            with pytest.raises(RuntimeError, match="too small for a kernel of"):
                ours(minidl.zeros(shape, dtype=minidl.float64))
            continue
        ours.load_state_dict(theirs.state_dict())
        assert_same(torch, ours, theirs, numbers(*shape))
        tried += 1
    assert tried > 60


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [(2, 1), 1, "same", "valid"])
def test_padding_modes_are_pytorchs(torch, mode, padding, dtype):
    """H and W, rows and columns of the padding differ: mixing them up would show."""
    ours, theirs = twins(torch, lambda nn: nn.Conv2d(3, 4, (2, 4), padding=padding, padding_mode=mode, dilation=(2, 1)),
                         dtype)
    assert_same(torch, ours, theirs, numbers(2, 3, 7, 10), dtype=dtype)
    assert_same(torch, ours, theirs, numbers(3, 7, 10), dtype=dtype, tolerance=1e-12 if dtype is np.float64 else 2e-5)


# name: (channels in, out, options, input)
SILENT_BUGS = {
    "groups and stride in backward": (4, 6, {"kernel_size": 3, "stride": 2, "groups": 2}, (2, 4, 9, 8)),
    "depthwise with stride 2": (5, 5, {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 5}, (2, 5, 9, 8)),
    "dilation with leftover pixels": (3, 4, {"kernel_size": 2, "stride": 3, "dilation": 2}, (2, 3, 9, 10)),
    "circular padding of a wide image": (
        2, 3, {"kernel_size": 3, "padding": (1, 2), "padding_mode": "circular"}, (2, 2, 4, 9)),
    "1x1 with stride": (4, 3, {"kernel_size": 1, "stride": 2}, (2, 4, 7, 6)),
    "one pixel out": (3, 4, {"kernel_size": 5}, (2, 3, 5, 5)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SILENT_BUGS)
def test_silent_bugs_of_others(torch, name, dtype):
    channels, out_channels, options, shape = SILENT_BUGS[name]
    ours, theirs = twins(torch, lambda nn: nn.Conv2d(channels, out_channels, **options), dtype)
    assert_same(torch, ours, theirs, numbers(*shape), dtype=dtype)


@pytest.mark.parametrize("what", ["weight", "input", "both", "channels last", "every other pixel"])
def test_memory_layout_does_not_matter(torch, what):
    x, w = numbers(2, 4, 8, 9), numbers(6, 4, 3, 3, seed=1)
    if what in ("weight", "both"):
        w = np.ascontiguousarray(w.transpose(3, 2, 0, 1)).transpose(2, 3, 1, 0)
    if what in ("input", "both"):
        x = np.ascontiguousarray(x.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)
    if what == "channels last":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if what == "every other pixel":
        x = numbers(4, 4, 16, 18)[::2, :, ::2, ::2]
    ours = [minidl.from_numpy(a).requires_grad_() for a in (x, w)]
    assert what == "every other pixel" or not all(t.is_contiguous() for t in ours)
    theirs = [torch.from_numpy(np.ascontiguousarray(a)).requires_grad_() for a in (x, w)]
    got, expected = F.conv2d(*ours, stride=2, padding=1), torch.nn.functional.conv2d(*theirs, stride=2, padding=1)
    assert_close(got, expected, 1e-12)
    direction = numbers(*expected.shape, seed=2)
    got.backward(minidl.tensor(direction))
    expected.backward(torch.tensor(direction))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.grad, b.grad, 1e-12)


def test_a_layer_with_a_transposed_weight(torch):
    ours, theirs = twins(torch, lambda nn: nn.Conv2d(4, 4, 3))
    ours.weight = nn.Parameter(ours.weight.detach().transpose(0, 1))
    theirs.weight = torch.nn.Parameter(theirs.weight.detach().transpose(0, 1))
    assert_same(torch, ours, theirs, numbers(2, 4, 6, 7))


def test_no_images(torch):
    ours, theirs = twins(torch, lambda nn: nn.Conv2d(3, 4, 3))
    assert_same(torch, ours, theirs, numbers(0, 3, 6, 7))


def test_the_first_layer_computes_no_input_gradient():
    x = minidl.ones(1, 1, 4, 4)
    nn.Conv2d(1, 1, 3)(x).sum().backward()
    assert x.grad is None


# ---- what a layer remembers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [("stride", (2, 2)), ("stride", 2), ("padding", (1, 2)), ("dilation", 2)])
def test_a_changed_option_counts_at_once(name, value):
    conv, x = nn.Conv2d(2, 3, 3), minidl.tensor(numbers(1, 2, 8, 9).astype(np.float32))
    conv(x)
    setattr(conv, name, value)
    assert minidl.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, **{name: value}))


def test_a_changed_weight_counts_at_once():
    conv, x = nn.Conv2d(2, 3, 3), minidl.ones(1, 2, 8, 9)
    conv(x)
    conv.weight = nn.Parameter(minidl.ones(3, 2, 1, 5))
    assert conv(x).shape == (1, 3, 8, 5)
    conv.weight.data = minidl.ones(3, 2, 2, 2)
    assert conv(x).shape == (1, 3, 7, 8)
    conv.bias.data = minidl.ones(1)
    with pytest.raises(RuntimeError, match=r"Conv2d: conv2d: bias \(1,\), expected \(3,\) for weight"):
        conv(x)


def test_pictures_of_many_sizes_do_not_fill_the_memory():
    pool = nn.MaxPool2d(2)
    for width in range(2, 600):
        pool(minidl.ones(1, 1, 2, width))
    assert len(pool._geometries) <= 256
    assert pool(minidl.ones(1, 1, 2, 5)).shape == (1, 1, 1, 2)


# ---- messages --------------------------------------------------------------------------------------------------------


OPTIONS = [
    ({"groups": 0}, "groups must be a positive integer"),
    ({"groups": 3}, "in_channels must be divisible by groups"),
    ({"groups": 4}, "out_channels must be divisible by groups"),
    ({"padding": "some"}, "Invalid padding string 'some', should be one of"),
    ({"padding": "same", "stride": 2}, "padding='same' is not supported for strided convolutions"),
    ({"padding_mode": "mirror"}, "padding_mode must be one of .*, but got padding_mode='mirror'"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        nn.Conv2d(4, 6, 3, **options)


def test_groups_that_do_not_divide_are_explained():
    with pytest.raises(ValueError, match="5 / 2 = 2, remainder 1; each group has as many of the 4 input"):
        nn.Conv2d(4, 5, 3, groups=2)


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options_that_cannot_be_in_pytorch(torch, options, message):
    with pytest.raises(ValueError, match=message):
        torch.nn.Conv2d(4, 6, 3, **options)


CALLS = {
    "channels": (lambda: F.conv2d(minidl.ones(8, 4, 32, 32), minidl.ones(16, 3, 3, 3)), RuntimeError,
                 "conv2d: input (8, 4, 32, 32) has 4 channels, weight (16, 3, 3, 3) with groups=1 needs 3"),
    "dimensions": (lambda: F.conv2d(minidl.ones(8, 4), minidl.ones(16, 3, 3, 3)), RuntimeError,
                   "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [8, 4]"),
    "bias": (lambda: F.conv2d(minidl.ones(1, 3, 4, 4), minidl.ones(2, 3, 3, 3), minidl.ones(3)), RuntimeError,
             "conv2d: bias (3,), expected (2,) for weight (2, 3, 3, 3)"),
    "dtype": (lambda: F.conv2d(minidl.ones(1, 3, 4, 4).double(), minidl.ones(2, 3, 3, 3)), RuntimeError,
              "conv2d: input has dtype minidl.float64, weight has dtype minidl.float32; convert one with .to(...)"),
    "bias dtype": (lambda: F.conv2d(minidl.ones(1, 3, 4, 4), minidl.ones(2, 3, 3, 3), minidl.ones(2).double()),
                   RuntimeError, "conv2d: input has dtype minidl.float32, bias has dtype minidl.float64; convert one "
                   "with .to(...)"),
    "integers": (lambda: F.conv2d(minidl.ones(1, 3, 4, 4).long(), minidl.ones(2, 3, 3, 3).long()), RuntimeError,
                 "conv2d is not implemented for minidl.int64; convert the tensors with .float()"),
    "array": (lambda: F.conv2d(np.ones((1, 3, 4, 4)), minidl.ones(2, 3, 3, 3)), TypeError,
              "conv2d(): argument 'input' must be Tensor, not ndarray"),
    "layer array": (lambda: nn.Conv2d(3, 2, 3)(np.ones((1, 3, 4, 4))), TypeError,
                    "conv2d(): argument 'input' must be Tensor, not ndarray"),
}


@pytest.mark.parametrize("name", CALLS)
def test_messages(name):
    call, kind, message = CALLS[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_a_second_call_with_another_dtype_is_explained_too():
    conv = nn.Conv2d(3, 2, 3)
    conv(minidl.ones(1, 3, 4, 4))
    with pytest.raises(RuntimeError) as caught:
        conv(minidl.ones(1, 3, 4, 4).double())
    assert str(caught.value) == ("Conv2d: conv2d: input has dtype minidl.float64, weight has dtype minidl.float32; "
                                 "convert one with .to(...)")
    with pytest.raises(TypeError, match="must be Tensor, not list") as wrong:
        conv([[1.0]])
    assert wrong.value.__context__ is None
