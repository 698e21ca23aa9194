"""Convolution and pooling geometry: sizes and errors as PyTorch has them, messages that say what to do."""

import pickle
import random
import re

import pytest

from minidl.geometry import adaptive_pool_size, avg_pool2d_geometry, conv2d_geometry, max_pool2d_geometry

X = (8, 4, 32, 32)
W = (16, 4, 3, 3)


def test_lenet_sizes():
    g = conv2d_geometry((64, 1, 28, 28), (6, 1, 5, 5), padding=2)
    assert g.output_shape == (64, 6, 28, 28)
    assert (g.N, g.C, g.OC, g.KH, g.KW, g.pad_top, g.pad_right, g.groups) == (64, 1, 6, 5, 5, 2, 2, 1)
    assert max_pool2d_geometry(g.output_shape, 2).output_shape == (64, 6, 14, 14)


@pytest.mark.parametrize(("size", "kernel", "dilation", "pads"), [
    (8, 3, 1, (1, 1)), (8, 4, 1, (1, 2)), (7, 2, 3, (1, 2)), (5, 1, 1, (0, 0)), (9, 6, 3, (7, 8))])
def test_same_padding_puts_the_odd_pixel_at_the_end(size, kernel, dilation, pads):
    g = conv2d_geometry((1, 1, size, size), (1, 1, kernel, kernel), padding="same", dilation=dilation)
    assert (g.pad_top, g.pad_bottom) == pads
    assert (g.pad_left, g.pad_right) == pads
    assert (size, size) == (g.OH, g.OW)


CONV_ERRORS = [
    (X, (16, 3, 3, 3), {}, RuntimeError,
     "conv2d: input (8, 4, 32, 32) has 4 channels, weight (16, 3, 3, 3) with groups=1 needs 3"),
    (X, (16, 4, 3, 3), {"groups": 2}, RuntimeError, "has 4 channels, weight (16, 4, 3, 3) with groups=2 needs 8"),
    (X, (15, 2, 3, 3), {"groups": 2}, RuntimeError, "has 15 output channels, which groups=2 does not divide"),
    ((8, 32), W, {}, RuntimeError, "input must have the 4 dimensions (N, C, H, W), got 2 in (8, 32)"),
    (X, (16, 4, 3), {}, RuntimeError, "weight must have the 4 dimensions (OC, C/groups, KH, KW), got 3"),
    (X, (0, 4, 3, 3), {}, RuntimeError, "weight (0, 4, 3, 3) has an empty side"),
    (X, W, {"stride": 0}, RuntimeError, "stride must be at least 1, got 0"),
    (X, W, {"stride": (1, -1)}, RuntimeError, "stride must be at least 1, got (1, -1)"),
    (X, W, {"stride": (1, 1, 1)}, RuntimeError, "stride must be one integer or a pair (rows, columns), got (1, 1, 1)"),
    (X, W, {"stride": 1.0}, TypeError, "stride must be integers, got float 1.0"),
    (X, W, {"stride": True}, TypeError, "stride must be integers, got bool True"),
    (X, W, {"dilation": 0}, RuntimeError, "dilation must be at least 1, got 0"),
    (X, W, {"padding": -1}, RuntimeError, "padding must be at least 0, got -1"),
    (X, W, {"padding": "full"}, RuntimeError, "'same' or 'valid', got 'full'"),
    (X, W, {"padding": "same", "stride": 2}, RuntimeError, "padding='same' needs stride 1, got stride (2, 2)"),
    (X, W, {"groups": 0}, RuntimeError, "groups must be at least 1, got 0"),
    ((8, 4, 2, 32), W, {}, RuntimeError, "is 2 + 0 (padding) = 2 high, too small for a kernel of 3;"),
    ((8, 4, 32, 2), W, {"padding": 1, "dilation": 2}, RuntimeError,
     "is 2 + 2 (padding) = 4 wide, too small for a kernel of 3 that dilation spreads over 5;"),
    ((8, 4, 0, 8), W, {"padding": 3}, RuntimeError, "is 0 + 6 (padding) = 6 high, too small"),
]


