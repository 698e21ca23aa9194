"""``explain.network``: tables and graphs that say what the model does, without changing it."""

import re

import numpy as np
import pytest

import minidl
from minidl import explain, nn


def lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 10))


class Branches(nn.Module):
    """Two ways of different fields that meet again, and a batch norm that would count a training step."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Conv2d(2, 3, 3, padding=1)
        self.wide = nn.Conv2d(2, 3, 3, padding=3, dilation=3)
        self.norm = nn.BatchNorm2d(3)
        self.down = nn.Conv2d(3, 4, 3, stride=2)
        self.up = nn.ConvTranspose2d(4, 2, 4, stride=2)

    def forward(self, x):
        return self.up(self.down(self.norm(self.narrow(x) + self.wide(x))))


def test_a_lenets_table():
    found = explain.network(lenet(), (2, 1, 28, 28))
    assert [row.path for row in found.rows] == list("01234567")
    assert [row.output_shape for row in found.rows[:3]] == [(2, 6, 28, 28), (2, 6, 28, 28), (2, 6, 14, 14)]
    assert [row.receptive_field for row in found.rows] == [
        (5, 5), (5, 5), (6, 6), (14, 14), (14, 14), (16, 16), (16, 16), None]
    assert found.rows[3].multiply_adds == 2 * 16 * 100 * 150
    assert found.rows[7].multiply_adds == 2 * 4000
    assert [row.parameters for row in found.rows] == [156, 0, 0, 2416, 0, 0, 0, 4010]
    assert [row.bytes for row in found.rows[5:]] == [2 * 400 * 4, 0, 2 * 10 * 4]
    assert found.parameters == 156 + 2416 + 4010
    assert "6,582 parameters, 723,200 multiply-adds" in str(found)
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize(("model", "channels"), [(Branches(), 2), (lenet()[:6], 1),
                                                 (nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Conv2d(2, 2, 2)), 2)],
                         ids=["branches", "lenet", "adaptive"])
def test_the_receptive_field_is_what_a_number_depends_on(model, channels):
    """The gradients of some output number reach both ends of it and no further."""
    shape = (1, channels, 31, 31)
    model = model.double()
    with minidl.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)  # positive: nothing cancels and no ReLU is shut
    field = explain.network(model, shape).rows[-1].receptive_field
    model.eval()
    largest = np.zeros(2, int)
    for back in range(2):
        seen = []  # by any of some images: a max pooling passes only one number of a window on
        for seed in range(20):
            minidl.manual_seed(seed)
            image = (minidl.rand(*shape, dtype=minidl.float64) + 0.1).requires_grad_()
            output = model(image)
            place = output.shape[2] // 2 - back, output.shape[3] // 2 - back
            output[(0, 0, *place)].backward()
            seen.append(np.argwhere(image.grad.numpy()[0].any(0)))
        seen = np.concatenate(seen)
        largest = np.maximum(largest, seen.max(0) - seen.min(0) + 1)
    assert tuple(largest) == field


def test_the_tape():
    model = Branches()
    found = explain.network(model, (1, 2, 12, 12))
    tape = found.tape().splitlines()
    assert len(tape) == len(found.steps) + 1
    assert "conv2d(input (1, 2, 12, 12), narrow.weight (3, 2, 3, 3), narrow.bias (3,))" in tape[0]
    assert re.search(r"add\(#1 \(1, 3, 12, 12\), #2 \(1, 3, 12, 12\)\)", tape[2])
    assert tape[-1].strip() == f"output {found.output_shape}"
    dot = found.dot()
    assert dot.count("->") == sum(len(step.sources) for step in found.steps) + 1
    assert '"narrow.weight" -> s1 [label=" 3 x 2 x 3 x 3"]' in dot


def test_the_graph():
    pytest.importorskip("graphviz")
    found = explain.network(lenet(), (1, 1, 28, 28))
    try:
        svg = found.svg()
    except RuntimeError as error:
        pytest.skip(str(error))
    assert svg.count("</g>") > 10 and ">conv2d<" in svg
    assert found.graph() == svg and "<svg" in found._repr_html_()


def test_without_graphviz_the_graph_is_text(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "graphviz", None)
    found = explain.network(lenet(), (1, 1, 28, 28))
    with pytest.raises(ImportError, match=re.escape("pip install 'minidl[explain]'")):
        found.svg()
    assert found.graph() == found.tape()
    assert "<pre>" in found._repr_html_()


def test_the_model_is_left_as_it_was():
    model = Branches()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explain.network(model, (2, 2, 12, 12))
    assert model.training and not model.norm.training
    assert all(minidl.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(RuntimeError):
        explain.network(model, (2, 3, 12, 12))
    assert model.training and not model.norm.training
    assert not any(module._forward_hooks for module in model.modules())


def test_frozen_models_and_models_without_layers():
    frozen = lenet().requires_grad_(False)
    assert explain.network(frozen, (1, 1, 28, 28)).rows[5].receptive_field == (16, 16)
    single = explain.network(nn.Conv2d(1, 2, 3), (1, 1, 5, 5))
    assert [row.path for row in single.rows] == ["Conv2d"]
    with pytest.raises(TypeError, match=r"explain\.network: needs a Module, got int"):
        explain.network(3, (1, 1, 5, 5))
