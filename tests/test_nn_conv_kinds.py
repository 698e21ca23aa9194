"""``Conv1d``, ``ConvTranspose1d`` and ``ConvTranspose2d``: grids of options against PyTorch, float64 and messages."""

from __future__ import annotations

import itertools
import random
import re

import numpy as np
import pytest
from nn_twins import TOLERANCE, assert_close, assert_same, numbers, twins

import minidl
from minidl import nn
from minidl.geometry import conv1d_geometry, conv_transpose1d_geometry, conv_transpose2d_geometry
from minidl.nn import functional as F

TRANSPOSED = list(itertools.product(
    [(2, 4, 3, 5), (1, 4, 4, 1), (4, 3, 2)],                # input
    [1, (3, 2), 4],                                         # kernel
    [1, 2, (1, 3)],                                         # stride
    [0, (1, 2)],                                            # padding
    [0, 1, (0, 2)],                                         # output_padding
    [1, 3],                                                 # dilation
    [(1, 6, True), (2, 6, False), (4, 8, True)],            # groups, out_channels, bias
))


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_grid_of_transposed_convolutions_is_pytorchs(torch, groups, sides):
    """PyTorch allows an output of no pixels, where minidl tells what to change; everything else is the same."""
    kind, tried, refused = f"ConvTranspose{sides}d", 0, 0
    for shape, *options, (g, out_channels, bias) in TRANSPOSED:
        if g != groups:
            continue
        names = ("kernel_size", "stride", "padding", "output_padding", "dilation")
        given = dict(zip(names, options, strict=True)) | {"groups": g, "bias": bias}
        if sides == 1:
            shape = shape[:-1]
            given = {name: value[-1:] if isinstance(value, tuple) else value for name, value in given.items()}
        theirs = getattr(torch.nn, kind)(4, out_channels, **given).double()
        ours = getattr(nn, kind)(4, out_channels, **given).double()
        try:
            size = theirs(torch.zeros(shape, dtype=torch.float64)).shape
        except RuntimeError:
            size = (0,)
        if 0 in size:
            with pytest.raises(RuntimeError, match=r"conv_transpose.*(output_padding .* must be smaller|would become)"):
                ours(minidl.zeros(shape, dtype=minidl.float64))
            refused += 1
            continue
        ours.load_state_dict(theirs.state_dict())
        assert_same(torch, ours, theirs, numbers(*shape))
        tried += 1
    assert tried > 100
    assert refused > 20


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_grid_of_1d_convolutions_is_pytorchs(torch, groups):
    grid = itertools.product([(2, 4, 9), (1, 4, 6), (4, 7)], [1, 3, 4], [1, 2, (3,)], [0, 2, "same", "valid"], [1, 2])
    tried = 0
    for shape, kernel, stride, padding, dilation in grid:
        if padding == "same" and stride != 1:
            continue
        options = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
                   "bias": groups != 2}
        theirs, ours = torch.nn.Conv1d(4, 8, **options).double(), nn.Conv1d(4, 8, **options).double()
        try:
            theirs(torch.zeros(shape, dtype=torch.float64))
        except RuntimeError:
            with pytest.raises(RuntimeError, match="long, too small for a kernel of"):
                ours(minidl.zeros(shape, dtype=minidl.float64))
            continue
        ours.load_state_dict(theirs.state_dict())
        assert_same(torch, ours, theirs, numbers(*shape))
        tried += 1
    assert tried > 100


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [2, "same", "valid"])
def test_padding_modes_of_signals_are_pytorchs(torch, mode, padding, dtype):
    ours, theirs = twins(torch, lambda nn: nn.Conv1d(3, 4, 4, padding=padding, padding_mode=mode, dilation=2), dtype)
    assert_same(torch, ours, theirs, numbers(2, 3, 11), dtype=dtype)
    assert_same(torch, ours, theirs, numbers(3, 11), dtype=dtype)


MAKERS = {
    "1d": lambda nn: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
    "1d circular": lambda nn: nn.Conv1d(4, 6, (3,), padding="same", padding_mode="circular", bias=False),
    "transposed 1d": lambda nn: nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, output_padding=1),
    "transposed 2d": lambda nn: nn.ConvTranspose2d(4, 6, (4, 3), 2, (1, 0), (0, 1), 2, True, (1, 3)),
    "transposed 2d plain": lambda nn: nn.ConvTranspose2d(4, 6, 2, bias=False),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MAKERS)