@pytest.mark.parametrize(("input_shape", "weight_shape", "options", "kind", "message"), CONV_ERRORS)
def test_conv2d_errors(input_shape, weight_shape, options, kind, message):
    with pytest.raises(kind, match="^conv2d: .*" + re.escape(message.removeprefix("conv2d: "))):
        conv2d_geometry(input_shape, weight_shape, **options)


@pytest.mark.parametrize(("input_shape", "weight_shape", "options", "kind", "message"), CONV_ERRORS)
def test_conv2d_error_types_are_pytorchs(input_shape, weight_shape, options, kind, message):
    torch = pytest.importorskip("torch")
    with pytest.raises(kind):
        torch.nn.functional.conv2d(torch.zeros(input_shape), torch.zeros(weight_shape), **options)


POOL_ERRORS = [
    ((8, 8), {"kernel_size": 2}, RuntimeError, "input must have the 4 dimensions (N, C, H, W), got 2"),
    ((2, 0, 8, 8), {"kernel_size": 2}, RuntimeError, "input (2, 0, 8, 8) is empty; only N may be 0"),
    ((2, 4, 0, 8), {"kernel_size": 2}, RuntimeError, "is empty"),
    (X, {"kernel_size": 0}, RuntimeError, "kernel_size must be at least 1, got 0"),
    (X, {"kernel_size": (2, 2, 2)}, RuntimeError, "kernel_size must be one integer or a pair"),
    (X, {"kernel_size": 2.0}, TypeError, "kernel_size must be integers, got float 2.0"),
    (X, {"kernel_size": 2, "stride": 0}, RuntimeError, "stride must be at least 1, got 0"),
    (X, {"kernel_size": 2, "padding": -1}, RuntimeError, "padding must be at least 0, got -1"),
    (X, {"kernel_size": 3, "padding": 2}, RuntimeError, "padding (2, 2) is more than half of the kernel (3, 3)"),
    (X, {"kernel_size": 33}, RuntimeError, "is 32 + 2 * 0 (padding) = 32 high, too small for a window of 33;"),
]


@pytest.mark.parametrize(("input_shape", "options", "kind", "message"), POOL_ERRORS)
@pytest.mark.parametrize(("make", "op"), [(max_pool2d_geometry, "max_pool2d"), (avg_pool2d_geometry, "avg_pool2d")])
def test_pool2d_errors(make, op, input_shape, options, kind, message):
    with pytest.raises(kind, match=f"^{op}: .*" + re.escape(message)):
        make(input_shape, **options)


@pytest.mark.parametrize(("input_shape", "options", "kind", "message"), POOL_ERRORS)
def test_pool2d_error_types_are_pytorchs(input_shape, options, kind, message):
    torch = pytest.importorskip("torch")
    with pytest.raises(kind):
        torch.nn.functional.max_pool2d(torch.zeros(input_shape), **options)


def test_max_pool2d_dilation_errors():
    with pytest.raises(RuntimeError, match="dilation must be at least 1"):
        max_pool2d_geometry(X, 2, dilation=0)
    with pytest.raises(RuntimeError, match="too small for a window of 3 that dilation spreads over 41"):
        max_pool2d_geometry(X, 3, dilation=20)


def test_avg_pool2d_divisor_error():
    with pytest.raises(RuntimeError, match="divisor_override must not be zero"):
        avg_pool2d_geometry(X, 2, divisor_override=0)
    assert avg_pool2d_geometry(X, 2, divisor_override=3).output_shape == (8, 4, 16, 16)


@pytest.mark.parametrize(("size", "expected"), [(3, (3, 3)), ((None, 2), (7, 2)), ([4, None], (4, 9)), (0, (0, 0))])
def test_adaptive_size(size, expected):
    assert adaptive_pool_size("adaptive_avg_pool2d", (2, 3, 7, 9), size) == expected


@pytest.mark.parametrize(("shape", "size", "kind"), [
    ((2, 3, 7, 9), -1, RuntimeError), ((2, 3, 7, 9), (1, 1, 1), RuntimeError), ((3, 3), 2, RuntimeError),
    ((2, 3, 0, 9), 2, RuntimeError), ((2, 3, 7, 9), 2.0, TypeError)])
