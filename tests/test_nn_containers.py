"""Sequential, ModuleList, ModuleDict, ParameterList: what lists and dictionaries do, and the names inside."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import minidl
from minidl import nn


def names(module):
    return [name for name, _ in module.named_children()]


def sizes(modules):
    return [module.out_features for module in modules]


def row(kind, *widths):
    layers = [nn.Linear(1, width) for width in widths]
    return kind(*layers) if kind is nn.Sequential else kind(layers)


def test_sequential_calls_in_order():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    x = minidl.ones(2, 2, 2)
    assert minidl.equal(net(x), net[1](x.flatten(1)).relu())
    assert minidl.equal(nn.Sequential()(x), x)


def test_sequential_with_names():
    net = nn.Sequential(OrderedDict(first=nn.Linear(1, 2), second=nn.Linear(2, 3)))
    assert names(net) == ["first", "second"]
    assert net.first is net[0]
    assert names(net[1:]) == ["second"]
    net.append(nn.Linear(3, 4))
    assert names(net) == ["first", "second", "2"]
    del net[0]
    assert names(net) == ["second", "2"]


@pytest.mark.parametrize("kind", [nn.Sequential, nn.ModuleList])
def test_rows_are_lists(kind):
    net = row(kind, 1, 2, 3, 4)
    assert len(net) == 4
    assert sizes(net) == [1, 2, 3, 4]
    assert net[-1] is net[3]
    assert isinstance(net[1:3], kind)
    assert sizes(net[1:3]) == [2, 3]
    assert sizes(net[::-1]) == [4, 3, 2, 1]
    net[-1] = nn.Linear(1, 9)
    assert sizes(net) == [1, 2, 3, 9]
    assert net.append(nn.Linear(1, 5)) is net
    net.insert(0, nn.Linear(1, 7))
    net.extend([nn.Linear(1, 8)])
    assert sizes(net) == [7, 1, 2, 3, 9, 5, 8]
    assert names(net) == list("0123456")
    assert net.pop(1).out_features == 1
    del net[-1]
    assert sizes(net) == [7, 2, 3, 9, 5]
    del net[1:4]
    assert sizes(net) == [7, 5]
    assert names(net) == ["0", "1"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    net += row(kind, 6)
    assert sizes(net) == [7, 5, 6]
    assert isinstance(net + row(kind, 4), kind)
    assert sizes(net + row(kind, 4)) == [7, 5, 6, 4]
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"index {wrong} is out of range"):
            net[wrong]
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        net.append(3)


def test_sequential_adds_only_its_kind():
    with pytest.raises(ValueError, match="add operator supports only objects of Sequential class"):
        nn.Sequential() + [nn.ReLU()]


def test_module_dict():
    net = nn.ModuleDict({"a": nn.Linear(1, 2)})
    net["b"] = nn.ReLU()
    net.update([("c", nn.Tanh()), ("a", nn.Linear(1, 3))])
    assert list(net) == list(net.keys()) == names(net) == ["a", "b", "c"]
    assert len(net) == 3
    assert "b" in net
    assert "forward" not in net
    assert net["a"].out_features == 3
    assert net.a is net["a"] is next(iter(net.values()))
    assert net.pop("b") is not None
    assert [key for key, _ in net.items()] == ["a", "c"]
    other = nn.ModuleDict(net)
    assert other["a"] is net["a"]
    del net["a"]
    with pytest.raises(KeyError):
        net["a"]
    with pytest.raises(KeyError):
        del net["a"]
    net.clear()
    assert len(net) == 0
    with pytest.raises(KeyError, match="attribute 'keys' already exists"):
        net["keys"] = nn.ReLU()


def test_parameter_list():
    torch = pytest.importorskip("torch")
    made = []
    for library in (minidl, torch):
        Parameter = library.nn.Parameter
        values = library.nn.ParameterList([Parameter(library.ones(2)), Parameter(library.ones(1, 3))])
        values.append(library.zeros(4))
        values[0] = Parameter(library.zeros(2))
        assert len(values) == 3
        assert isinstance(values[2], Parameter)
        assert values[0].sum() == 0
        assert len(values[1:]) == 2
        made.append(values)
    ours, theirs = made
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["0", "1", "2"]
    assert repr(ours).count("Parameter containing: [minidl.float32 of size") == 3


def entries(library):
    return {"b": library.nn.Parameter(library.ones(2)), "a": library.zeros(1, 3)}


@pytest.mark.parametrize("library", ["minidl", "torch"])
def test_parameter_dict(library):
    """The same program in PyTorch shows that it is the same there."""
    library = minidl if library == "minidl" else pytest.importorskip("torch")
    given = entries(library)
    net = library.nn.ParameterDict(given)
    assert list(net) == list(net.keys()) == list(reversed(net))[::-1] == ["a", "b"]
    assert net["b"] is net.b is given["b"]
    assert isinstance(net["a"], library.nn.Parameter) and net["a"].requires_grad
    assert list(library.nn.ParameterDict(OrderedDict(given))) == list(library.nn.ParameterDict(given.items())) == [
        "b", "a"]
    net["c"] = library.ones(1)
    assert net.setdefault("c", library.zeros(1)).item() == 1
    assert net.setdefault("d", library.zeros(1)).item() == 0
    assert net.get("e") is None and net.get("c") is net["c"]
    assert list(net.state_dict()) == [name for name, _ in net.named_parameters()] == ["a", "b", "c", "d"]
    assert net.popitem()[0] == "d"
    assert net.pop("c").item() == 1
    assert len(net) == 2 and "c" not in net and "a" in net
    both = net | library.nn.ParameterDict({"z": library.ones(1)})
    assert list(both) == ["a", "b", "z"] and both["a"] is net["a"] and len(net) == 2
    copied = net.copy()
    net |= {"y": library.ones(1)}
    assert list(net) == ["a", "b", "y"] and list(copied) == ["a", "b"]
    assert [key for key, _ in net.fromkeys(["p", "q"], library.ones(1)).items()] == ["p", "q"]
    del net["y"]
    with pytest.raises(KeyError if library is minidl else AttributeError):
        net["y"]
    net.clear()
    assert len(net) == len(list(net.parameters())) == 0
    with pytest.raises(KeyError):
        net.popitem()


def test_parameter_dict_prints_and_refuses():
    net = nn.ParameterDict(entries(minidl))
    assert repr(net).splitlines()[1:] == ["  (a): Parameter containing: [minidl.float32 of size 1x3]",
                                          "  (b): Parameter containing: [minidl.float32 of size 2]", ")"]
    with pytest.raises(TypeError, match="expected a Parameter or another tensor, got int"):
        net["c"] = 3
    with pytest.raises(KeyError, match="attribute 'keys' already exists"):
        net["keys"] = minidl.ones(1)
