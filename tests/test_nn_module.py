"""``Module``: attributes and tables, state dicts, conversion, copies."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest
from nn_twins import numbers

import minidl
from minidl import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("mean", minidl.zeros(3))
        self.register_buffer("cache", minidl.zeros(2), persistent=False)
        self.scale = nn.Parameter(minidl.ones(1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))

    def forward(self, x):
        return self.head(self.norm(self.conv1(x)) * self.scale)


# ---- attributes and tables -------------------------------------------------------------------------------------------


def test_what_is_inside():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale", "conv1.weight", "conv1.bias", "norm.weight", "norm.bias", "head.1.weight", "head.1.bias"]
    assert [name for name, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert [name for name, _ in net.named_children()] == ["conv1", "norm", "head"]
    assert [name for name, _ in net.named_modules()] == ["", "conv1", "norm", "head", "head.0", "head.1"]
    assert [name for name, _ in net.named_buffers()] == [
        "mean", "cache", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert list(net.modules())[1] is next(net.children()) is net.conv1
    assert list(net.parameters())[1] is net.conv1.weight
    assert next(iter(net.buffers())) is net.mean
    assert net.get_submodule("head.1") is net.head[1]
    assert net.get_submodule("") is net
    assert net.get_parameter("head.1.weight") is net.head[1].weight
    assert net.get_buffer("norm.running_var") is net.norm.running_var
    for path, message in [("neck", "Net has no attribute `neck`"), ("scale", "`scale` is not an nn.Module")]:
        with pytest.raises(AttributeError, match=message):
            net.get_submodule(path)
    with pytest.raises(AttributeError, match=r"`head` is not an nn\.Parameter"):
        net.get_parameter("head")


def test_parameters_are_plain_attributes():
    """Nothing goes through __getattr__: reading a parameter costs what any attribute costs."""
    net = Net()
    assert not hasattr(nn.Module, "__getattr__")
    assert net.__dict__["scale"] is net.scale is net._parameters["scale"]
    assert net.__dict__["conv1"] is net._modules["conv1"]
    assert net.__dict__["mean"] is net._buffers["mean"]
    assert {"scale", "conv1", "mean", "forward", "training"} <= set(dir(net))
    assert "0" not in dir(net.head)


def test_replacing_and_deleting():
    net = Net()
    new = nn.Parameter(minidl.zeros(2))
    net.scale = new
    assert net.scale is new is net._parameters["scale"]
    net.scale = None
    assert net.scale is None
    assert "scale" not in dict(net.named_parameters())
    net.scale = new  # its place was kept
    assert next(net.parameters()) is new
    net.conv1 = nn.Identity()
    assert [name for name, _ in net.named_children()] == ["conv1", "norm", "head"]
    net.conv1 = new  # another kind: it changes tables
    assert "conv1" not in net._modules
    assert net._parameters["conv1"] is net.conv1 is new
    del net.conv1
    assert not hasattr(net, "conv1")
    assert "conv1" not in net._parameters
    net.mean = minidl.ones(3)
    assert net._buffers["mean"] is net.mean
    del net.cache
    assert not hasattr(net, "cache")
    assert [name for name, _ in net.named_buffers(recurse=False)] == ["mean"]
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
        net.nothing  # noqa: B018
    with pytest.raises(AttributeError):
        del net.nothing


def test_wrong_values():
    net = Net()
    for name, value, message in [
        ("scale", 3, "cannot assign 'int' as parameter 'scale' (minidl.nn.Parameter or None expected)"),
        ("scale", minidl.ones(1), "cannot assign 'Tensor' as parameter 'scale' (minidl.nn.Parameter or None expected)"),
        ("conv1", "no", "cannot assign 'str' as child module 'conv1' (minidl.nn.Module or None expected)"),
        ("mean", [1], "cannot assign 'list' as buffer 'mean' (minidl.Tensor or None expected)"),
    ]:
        with pytest.raises(TypeError) as caught:
            setattr(net, name, value)
        assert str(caught.value) == message
    for register, value, kind, message in [
        (net.register_parameter, minidl.ones(1), TypeError, "cannot assign 'Tensor' object to parameter 'x'"),
        (net.register_buffer, 3, TypeError, "cannot assign 'int' object to buffer 'x'"),
        (net.register_module, 3, TypeError, "int is not a Module subclass"),
    ]:
        with pytest.raises(kind, match=message):
            register("x", value)
        with pytest.raises(KeyError, match="attribute 'forward' already exists"):
            register("forward", None)
        with pytest.raises(KeyError, match=r"name can.*t contain"):
            register("a.b", None)
        with pytest.raises(KeyError, match=r"name can.*t be empty"):
            register("", None)
        with pytest.raises(TypeError, match=r"name should be a string\. Got int"):
            register(1, None)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: nn.Linear(1, 1), "cannot assign module before Module.__init__() call"),
    (lambda: nn.Parameter(minidl.ones(1)), "cannot assign parameters before Module.__init__() call"),
])
def test_assigning_before_init(make, message):
    class Early(nn.Module):
        def __init__(self):
            self.part = make()

    with pytest.raises(AttributeError) as caught:
        Early()
    assert str(caught.value) == message


def test_a_module_without_forward():
    with pytest.raises(NotImplementedError, match='Module \\[Module\\] is missing the required "forward" function'):
        nn.Module()(1)


# ---- state -----------------------------------------------------------------------------------------------------------


def test_state_dict_and_back():
    net, other = Net(), Net()
    state = net.state_dict()
    assert list(state) == [
        "scale", "mean", "conv1.weight", "conv1.bias", "norm.weight", "norm.bias", "norm.running_mean",
        "norm.running_var", "norm.num_batches_tracked", "head.1.weight", "head.1.bias"]
    assert not any(value.requires_grad for value in state.values())
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    assert list(net.head.state_dict(prefix="top.")) == ["top.1.weight", "top.1.bias"]
    weight = other.conv1.weight
    result = other.load_state_dict(state)
    assert repr(result) == "<All keys matched successfully>"
    assert result.missing_keys == result.unexpected_keys == []
    assert other.conv1.weight is weight
    assert minidl.equal(weight, net.conv1.weight)
    state["scale"].fill_(3)  # the memory is shared
    assert net.scale.item() == 3
    assert other.scale.item() == 1


@pytest.mark.parametrize("kind", ["numpy", "torch", "nested lists", "other dtype"])
def test_loading_from_elsewhere(kind):
    net, other = Net(), Net()
    state = net.state_dict()
    if kind == "torch":
        torch = pytest.importorskip("torch")
        given = {key: torch.nn.Parameter(torch.tensor(value.numpy()), value.dtype.is_floating_point)
                 for key, value in state.items()}
    else:
        convert = {"numpy": "numpy", "nested lists": "tolist", "other dtype": "double"}[kind]
        given = {key: getattr(value, convert)() for key, value in state.items()}
    other.load_state_dict(given)
    for key, value in other.state_dict().items():
        assert value.dtype is state[key].dtype
        assert minidl.equal(value, state[key])


def test_loading_what_does_not_fit(torch):
    """PyTorch's text, and nothing changed."""
    def spoiled(state, zeros):
        state["extra"] = state["scale"]
        del state["mean"], state["norm.bias"]
        state["head.1.weight"] = zeros(4, 16)
        state["conv1.bias"] = zeros(4) + 7
        return state

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 4, 3)
            self.norm = torch.nn.BatchNorm2d(4)
            self.register_buffer("mean", torch.zeros(3))
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5))

    Twin.__name__ = "Net"
    texts = []
    for net, zeros in ((Net(), minidl.zeros), (Twin(), torch.zeros)):
        with pytest.raises(RuntimeError) as caught:
            net.load_state_dict(spoiled(net.state_dict(), zeros))
        texts.append(str(caught.value).replace("torch.Size", "minidl.Size"))
    assert texts[0] == texts[1]
    assert texts[0] == (
        'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "mean", "norm.bias". '
        '\n\tUnexpected key(s) in state_dict: "extra". '
        "\n\tsize mismatch for head.1.weight: copying a param with shape minidl.Size([4, 16]) from checkpoint, the "
        "shape in current model is minidl.Size([5, 16]).")
    net = Net()
    before = net.conv1.bias.tolist()
    with pytest.raises(RuntimeError, match=r"size mismatch for head\.1\.weight"):
        net.load_state_dict(spoiled(net.state_dict(), minidl.zeros), strict=False)
    assert net.conv1.bias.tolist() == before


