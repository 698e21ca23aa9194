"""``explain.pixel`` and ``pixel_grad``: what they sum up is what the layer and the tape give."""

import random
import re

import numpy as np
import pytest

import minidl
from minidl import explain, nn


def drawn_layer(draw):
    """A convolution layer of any kind in float64, and an input that fits it."""
    kind = draw.choice([nn.Conv1d, nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d])
    sides = int(kind.__name__[-2])
    groups = draw.choice([1, 1, 2, 3])
    C, OC = groups * draw.randint(1, 2), groups * draw.randint(1, 2)

    def per_side(least, most):
        return tuple(draw.randint(least, most) for _ in range(sides))

    options = {"stride": per_side(1, 3), "dilation": per_side(1, 2), "padding": per_side(0, 2), "groups": groups,
               "bias": draw.random() < 0.8}
    if kind in (nn.Conv1d, nn.Conv2d):
        options["padding_mode"] = draw.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
        if draw.random() < 0.15:
            options |= {"padding": "same", "stride": 1}
    elif max(options["stride"]) > 1:
        options["output_padding"] = tuple(min(1, step - 1) for step in options["stride"])
    layer = kind(C, OC, per_side(1, 3), **options).double()
    return layer, minidl.randn(draw.randint(1, 2), C, *per_side(6, 9), dtype=minidl.float64)


def drawn_index(draw, shape):
    return tuple(draw.randrange(size) for size in shape)


def test_500_positions_sum_up_to_the_layers_output():
    minidl.manual_seed(0)
    draw = random.Random(0)
    for _ in range(100):
        layer, images = drawn_layer(draw)
        with minidl.no_grad():
            output = layer(images)
        for _ in range(5):
            position = drawn_index(draw, output.shape)
            found = explain.pixel(layer, images, *position)
            assert found.output == output[position].item()
            # Sums in another order, in float64.
            np.testing.assert_allclose(found.value, found.output, rtol=0, atol=1e-13)
            np.testing.assert_allclose(found.products.sum() + found.bias, found.value, rtol=0, atol=1e-13)
            _assert_windows_are_of_the_input(found, images.numpy(), position[0])


def _assert_windows_are_of_the_input(found, images, n):
    """Every number of a window is the input's at the place that ``sources`` says, or 0."""
    for i, c in enumerate(found.channels):
        for tap in np.ndindex(found.windows.shape[1:]):
            place = tuple(side[k] for side, k in zip(found.sources, tap, strict=True))
            assert found.windows[i][tap] == (0 if -1 in place else images[n, c][place])


@pytest.mark.parametrize("of", ["weight", "input"])
def test_gradients_sum_up_to_autograds(of):
    minidl.manual_seed(1)
    draw = random.Random(2)
    for _ in range(60):
        layer, images = drawn_layer(draw)
        images.requires_grad_(True)
        output = layer(images)
        grad_output = minidl.randn(*output.shape, dtype=minidl.float64)
        output.backward(grad_output)
        expected = layer.weight.grad if of == "weight" else images.grad
        layer.weight.grad = None
        for _ in range(3):
            index = drawn_index(draw, expected.shape)
            found = explain.pixel_grad(layer, images, index, of, grad_output)
            assert found.grad == pytest.approx(expected[index].item(), abs=1e-12)
            np.testing.assert_allclose(found.value, found.grad, rtol=0, atol=1e-12)
        assert layer.weight.grad is None
        images.grad = None


def test_each_contribution_is_one_product():
    """The terms themselves, not only their sum: each against a loss that is one output number."""
    minidl.manual_seed(0)
    layer, images = nn.Conv2d(2, 2, 3, stride=2, padding=1, padding_mode="reflect").double(), minidl.randn(1, 2, 5, 5)
    found = explain.pixel_grad(layer, images, (0, 1, 1, 3), "input")
    totals: dict[tuple, float] = {}
    for row in found.contributions:
        place = tuple(int(row[name]) for name in ("n", "oc", "oh", "ow"))
        totals[place] = totals.get(place, 0) + row["product"]
        assert row["product"] == row["grad_output"] * row["factor"]
        assert row["factor"] == layer.weight[int(row["oc"]), 1, int(row["kh"]), int(row["kw"])].item()
    for place in np.ndindex(1, 2, 3, 3):
        one = images.double().requires_grad_(True)
        layer(one)[place].backward()
        assert totals.get(place, 0) == pytest.approx(one.grad[0, 1, 1, 3].item(), abs=1e-14)


