"""``explain.algorithms``, ``matrix``, ``channels``, ``correlation_vs_convolution``: all are the layer, seen
differently."""

import re

import numpy as np
import pytest

import minidl
from minidl import explain, nn
from minidl.nn import functional as F

LAYERS = [nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=(1, 2), groups=2),
          nn.Conv2d(4, 4, 3, dilation=2, groups=4, bias=False),
          nn.Conv2d(2, 3, 3, padding="same", padding_mode="reflect"),
          nn.Conv2d(2, 2, 1, stride=3), nn.Conv2d(4, 2, 3, groups=2)]


def image_for(layer):
    minidl.manual_seed(0)
    return minidl.randn(2, layer.in_channels, 9, 8, dtype=minidl.float64)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_all_ways_agree(layer):
    layer, images = layer.double(), image_for(layer)
    found = explain.algorithms(layer, images)
    names = [way.name for way in found.ways if not way.reason]
    assert len(names) == (6 if layer.kernel_size == (3, 3) and layer.dilation == (1, 1) and layer.stride == (1, 1)
                          else 5)
    for way in found.ways:
        assert way.reason or way.difference < 1e-10, way  # float64, sums in another order
    for output in found.outputs.values():
        np.testing.assert_allclose(output, layer(images).detach().numpy(), rtol=0, atol=1e-10)
    product = found.kernels @ found.columns
    per_group = layer.out_channels // layer.groups
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()[:per_group, None]
    np.testing.assert_allclose(product + bias, layer(images).detach().numpy()[0, :per_group].reshape(per_group, -1),
                               atol=1e-10)


def test_every_way_is_a_dozen_lines_that_can_be_read():
    found = explain.algorithms(nn.Conv2d(1, 1, 3), minidl.randn(1, 5, 5))
    for name in ("direct loops", "shifted sums", "im2col + product", "FFT", "Winograd"):
        source = found.source(name)
        assert source.startswith("def ") and len(source.splitlines()) <= 24
        assert name in str(found)
    with pytest.raises(ValueError, match="there is no way 'GEMM'; there are direct loops, "):
        found.source("GEMM")


def test_what_is_left_out_has_a_reason():
    found = explain.algorithms(nn.Conv2d(8, 64, 5, padding=2), minidl.randn(1, 8, 24, 24))
    assert "direct loops is left out: 7,372,800 multiply-adds are too many for Python" in str(found)
    assert "Winograd is left out: F(2x2, 3x3) is for kernels of 3x3" in str(found)
    with pytest.raises(TypeError, match=r"explain\.algorithms: needs a Conv2d, got Linear"):
        explain.algorithms(nn.Linear(2, 2), minidl.randn(1, 2, 2, 2))


MATRICES = [*LAYERS, nn.Conv1d(2, 2, 3, padding=1), nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, groups=2),
            nn.ConvTranspose1d(2, 1, 2, stride=3)]


@pytest.mark.parametrize("layer", MATRICES, ids=str)
def test_forward_is_a_matrix_and_backward_its_transpose(layer):
    layer = layer.double()
    minidl.manual_seed(0)
    image = minidl.randn(layer.in_channels, *(9, 8)[:layer.sides], dtype=minidl.float64).requires_grad_()
    found = explain.matrix(layer, image.shape)
    output = layer(image)
    bias = 0 if layer.bias is None else layer.bias.detach().numpy().reshape(-1, *[1] * layer.sides)
    made = (found @ image.detach().numpy().ravel()).reshape(output.shape) + bias
    np.testing.assert_allclose(made, output.detach().numpy(), atol=1e-12)
    grad_output = minidl.randn(*output.shape, dtype=minidl.float64)
    output.backward(grad_output)
    np.testing.assert_allclose(found.T @ grad_output.numpy().ravel(), image.grad.numpy().ravel(), atol=1e-12)
    np.testing.assert_array_equal(found.dense().T, found.T.dense())


def test_a_matrix_in_text():
    layer = nn.Conv1d(1, 1, 2, bias=False)
    with minidl.no_grad():
        layer.weight.copy_(minidl.tensor([[[1.0, 2.0]]]))
    lines = str(explain.matrix(layer, (1, 4))).splitlines()
    assert lines[1] == "3 x 4: 6 of 12 entries can be other than zero (50 %)"
    assert [line.split() for line in lines[3:]] == [list("1200"), list("0120"), list("0012")]
    with pytest.raises(ValueError, match="needs 4 numbers"):
        explain.matrix(layer, (1, 4)) @ np.zeros(3)
    with pytest.raises(ValueError, match="use a smaller input"):
        explain.matrix(nn.Conv2d(3, 8, 3), (3, 64, 64)).dense()


CHANNELS = [nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 6, 3, stride=2, groups=2, dilation=2),
            nn.Conv2d(1, 10, 3, padding=1, padding_mode="circular"), nn.Conv2d(12, 2, 3, padding="same"),
            nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, output_padding=1)]


