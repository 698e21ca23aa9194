"""Pictures of a training run, and what is said where matplotlib is missing."""

import csv
import re
import sys

import numpy as np
import pytest

import minidl
from minidl import explain, nn


def network():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(),
                         nn.Linear(27, 4))


def test_filters():
    pytest.importorskip("matplotlib")
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 20, 3), nn.ConvTranspose2d(2, 4, 2))
    coloured = explain.filters(model)
    assert len(coloured.axes) == 5  # a picture in colour for each kernel
    assert coloured.axes[0].images[0].get_array().shape == (3, 3, 3)
    second = explain.filters(model, "1")
    assert "16 of 20 kernels, 5 of 5 channels" in second.get_suptitle()
    np.testing.assert_array_equal(second.axes[16 * 2 + 3].images[0].get_array(), model[1].weight.detach()[3, 2].numpy())
    third = explain.filters(model, "2")
    np.testing.assert_array_equal(third.axes[4 + 2].images[0].get_array(), model[2].weight.detach()[1, 2].numpy())
    with pytest.raises(TypeError, match="'9' is no layer"):
        explain.filters(model, "9")
    with pytest.raises(ValueError, match="Linear has no Conv2d"):
        explain.filters(nn.Linear(2, 2))


def test_activations():
    pytest.importorskip("matplotlib")
    model, images = network(), minidl.randn(2, 1, 8, 8)
    figure, maps = explain.activations(model, images, n=1, classes=list("abcd"))
    assert list(maps) == list("012345")
    assert model.training and model[3].training and not any(module._forward_hooks for module in model.modules())
    x = images
    for path, layer in zip(maps, model.eval(), strict=True):
        x = layer(x)
        np.testing.assert_array_equal(maps[path], x.detach().numpy())
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == list("abcd")
    with pytest.raises(IndexError, match=r"there is no image 2; the input \(2, 1, 8, 8\) has 2"):
        explain.activations(model, images, n=2)
    with pytest.raises(TypeError, match="needs a Module, got function"):
        explain.activations(network, images)


def test_confusion():
    found = explain.confusion(minidl.tensor([0, 0, 1, 2]), np.array([0, 2, 1, 2]))
    assert found.counts.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert found.accuracy == 0.75
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[0] == ["75.00", "%", "of", "4", "answers", "are", "right"]
    assert lines[4] == ["0", "1", ".", "1"]
    logits = np.eye(3)[[0, 2, 1, 2]]
    assert explain.confusion([0, 0, 1, 2], logits, ["cat", "dog", "a<b"]).counts.tolist() == found.counts.tolist()
    assert "a&lt;b" in explain.confusion([0, 0, 1, 2], logits, ["cat", "dog", "a<b"])._repr_html_()


def test_confusion_is_drawn():
    pytest.importorskip("matplotlib")
    axes = explain.confusion([0, 0, 1, 2], [0, 2, 1, 2]).figure().axes[0]
    assert axes.get_xlabel() == "answer" and axes.get_ylabel() == "truth"
    assert sorted(text.get_text() for text in axes.texts) == ["1"] * 4


@pytest.mark.parametrize(("arguments", "message"), [
    (([0, 1], [0]), "belong together, got (2,) and (1,)"),
    (([0, 3], [0, 1], ["a", "b"]), "classes are 0 to 1, got 0 to 3"),
    (([0, -1], [0, 1]), "got -1 to 1")])
def test_confusion_of_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        explain.confusion(*arguments)


ROWS = [{"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 0.8, "test_loss": 2 / epoch, "test_accuracy": 0.7}
        for epoch in (1, 2, 3)]


def test_curves_of_a_file_and_of_rows(tmp_path):
    pytest.importorskip("matplotlib")
    with open(tmp_path / "run.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    for record in (ROWS, tmp_path / "run.csv", str(tmp_path / "run.csv")):
        loss, accuracy = explain.curves(record, title="run").axes
        assert [line.get_label() for line in loss.lines] == ["training", "test"]
        assert loss.lines[1].get_ydata().tolist() == [2, 1, 2 / 3]
        assert accuracy.get_ylabel() == "right answers (%)" and accuracy.get_xlabel() == "epoch"
    whole = explain.curves(ROWS, losses=[3.0, 2, 2, 1, 1, 0.5], rates=[0.1] * 6)
    assert len(whole.axes) == 3 and whole.axes[0].lines[0].get_xdata()[-1] == 3
    with pytest.raises(ValueError, match="has 0 rows and lacks epoch, train_loss"):
        explain.curves([])


def test_mistakes():
    pytest.importorskip("matplotlib")
    beliefs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    figure = explain.mistakes(np.zeros((3, 8, 8)), [0, 0, 0], beliefs, ["cat", "dog"])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["says dog (70 %), is cat", "says dog (60 %), is cat"]
    with pytest.raises(ValueError, match=re.escape("beliefs must be (3, 2), got (2, 2)")):
        explain.mistakes(np.zeros((3, 8, 8)), [0, 0, 0], beliefs[:2], ["cat", "dog"])


@pytest.mark.parametrize("call", [
    lambda: explain.filters(nn.Conv2d(1, 1, 3)), lambda: explain.channels(nn.Conv2d(1, 1, 3), minidl.zeros(1, 4, 4)),
    lambda: explain.activations(network(), minidl.zeros(1, 1, 8, 8)), lambda: explain.confusion([0], [0]).figure(),
    lambda: explain.curves(ROWS), lambda: explain.mistakes(np.zeros((1, 4, 4)), [0], [[1.0]], ["a"]),
    lambda: explain.animate(nn.Conv2d(1, 1, 3), (1, 4, 4)).figure(),
    lambda: explain.algorithms(nn.Conv2d(1, 1, 3), minidl.zeros(1, 4, 4)).figure(),
    lambda: explain.matrix(nn.Conv2d(1, 1, 3), (1, 4, 4)).figure(),
    lambda: explain.correlation_vs_convolution([[1]]).figure()])
def test_without_matplotlib_the_extra_is_named(monkeypatch, call):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=re.escape("needs matplotlib: pip install 'minidl[explain]', or pip install")):
        call()


def test_without_pillow_the_text_stays(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    film = explain.animate(nn.Conv2d(1, 1, 3), (1, 4, 4))
    assert "[o][o][o]" in film._repr_html_() and "needs Pillow: pip install" in film._repr_html_()