def test_loading_leniently_and_wrongly():
    net = Net()
    result = net.load_state_dict({"scale": np.float32([5]), "other": 1}, strict=False)
    assert net.scale.item() == 5
    assert result.unexpected_keys == ["other"]
    assert result[0][:2] == ["mean", "conv1.weight"]
    assert repr(result).startswith("_IncompatibleKeys(missing_keys=['mean', ")
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like, got <class 'list'>"):
        net.load_state_dict([])
    with pytest.raises(RuntimeError, match='While copying the parameter named "scale", expected a Tensor'):
        net.load_state_dict({"scale": "five"}, strict=False)


@pytest.mark.parametrize("library", ["minidl", "torch"])
def test_assigning_a_state(library):
    """The same program in PyTorch shows that it is the same there."""
    library = minidl if library == "minidl" else pytest.importorskip("torch")
    net = library.nn.Sequential(library.nn.Linear(2, 3), library.nn.BatchNorm2d(3))
    net[0].bias.requires_grad_(False)
    parameter = library.nn.Parameter(library.ones(3))
    weight = library.arange(6.0).double().reshape(3, 2)
    mean = library.ones(3)
    state = {"0.weight": weight, "0.bias": parameter, "1.running_mean": mean}
    old = net[0].weight
    assert net.load_state_dict(state, strict=False, assign=True).unexpected_keys == []
    assert net[0].weight is not old
    assert isinstance(net[0].weight, library.nn.Parameter)
    assert net[0].weight.dtype is library.float64
    assert net[0].weight.requires_grad
    weight[0, 0] = 9  # the memory is shared
    assert net[0].weight[0, 0] == 9
    assert net[0].bias is parameter
    assert not parameter.requires_grad
    assert net[1].running_mean is mean
    assert dict(net.named_parameters())["0.weight"] is net[0].weight
    assert "running_mean" not in dict(net[1].named_parameters())