def test_the_same_seed_gives_the_same_layer(torch, name, dtype):
    """twins compares the initial weights to the bit, and the reprs."""
    ours, theirs = twins(torch, MAKERS[name], dtype)
    sides = ours.weight.ndim - 2
    for batch in ((2,), (0,), ()):
        shape = (*batch, 4, *(7, 5)[:sides])
        assert_same(torch, ours, theirs, numbers(*shape), dtype=dtype)
        got = ours(minidl.ones(shape, dtype=ours.weight.dtype))
        expected = theirs(torch.ones(shape, dtype=theirs.weight.dtype))
        assert got.grad_fn.name() == expected.grad_fn.name()
    assert ours.transposed == theirs.transposed
    assert ours.output_padding == theirs.output_padding


def test_float32_stays_as_close_to_float64_as_pytorch_does(torch):
    """Both are compared with float64 over sums of 64 * 16 products; twice PyTorch's own error is allowed."""
    ours, theirs = twins(torch, lambda nn: nn.ConvTranspose2d(64, 32, 4, 2, 1), np.float32)
    x = numbers(2, 64, 9, 8).astype(np.float32)
    exact = torch.nn.functional.conv_transpose2d(*(torch.tensor(t).double() for t in (
        x, np.asarray(ours.weight.detach()), np.asarray(ours.bias.detach()))), stride=2, padding=1).numpy()
    with torch.no_grad():
        allowed = 2 * np.abs(theirs(torch.tensor(x)).numpy() - exact).max()
    assert 0 < np.abs(np.asarray(ours(minidl.tensor(x)).detach()) - exact).max() <= allowed


@pytest.mark.parametrize(("op", "shape", "weight"), [
    ("conv1d", (2, 4, 9), (6, 4, 3)), ("conv_transpose1d", (2, 4, 9), (4, 6, 3)),
    ("conv_transpose2d", (2, 4, 5, 6), (4, 6, 3, 3))])
def test_memory_layout_does_not_matter(torch, op, shape, weight):
    arrays = [numbers(*reversed(s), seed=seed).transpose() for seed, s in enumerate((shape, weight))]
    ours = [minidl.from_numpy(a).requires_grad_() for a in arrays]
    theirs = [torch.tensor(np.ascontiguousarray(a)).requires_grad_() for a in arrays]
    assert not any(t.is_contiguous() for t in ours)
    got, expected = getattr(F, op)(*ours), getattr(torch.nn.functional, op)(*theirs)
    direction = numbers(*expected.shape, seed=2)
    got.backward(minidl.tensor(direction))
    expected.backward(torch.tensor(direction))
    assert_close(got, expected, TOLERANCE[np.float64])
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.grad, b.grad, TOLERANCE[np.float64])


def test_a_transposed_convolution_is_the_transpose():
    """<conv(x), y> = <x, transposed(y)>, whatever x and y are: that is what the word means."""
    x, y, w = (minidl.tensor(numbers(*shape)) for shape in ((2, 3, 9, 8), (2, 4, 4, 3), (4, 3, 3, 4)))
    there = (F.conv2d(x, w, stride=2) * y).sum().item()
    back = (x * F.conv_transpose2d(y, w, stride=2)).sum().item()
    assert there == pytest.approx(back, rel=1e-12)


# ---- output_size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 14), (10, 12), (2, 6, 9, 13), [9, 14]])
def test_output_size_is_pytorchs(torch, size):
    ours, theirs = twins(torch, lambda nn: nn.ConvTranspose2d(4, 6, 3, (2, 3)))
    assert_same(torch, lambda x: ours(x, output_size=size), lambda x: theirs(x, output_size=size), numbers(2, 4, 4, 4))