def test_adaptive_errors(shape, size, kind):
    with pytest.raises(kind, match=r"^adaptive_avg_pool2d: "):
        adaptive_pool_size("adaptive_avg_pool2d", shape, size)
    torch = pytest.importorskip("torch")
    with pytest.raises(kind):
        torch.nn.functional.adaptive_avg_pool2d(torch.zeros(shape), size)


def drawn_sizes(draw):
    return draw.randint(1, 17), draw.randint(1, 17)


def outcome(make, *args, **options):
    """The output's sizes, or RuntimeError."""
    try:
        return tuple(make(*args, **options))
    except RuntimeError:
        return RuntimeError


def test_conv2d_sizes_are_pytorchs():
    torch = pytest.importorskip("torch")
    draw = random.Random(0)
    for _ in range(2000):
        groups, C, OC = draw.randint(1, 3), draw.randint(1, 3), draw.randint(1, 3)
        shape = (draw.randint(0, 3), C * groups, *drawn_sizes(draw))
        weight_shape = (OC * groups, C, draw.randint(1, 6), draw.randint(1, 6))
        options = {"stride": (draw.randint(1, 4), draw.randint(1, 4)), "dilation": draw.randint(1, 3),
                   "padding": draw.choice([0, 1, 3, (2, 0), (1, 4), "valid"]), "groups": groups}
        theirs = outcome(lambda *args, **options: torch.nn.functional.conv2d(*args, **options).shape,
                         torch.empty(shape, device="meta"), torch.empty(weight_shape, device="meta"), **options)
        ours = outcome(lambda *args, **options: conv2d_geometry(*args, **options).output_shape,
                       shape, weight_shape, **options)
        assert ours == theirs, (shape, weight_shape, options)


def test_pool2d_sizes_are_pytorchs():
    torch = pytest.importorskip("torch")
    draw = random.Random(1)
    for _ in range(2000):
        shape = (draw.randint(0, 3), 2, *drawn_sizes(draw))
        options = {"kernel_size": (draw.randint(1, 5), draw.randint(1, 5)), "padding": draw.randint(0, 2),
                   "stride": draw.choice([None, 1, 2, 3, (3, 5)]), "ceil_mode": draw.random() < 0.5}
        if draw.random() < 0.5:
            op, make = torch.nn.functional.avg_pool2d, avg_pool2d_geometry
        else:
            op, make = torch.nn.functional.max_pool2d, max_pool2d_geometry
            options["dilation"] = draw.randint(1, 3)
        theirs = outcome(lambda *args, op=op, **options: op(*args, **options).shape,
                         torch.empty(shape, device="meta"), **options)
        ours = outcome(lambda *args, make=make, **options: make(*args, **options).output_shape, shape, **options)
        assert ours == theirs, (op, shape, options)


def test_made_once_and_immutable():
    g = conv2d_geometry(X, W, (1, 1), (1, 1), (1, 1), 1)
    assert conv2d_geometry(X, W, (1, 1), (1, 1), (1, 1), 1) is g
    with pytest.raises(AttributeError, match="Conv2dGeometry is immutable"):
        g.stride_h = 2
    with pytest.raises(AttributeError):
        del g.stride_h
    assert g.packed == pickle.loads(pickle.dumps(g)).packed


def test_lists_are_accepted():
    assert conv2d_geometry(list(X), list(W), [1, 1], [1, 1], [1, 1]).output_shape == (8, 16, 32, 32)
    assert max_pool2d_geometry(list(X), [2], []).output_shape == (8, 4, 16, 16)
    assert avg_pool2d_geometry(list(X), [2, 4]).output_shape == (8, 4, 16, 8)
    with pytest.raises(TypeError, match="stride must be integers"):
        conv2d_geometry(X, W, [1.5, 1])


def test_repr_names_every_size():
    text = repr(max_pool2d_geometry(X, 2))
    assert text.startswith("Pool2dGeometry(N=8, C=4, H=32, W=32, KH=2, KW=2, OH=16, OW=16, stride_h=2")