def test_the_text_shows_padding_as_padding():
    layer = nn.Conv2d(1, 1, 3, padding=1)
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]]]))
        layer.bias.fill_(0.5)
    found = explain.pixel(layer, minidl.tensor([[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]), 0, 0, oh=0, ow=0)
    lines = [re.sub(" +", " ", line.strip()) for line in str(found).splitlines()]
    assert lines[3:6] == ["channel 0: window kernel products", "[0] [0] [0] -1 0 1 0 0 0", "[0] 1 2 -2 0 2 0 0 4"]
    assert "sum of the products: 9" in lines
    assert "value = channel and bias = 9 + 0.5 = 9.5" in lines
    assert "[ ] lies in the padding (zeros)" in lines
    html = found._repr_html_()
    assert html.count("dashed") == 5
    assert "lies in the padding" in html
    assert found.padding.tolist() == [[True, True, True], [True, False, False], [True, False, False]]


def test_texts_of_gradients():
    minidl.manual_seed(0)
    layer = nn.Conv2d(1, 1, 3)
    found = explain.pixel_grad(layer, minidl.randn(1, 8, 8), (0, 0, 0, 0))
    assert "grad_weight[0, 0, 0, 0] is the sum of 36 products" in str(found)
    assert "the 12 largest of 36" in str(found)
    assert len(found.contributions) == 36
    assert "<table>" in found._repr_html_()
    corner = explain.pixel_grad(layer, minidl.randn(1, 8, 8), (0, 0, 0, 0), of="input")
    assert len(corner.contributions) == 1  # only one window has the corner


def test_float32_layers_are_compared_honestly():
    minidl.manual_seed(0)
    layer, images = nn.Conv2d(16, 8, 3, padding=1), minidl.randn(2, 16, 9, 9)
    found = explain.pixel(layer, images, 1, 3, 4, 5)
    assert 0 < abs(found.value - found.output) < 1e-5  # float32 rounds, the explanation does not
    assert layer.weight.grad is None


def test_a_frozen_layer_stays_frozen():
    layer = nn.Conv2d(1, 1, 3).requires_grad_(False)
    images = minidl.randn(1, 1, 4, 4)
    for of in ("weight", "input"):
        found = explain.pixel_grad(layer, images, (0, 0, 1, 1), of)
        assert found.value == pytest.approx(found.grad, abs=1e-5)
    assert not layer.weight.requires_grad


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda layer, x: explain.pixel(nn.MaxPool2d(2), x, 0, 0, 0, 0), TypeError, "needs a convolution layer (Conv1d"),
    (lambda layer, x: explain.pixel(layer, x, 0, 0, 4, 0), IndexError, "oh=4 is outside of the output (1, 2, 4, 4)"),
    (lambda layer, x: explain.pixel(layer, x, 0, 2, 0, 0), IndexError, "oc=2 is outside of the output"),
    (lambda layer, x: explain.pixel(layer, x, 0, 0, 0), TypeError,
     "a place in the output (1, 2, 4, 4) is n, oc, oh, ow"),
    (lambda layer, x: explain.pixel(layer, x, 0, 0, oh=0, ol=0), TypeError, "is n, oc, oh, ow; got 0 numbers after oc"),
    (lambda layer, x: explain.pixel(layer, x[:, :1], 0, 0, 0, 0), RuntimeError, "has 1 channels, weight (2, 3, 3, 3)"),
    (lambda layer, x: explain.pixel_grad(layer, x, (0, 0, 3, 0)), IndexError, "(0, 0, 3, 0) is no entry of the weight"),
    (lambda layer, x: explain.pixel_grad(layer, x, (0, 0), "input"), IndexError, "which is (1, 3, 6, 6)"),
    (lambda layer, x: explain.pixel_grad(layer, x, (0, 0, 0, 0), "bias"), ValueError, "or 'input', got 'bias'"),
    (lambda layer, x: explain.pixel_grad(layer, x, (0, 0, 0, 0), "input", x), RuntimeError, "the output's shape (1, 2"),
])
def test_mistakes_are_explained(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call(nn.Conv2d(3, 2, 3), minidl.zeros(1, 3, 6, 6))
