"""``explain.shape`` says what PyTorch makes, and why; what does not fit is explained with the formula."""

import math
import random
import re

import numpy as np
import pytest

from minidl import explain, nn
from minidl.explain.shapes import transposed_field

SIZES = ("kernel_size", "stride", "padding", "dilation", "output_padding")


def drawn(draw: random.Random) -> tuple[str, tuple[int, ...], dict]:
    """An op of any kind and number of sides, a shape and options; now and then they do not fit."""
    sides = draw.choice([1, 2, 2, 3])
    family = draw.choice(["conv", "conv", "conv_transpose", "conv_transpose", "max_pool", "avg_pool",
                          "adaptive_avg_pool", "adaptive_max_pool"])
    groups = draw.choice([1, 1, 1, 2, 3])
    shape = (*draw.choice([(), (draw.randint(1, 3),)]), groups * draw.randint(1, 3),
             *(draw.randint(1, 12) for _ in range(sides)))

    def per_side(least, most):
        return draw.choice([draw.randint(least, most), tuple(draw.randint(least, most) for _ in range(sides))])

    if family.startswith("adaptive"):
        return f"{family}{sides}d", shape, {"output_size": per_side(1, 7)}
    options = {"kernel_size": per_side(1, 4), "stride": per_side(1, 4), "padding": per_side(0, 2)}
    if family in ("conv", "conv_transpose", "max_pool"):
        options["dilation"] = per_side(1, 3)
    if family in ("conv", "conv_transpose"):
        options |= {"out_channels": groups * draw.randint(1, 3), "groups": groups, "bias": draw.random() < 0.5}
    if family == "conv" and draw.random() < 0.2:
        options |= {"padding": draw.choice(["same", "valid"]), "stride": 1}
    if family == "conv_transpose":
        options["output_padding"] = per_side(0, 1)
    if family in ("max_pool", "avg_pool"):
        options["ceil_mode"] = draw.random() < 0.5
    return f"{family}{sides}d", shape, options


def class_name(op: str) -> str:
    return "".join(word.capitalize() for word in op[:-2].split("_")) + op[-2:]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_shapes_are_pytorchs(torch):
    """2,000 configurations by options, and the same layers of PyTorch's handed over themselves."""
    draw, refused = random.Random(0), 0
    for _ in range(2000):
        op, shape, options = drawn(draw)
        channels = shape[-1 - int(op[-2])]
        first = {"in_channels": channels} if "conv" in op else {}
        device = "cpu" if "transpose" in op else "meta"  # which does not look at output_padding
        where = {"device": device} if "conv" in op else {}
        layer = getattr(torch.nn, class_name(op))(**first, **options, **where)
        # PyTorch's avg_pool3d alone wants the kernel to fit without the padding; its sizes are those of max_pool3d.
        sized = torch.nn.MaxPool3d(**options) if op == "avg_pool3d" else layer
        try:
            expected = tuple(sized(torch.empty(shape, device=device)).shape)
        except RuntimeError:
            refused += 1
            with pytest.raises(RuntimeError, match=f"^{op}: "):
                explain.shape(op, shape, **options)
            continue
        if 0 in expected:  # PyTorch's transposed convolutions allow an output without pixels
            refused += 1
            with pytest.raises(RuntimeError, match=f"^{op}: "):
                explain.shape(op, shape, **options)
            continue
        for found in (explain.shape(op, shape, **options), explain.shape(layer, shape)):
            assert found.output_shape == expected, (op, shape, options)
            assert found.parameters == sum(parameter.numel() for parameter in layer.parameters())
            assert str(expected) in str(found)
    assert 100 < refused < 1000


@pytest.mark.parametrize(("layer", "shape"), [
    (nn.Conv1d(4, 6, 3, stride=2, groups=2), (2, 4, 17)), (nn.Conv2d(3, 6, (5, 3), padding="same"), (3, 9, 8)),
    (nn.Conv2d(2, 2, 3, padding=2, padding_mode="circular"), (1, 2, 5, 6)), (nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True),
    (2, 3, 12, 11)), (nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, bias=False), (1, 4, 5, 6)), (nn.AvgPool2d(2), (3, 7, 8)),
    (nn.ConvTranspose1d(4, 2, 3, dilation=3), (1, 4, 5)), (nn.AdaptiveAvgPool2d((None, 2)), (1, 3, 7, 9))])
def test_layers_of_minidl(layer, shape):
    from minidl import zeros

    found = explain.shape(layer, shape)
    assert found.output_shape == tuple(layer(zeros(shape)).shape)
    assert found.parameters == sum(parameter.numel() for parameter in layer.parameters())
    assert str(found).startswith(str(layer))
    assert repr(found) == str(found)


def test_the_derivation_has_the_numbers():
    text = str(explain.shape("conv2d", (1, 3, 32, 31), out_channels=6, kernel_size=5, stride=3, padding=2,
                             dilation=(1, 2)))
    assert "(32 + 2 + 2 - 1 * (5 - 1) - 1) // 3 + 1 = 11" in text
    assert "(31 + 2 + 2 - 2 * (5 - 1) - 1) // 3 + 1 = 9" in text
    assert "stride 3 does not divide 36 - 5 = 31: 31 = 10 * 3 + 1, so the last 1 row is seen by no window" in text
    assert "dilation 2 spreads the 5 taps of the kernel over 9" in text
    # What PyTorch's documentation calls receptive field, and the formulas' numbers evaluated once more.
    found = explain.shape("conv_transpose2d", (4, 8, 7), out_channels=2, kernel_size=3, stride=2, output_padding=1)
    for side in found.sides:
        assert eval(side.numbers) == side.output