@pytest.mark.parametrize("size", [(7,), (8,), (3, 7), (2, 3, 8)])
def test_output_size_of_signals_is_pytorchs(torch, size):
    ours, theirs = twins(torch, lambda nn: nn.ConvTranspose1d(4, 3, 4, 2, 1, dilation=1))
    x = numbers(4, 4) if len(size) == 2 else numbers(2, 4, 4)
    if size == (7,):
        for layer, library in ((ours, minidl), (theirs, torch)):
            with pytest.raises(ValueError, match=r"valid sizes range from \[8\] to \[9\]"):
                layer(library.tensor(x), size)
    elif len(size) == 2:
        with pytest.raises(ValueError, match="valid sizes range from"):
            theirs(torch.tensor(x), size)
        with pytest.raises(ValueError, match="valid sizes range from"):
            ours(minidl.tensor(x), size)
    else:
        assert_same(torch, lambda x: ours(x, size), lambda x: theirs(x, size), x)


# ---- sizes and messages ----------------------------------------------------------------------------------------------


def test_sizes_are_pytorchs(torch):
    draw = random.Random(3)
    kinds = {1: ((F.conv1d, conv1d_geometry), (F.conv_transpose1d, conv_transpose1d_geometry)),
             2: ((None, None), (F.conv_transpose2d, conv_transpose2d_geometry))}
    compared = 0
    for _ in range(1500):
        sides = draw.choice((1, 2))
        function, make = draw.choice([pair for pair in kinds[sides] if pair[0]])
        transposed = "transpose" in function.__name__
        groups = draw.choice((1, 2, 3))
        shape = (draw.randint(1, 2), draw.choice((2, 4, 6)), *(draw.randint(1, 9) for _ in range(sides)))
        fits = (shape[1], 2) if transposed else (6, shape[1] // groups)
        channels = fits if draw.random() < 0.8 else (draw.choice((2, 4, 6)), draw.randint(1, 3))
        weight = (*channels, *(draw.randint(1, 4) for _ in range(sides)))
        options = {"stride": draw.randint(1, 3), "padding": draw.randint(0, 2), "dilation": draw.randint(1, 3),
                   "groups": groups}
        if transposed:
            options["output_padding"] = draw.randint(0, 3)
        try:
            theirs = tuple(getattr(torch.nn.functional, function.__name__)(
                torch.zeros(shape), torch.zeros(weight), **options).shape)
        except RuntimeError:
            theirs = None
        if theirs is not None and 0 in theirs[1:]:
            theirs = None  # minidl refuses an output without pixels
        try:
            fit = make(shape, weight, **options)
            ours = fit.input_shape if transposed else fit.output_shape
            ours = ours if sides == 2 else (ours[0], ours[1], ours[3])
        except RuntimeError:
            ours = None
        assert ours == theirs, (function.__name__, shape, weight, options)
        compared += ours is not None
    assert compared > 300


ones = minidl.ones
CALLS = {
    "channels": (lambda: F.conv_transpose2d(ones(2, 5, 4, 4), ones(3, 4, 3, 3)), RuntimeError,
                 "conv_transpose2d: input (2, 5, 4, 4) has 5 channels, weight (3, 4, 3, 3) needs 3; the weight of a "
                 "transposed convolution is (C, OC/groups, KH, KW)"),
    "groups": (lambda: F.conv_transpose2d(ones(2, 3, 4, 4), ones(3, 4, 3, 3), groups=2), RuntimeError,
               "conv_transpose2d: input (2, 3, 4, 4) has 3 channels, which groups=2 does not divide"),
    "bias": (lambda: F.conv_transpose2d(ones(2, 4, 4, 4), ones(4, 3, 3, 3), ones(3), groups=2), RuntimeError,
             "conv_transpose2d: bias (3,), expected (6,) for weight (4, 3, 3, 3)"),
    "output padding": (lambda: F.conv_transpose1d(ones(2, 3, 4), ones(3, 4, 3), output_padding=1), RuntimeError,
                       "conv_transpose1d: output_padding 1 must be smaller than either stride (1,) or dilation (1,); "
                       "it only chooses among the sizes that a convolution with this stride would bring to the "
                       "input's"),
    "negative": (lambda: F.conv_transpose1d(ones(2, 3, 4), ones(3, 4, 3), output_padding=-1), RuntimeError,
                 "conv_transpose1d: output_padding must be at least 0, got -1"),
    "no pixels": (lambda: F.conv_transpose1d(ones(2, 3, 2), ones(3, 4, 2), padding=2), RuntimeError,
                  "conv_transpose1d: input (2, 3, 2) is 2 long and would become (size - 1) * stride - 2 * padding + "
                  "dilation * (kernel - 1) + output_padding + 1 = (2 - 1) * 1 - 2 * 2 + 1 * (2 - 1) + 0 + 1 = -1; use "
                  "less padding or a larger input"),
    "empty": (lambda: F.conv_transpose1d(ones(2, 3, 0), ones(3, 4, 2)), RuntimeError,
              "conv_transpose1d: input (2, 3, 0) is empty; only N may be 0"),
    "same": (lambda: F.conv_transpose2d(ones(2, 3, 4, 4), ones(3, 4, 3, 3), padding="same"), TypeError,
             "conv_transpose2d: padding must be integers, got 'same'; a transposed convolution has no 'same'"),
    "dimensions": (lambda: F.conv1d(ones(2, 3, 8, 2), ones(4, 3, 3)), RuntimeError,
                   "Expected 2D (unbatched) or 3D (batched) input to conv1d, but got input of size: [2, 3, 8, 2]"),
    "weight": (lambda: F.conv1d(ones(2, 3, 8), ones(4, 3, 3, 3)), RuntimeError,
               "conv1d: weight must have the 3 dimensions (OC, C/groups, K), got 4 in (4, 3, 3, 3)"),
    "stride": (lambda: F.conv1d(ones(2, 3, 8), ones(4, 3, 3), stride=(1, 2)), RuntimeError,
               "conv1d: stride must be one integer, got (1, 2)"),
    "short": (lambda: F.conv1d(ones(2, 3, 2), ones(4, 3, 3)), RuntimeError,
              "conv1d: input (2, 3, 2) is 2 + 0 (padding) = 2 long, too small for a kernel of 3; the output would "
              "be (2 + 0 + 0 - 1 * (3 - 1) - 1) // 1 + 1 = 0 long; use a larger input, more padding or a smaller "
              "kernel"),
    "dtype": (lambda: F.conv_transpose2d(ones(2, 3, 4, 4).double(), ones(3, 4, 3, 3)), RuntimeError,
              "conv_transpose2d: input has dtype minidl.float64, weight has dtype minidl.float32; convert one with "
              ".to(...)"),
    "integers": (lambda: F.conv1d(ones(2, 3, 4).long(), ones(4, 3, 3).long()), RuntimeError,
                 "conv1d is not implemented for minidl.int64; convert the tensors with .float()"),
    "array": (lambda: F.conv1d(np.ones((2, 3, 4)), ones(4, 3, 3)), TypeError,
              "conv1d(): argument 'input' must be Tensor, not ndarray"),
    "layer": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3))(ones(2, 5, 4, 4)), nn.ShapeError,
              "Sequential.0 (ConvTranspose2d): conv_transpose2d: input (2, 5, 4, 4) has 5 channels, weight (3, 4, 3, "
              "3) needs 3; the weight of a transposed convolution is (C, OC/groups, KH, KW); set in_channels=5"),
    "layer 1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3))(ones(2, 5, 9)), nn.ShapeError,
                 "Sequential.0 (Conv1d): conv1d: input (2, 5, 9) has 5 channels, weight (4, 3, 3) with groups=1 needs "
                 "3; set in_channels=5"),
    "output size": (lambda: nn.ConvTranspose2d(3, 4, 3, 2)(ones(2, 3, 4, 4), (9,)), ValueError,
                    "ConvTranspose2d: for 4D input, output_size must have 2 or 4 elements (got 1)"),
    "padding mode": (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="circular"), ValueError,
                     'Only "zeros" padding mode is supported for ConvTranspose2d'),
    "padding": (lambda: nn.ConvTranspose1d(3, 4, 3, padding="same"), ValueError,
                "ConvTranspose1d: padding must be given in numbers, got 'same'"),
    "strided same": (lambda: nn.Conv1d(3, 4, 3, 2, "same"), ValueError,
                     "padding='same' is not supported for strided convolutions"),
}


@pytest.mark.parametrize("name", CALLS)
def test_messages(name):
    call, kind, message = CALLS[name]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call()


def test_a_changed_option_counts_at_once():
    conv, x = nn.Conv1d(2, 3, 3), minidl.tensor(numbers(1, 2, 8).astype(np.float32))
    conv(x)
    conv.stride = 2
    assert minidl.equal(conv(x), F.conv1d(x, conv.weight, conv.bias, 2))