@pytest.mark.parametrize("layer", CHANNELS, ids=str)
def test_maps_add_up_to_the_output(layer):
    pytest.importorskip("matplotlib")
    minidl.manual_seed(0)
    images = minidl.randn(2, layer.in_channels, 12, 10)
    figure, maps = explain.channels(layer, images, n=1)
    output = layer(images).detach().numpy()
    assert maps.shape == (2, layer.out_channels, layer.in_channels, *output.shape[2:])
    made = maps.sum(2) + layer.bias.detach().numpy().reshape(-1, 1, 1)
    assert np.abs(made - output).mean() < 1e-6
    assert str(layer) in figure.get_suptitle()
    titles = [axes.get_title() for axes in figure.axes]
    assert "X(0) * K(0, 0)" in titles
    assert ("another group" in titles) == (layer.groups > 1)
    assert ("have no room here" in figure.get_suptitle()) == (max(layer.in_channels, layer.out_channels) > 8)


def test_a_digit_and_a_colour_photograph():
    pytest.importorskip("matplotlib")
    from minidl.datasets import EmbeddedDigits

    image, _ = EmbeddedDigits(train=False)[0]
    figure = explain.channels(nn.Conv2d(1, 2, 3), image).figure
    assert [axes.get_title() for axes in figure.axes][:2] == ["input", figure.axes[1].get_title()]
    photograph = np.random.default_rng(0).integers(0, 256, (3, 10, 12)).astype(np.uint8)
    figure, maps = explain.channels(nn.Conv2d(3, 2, 3), photograph, image=photograph.transpose(1, 2, 0))
    titles = [axes.get_title() for axes in figure.axes]
    assert {"red channel 0", "green channel 1", "blue channel 2"} <= set(titles)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), photograph.transpose(1, 2, 0))
    assert maps.shape == (1, 2, 3, 8, 10)


def test_correlation_and_convolution():
    kernel = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    found = explain.correlation_vs_convolution(kernel)
    np.testing.assert_array_equal(found.convolution[1:4, 1:4], kernel)  # prints the kernel where the 1 is
    np.testing.assert_array_equal(found.correlation[1:4, 1:4], np.rot90(kernel, 2))
    assert not found.same and "Conv2d is a cross-correlation" in str(found)
    assert "<table>" in found._repr_html_()
    assert explain.correlation_vs_convolution(np.ones((3, 3))).same
    signal = pytest.importorskip("scipy.signal")
    draw = np.random.default_rng(0)
    kernel, image = draw.standard_normal((3, 5)), draw.standard_normal((8, 9))
    found = explain.correlation_vs_convolution(kernel, image)
    np.testing.assert_allclose(found.correlation, signal.correlate2d(image, kernel, "same"), atol=1e-12)
    np.testing.assert_allclose(found.convolution, signal.convolve2d(image, kernel, "same"), atol=1e-12)


def test_what_a_layer_computes_is_the_correlation():
    found = explain.correlation_vs_convolution([[0.0, 1.0], [2.0, 3.0]], [[1.0, 2.0, 0.0], [0.0, 3.0, 1.0]])
    made = F.conv2d(minidl.tensor(found.image)[None, None], minidl.tensor(found.kernel)[None, None], padding=1)
    np.testing.assert_array_equal(found.correlation, made.numpy()[0, 0])


def test_pictures():
    pytest.importorskip("matplotlib")
    ways = explain.algorithms(nn.Conv2d(2, 3, 3), minidl.randn(1, 2, 6, 6)).figure()
    assert "column matrix" in "".join(axes.get_title() for axes in ways.axes)
    matrix = explain.matrix(nn.Conv2d(1, 1, 3), (1, 6, 6)).figure()
    assert matrix.axes[0].get_xlabel() == "input number (c, ih, iw)"
    both = explain.correlation_vs_convolution([[1, 2], [3, 4]]).figure()
    assert len(both.axes) == 6


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: explain.channels(nn.Conv1d(1, 1, 3), minidl.randn(1, 1, 5)), TypeError, "needs a layer over images"),
    (lambda: explain.channels(nn.Conv2d(1, 1, 3), minidl.randn(1, 1, 5, 5), n=1), IndexError, "there is no image 1"),
    (lambda: explain.matrix(nn.MaxPool2d(2), (1, 4, 4)), TypeError, "explain.matrix: needs a convolution layer"),
    (lambda: explain.correlation_vs_convolution([1, 2, 3]), ValueError,
     "kernel must be a matrix (KH, KW), got shape (3,)"),
    (lambda: explain.correlation_vs_convolution([[1]], [1, 2]), ValueError, "image must be a matrix (H, W)"),
])
def test_mistakes_are_explained(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call()