def test_numbers_evaluate_to_the_size():
    draw, tried = random.Random(1), 0
    while tried < 200:
        op, shape, options = drawn(draw)
        try:
            found = explain.shape(op, shape, **options)
        except RuntimeError:
            continue
        tried += 1
        for side in found.sides:
            assert eval(side.numbers, {"ceil": math.ceil}) == side.output, (op, shape, options)


def test_costs():
    found = explain.shape(nn.Conv2d(6, 16, 5), (10, 6, 14, 14))
    assert found.parameters == 16 * 6 * 25 + 16
    assert found.multiply_adds == 10 * 16 * 100 * 6 * 25
    assert found.im2col_bytes == 10 * 6 * 25 * 100 * 4
    assert found.receptive_field == (5, 5)
    assert explain.shape(nn.Conv2d(6, 16, 5).double(), (10, 6, 14, 14)).im2col_bytes == 2 * found.im2col_bytes
    grouped = explain.shape(nn.Conv2d(6, 16, 5, groups=2), (10, 6, 14, 14))
    assert (grouped.multiply_adds, grouped.im2col_bytes) == (found.multiply_adds // 2, found.im2col_bytes)
    # What a convolution costs, its transpose costs too: the same taps meet the same pixels.
    back = explain.shape("conv_transpose2d", (10, 16, 10, 10), out_channels=6, kernel_size=5)
    assert (back.output_shape, back.multiply_adds) == ((10, 6, 14, 14), found.multiply_adds)
    assert explain.shape(nn.MaxPool2d(2), (10, 6, 14, 14)).multiply_adds == 0


@pytest.mark.parametrize("size", range(5, 14))
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_left_over_is_what_no_window_sees(size, stride):
    found = explain.shape("conv1d", (1, 1, size), out_channels=1, kernel_size=3, stride=stride, padding=1)
    seen = {o * stride + k for o in range(found.output_shape[-1]) for k in range(3)}
    assert found.sides[0].left_over == size + 2 - 1 - max(seen)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (3, 1, 2), (4, 2, 1), (2, 3, 1), (3, 2, 2),
                                                            (4, 3, 2), (1, 2, 1), (5, 2, 3)])
def test_the_field_of_a_transposed_convolution(kernel, stride, dilation):
    """Every output's input numbers, by trying all of them."""
    reached: dict[int, list[int]] = {}
    for i in range(12):
        for k in range(kernel):
            reached.setdefault(i * stride + k * dilation, []).append(i)
    assert transposed_field(kernel, stride, dilation) == max(max(seen) - min(seen) + 1 for seen in reached.values())


@pytest.mark.parametrize(("arguments", "options", "kind", "message"), [
    (("conv2d", (1, 3, 4, 4)), {"out_channels": 3, "kernel_size": 6}, RuntimeError,
     "too small for a kernel of 6; the output would be (4 + 0 + 0 - 1 * (6 - 1) - 1) // 1 + 1 = -1 high"),
    (("conv2d", (1, 3, 4, 9)), {"out_channels": 3, "kernel_size": 3, "dilation": 3, "padding": 1}, RuntimeError,
     "a kernel of 3 that dilation spreads over 7; the output would be (4 + 1 + 1 - 3 * (3 - 1) - 1) // 1 + 1 = 0 high"),
    (("max_pool2d", (3, 4, 1)), {"kernel_size": 2}, RuntimeError,
     "a window of 2; the output would be (1 + 0 + 0 - 1 * (2 - 1) - 1) // 2 + 1 = 0 wide"),
    (("conv_transpose1d", (3, 1)), {"out_channels": 3, "kernel_size": 3, "padding": 2}, RuntimeError,
     "output_padding + 1 = (1 - 1) * 1 - 2 * 2 + 1 * (3 - 1) + 0 + 1 = -1; use less padding"),
    (("conv2d", (1, 4, 8, 8)), {"out_channels": 6, "kernel_size": 3, "groups": 3}, ValueError,
     "4 input channels in 3 groups would be 4 / 3 = 1.33 in each; groups must divide the 4 input and the 6 output "
     "channels, as 1, 2 would"),
    (("conv2d", (1, 4, 8, 8)), {"out_channels": 6}, TypeError, "missing a required argument: 'kernel_size'"),
    (("conv2d", (1, 4, 8, 8)), {"out_channels": 6, "kernel_size": 3, "strid": 2}, TypeError, "argument 'strid'; its"),
    (("conv3d", (8, 8)), {"out_channels": 6, "kernel_size": 3}, RuntimeError, "input_shape must be (N, C, D, H, W), "),
    (("conv2d", (1, 4, 8, 8)), {"out_channels": 6, "kernel_size": 1.5}, TypeError, "'float' object"),
    (("conv4d", (1, 4, 8, 8)), {}, ValueError, "nothing is known of 'conv4d'; there are conv1d, conv2d, conv3d, "),
    ((nn.Linear(3, 4), (1, 3)), {}, TypeError, "Linear slides no window; there are Conv1d, Conv2d, "),
    ((nn.Conv2d(3, 4, 3), (1, 3, 8, 8)), {"stride": 2}, TypeError, "a layer has its own options; stride can only be"),
    ((nn.Conv2d(3, 4, 3), (1, 2, 8, 8)), {}, RuntimeError, "has 2 channels, weight (4, 3, 3, 3) with groups=1 needs 3"),
])
def test_what_does_not_fit_is_explained(arguments, options, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        explain.shape(*arguments, **options)


def test_sizes_of_numpy():
    found = explain.shape("conv1d", np.array([2, 3, 9]), out_channels=2, kernel_size=np.int64(3))
    assert found.output_shape == (2, 2, 7)