def test_assigning_what_does_not_fit_changes_nothing():
    net = Net()
    scale = net.scale
    with pytest.raises(RuntimeError, match="size mismatch for mean"):
        net.load_state_dict({"scale": np.float32([5]), "mean": np.zeros(4)}, strict=False, assign=True)
    assert net.scale is scale
    net.load_state_dict({"scale": np.float32([5])}, strict=False, assign=True)
    assert net.scale is not scale and net.scale.tolist() == [5]


def test_shared_parameters():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    twice = nn.Sequential(net[0], net[0])
    assert [name for name, _ in twice.named_modules()] == ["", "0"]
    assert [name for name, _ in twice.named_modules(remove_duplicate=False)] == ["", "0", "1"]
    assert list(twice.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    copied = copy.deepcopy(net)
    assert copied[0].weight is copied[1].weight
    copied.double()
    assert copied[0].weight is copied[1].weight
    assert copied[0].weight.dtype is minidl.float64


# ---- changes to the whole tree ---------------------------------------------------------------------------------------


def test_conversion():
    net = Net()
    weight = net.conv1.weight
    net(minidl.ones(2, 3, 4, 4)).sum().backward()
    assert net.double() is net
    assert net.conv1.weight is weight
    assert weight.dtype is weight.grad.dtype is net.mean.dtype is net.norm.running_mean.dtype is minidl.float64
    assert net.mean is net._buffers["mean"]
    assert net.norm.num_batches_tracked.dtype is minidl.int64
    assert net(minidl.ones(2, 3, 4, 4, dtype=minidl.float64)).dtype is minidl.float64
    assert net.to("cpu", minidl.float32).scale.dtype is minidl.float32
    assert net.to(minidl.ones(1, dtype=minidl.float64)).scale.dtype is minidl.float64
    assert net.float().cpu().to(dtype=minidl.float32, device="cpu").scale.dtype is minidl.float32
    with pytest.raises(TypeError, match=r"nn\.Module\.to only accepts floating point dtypes, but got desired dtype"):
        net.to(minidl.int64)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dtyp'"):
        net.to(dtyp=minidl.float64)


def test_modes_gradients_and_apply():
    net = Net()
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert all(module.training for module in net.train().modules())
    with pytest.raises(ValueError, match="training mode is expected to be boolean"):
        net.train(1)
    net(minidl.ones(2, 3, 4, 4)).sum().backward()
    grad = net.scale.grad
    net.zero_grad(set_to_none=False)
    assert net.scale.grad is not None
    assert net.scale.grad.item() == 0
    assert grad.item() == 0
    net.zero_grad()
    assert net.scale.grad is None
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())
    seen = []
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Conv2d", "BatchNorm2d", "Flatten", "Linear", "Sequential", "Net"]


@pytest.mark.parametrize("how", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deep", "pickle"])
def test_copies(how):
    net = Net()
    x = minidl.tensor(numbers(2, 3, 4, 4).astype(np.float32))
    net(x).sum().backward()
    net.eval()
    copied = how(net)
    assert not copied.training
    assert repr(copied) == repr(net)
    assert minidl.equal(copied(x), net(x))
    for (name, parameter), (copied_name, other) in zip(net.named_parameters(), copied.named_parameters(), strict=True):
        assert name == copied_name
        assert other is not parameter
        assert isinstance(other, nn.Parameter)
        assert other.requires_grad
        assert copied.get_parameter(name) is other
    with minidl.no_grad():
        net.scale.fill_(7)
    assert copied.scale.item() == 1
    copied.conv1.stride = 3
    assert net(x).shape == (2, 5)


def test_no_cycles():
    """Nothing of a network and its steps is left to the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        net = Net()
        net(minidl.ones(2, 3, 4, 4)).sum().backward()
        del net
        assert gc.collect() == 0
    finally:
        gc.enable()
