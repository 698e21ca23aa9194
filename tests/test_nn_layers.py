"""Every layer against PyTorch's: first weights to the bit, ``repr``, values and gradients in both float types."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import numpy as np
import pytest
from nn_twins import assert_close, assert_same, numbers, twins

import minidl
from minidl import nn
from minidl.nn import functional as F

LAYERS = {
    "Linear": (lambda nn: nn.Linear(7, 5), (4, 7)),
    "Linear vector": (lambda nn: nn.Linear(7, 5), (7,)),
    "Linear 3-d": (lambda nn: nn.Linear(7, 5, bias=False), (2, 3, 7)),
    "Linear no rows": (lambda nn: nn.Linear(7, 5), (0, 7)),
    "Identity": (lambda nn: nn.Identity(54, unused=True), (2, 3)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(2), (2, 3, 6, 8)),
    "MaxPool2d pair": (lambda nn: nn.MaxPool2d((2, 3), stride=(1, 2)), (2, 3, 6, 8)),
    "MaxPool2d padding": (lambda nn: nn.MaxPool2d(3, 2, padding=1), (2, 3, 7, 9)),
    "MaxPool2d ceil": (lambda nn: nn.MaxPool2d(3, 2, ceil_mode=True), (2, 3, 8, 10)),
    "MaxPool2d dilation": (lambda nn: nn.MaxPool2d(2, 2, dilation=2), (2, 3, 8, 10)),
    "MaxPool2d no batch": (lambda nn: nn.MaxPool2d(2), (3, 6, 8)),
    "MaxPool2d empty batch": (lambda nn: nn.MaxPool2d(2), (0, 3, 6, 8)),
    "AvgPool2d": (lambda nn: nn.AvgPool2d(2), (2, 3, 6, 8)),
    "AvgPool2d padding": (lambda nn: nn.AvgPool2d(3, 2, 1), (2, 3, 7, 9)),
    "AvgPool2d excluded": (lambda nn: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 7, 9)),
    "AvgPool2d ceil": (lambda nn: nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 3, 8, 8)),
    "AvgPool2d divisor": (lambda nn: nn.AvgPool2d(2, divisor_override=3), (2, 3, 6, 8)),
    "AvgPool2d no batch": (lambda nn: nn.AvgPool2d((2, 3)), (3, 6, 9)),
    "AdaptiveAvgPool2d": (lambda nn: nn.AdaptiveAvgPool2d((3, 4)), (2, 3, 7, 9)),
    "AdaptiveAvgPool2d one": (lambda nn: nn.AdaptiveAvgPool2d(1), (2, 3, 7, 9)),
    "AdaptiveAvgPool2d None": (lambda nn: nn.AdaptiveAvgPool2d((None, 4)), (2, 3, 7, 9)),
    "AdaptiveAvgPool2d larger": (lambda nn: nn.AdaptiveAvgPool2d((5, 9)), (3, 3, 4)),
    "ReLU": (lambda nn: nn.ReLU(), (4, 5)),
    "LeakyReLU": (lambda nn: nn.LeakyReLU(0.2), (4, 5)),
    "ELU": (lambda nn: nn.ELU(1.5), (4, 5)),
    "Tanh": (lambda nn: nn.Tanh(), (4, 5)),
    "Sigmoid": (lambda nn: nn.Sigmoid(), (4, 5)),
    "LogSigmoid": (lambda nn: nn.LogSigmoid(), (4, 5)),
    "Softplus": (lambda nn: nn.Softplus(2.0, 1.0), (4, 5)),
    "GELU": (lambda nn: nn.GELU(), (4, 5)),
    "GELU tanh": (lambda nn: nn.GELU("tanh"), (4, 5)),
    "Softmax": (lambda nn: nn.Softmax(dim=1), (4, 5, 3)),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(-1), (4, 5, 3)),
    "Flatten": (lambda nn: nn.Flatten(), (4, 5, 3, 2)),
    "Flatten middle": (lambda nn: nn.Flatten(1, 2), (4, 5, 3, 2)),
    "Unflatten": (lambda nn: nn.Unflatten(1, (2, 3)), (4, 6, 2)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(3), (8, 3)),
    "BatchNorm1d 3-d": (lambda nn: nn.BatchNorm1d(3, eps=1e-3, affine=False), (4, 3, 5)),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(3), (4, 3, 5, 6)),
    "BatchNorm2d cumulative": (lambda nn: nn.BatchNorm2d(3, momentum=None), (4, 3, 5, 6)),
    "BatchNorm2d no bias": (lambda nn: nn.BatchNorm2d(3, bias=False), (4, 3, 5, 6)),
    "BatchNorm2d untracked": (lambda nn: nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 5, 6)),
    "BatchNorm2d bare": (lambda nn: nn.BatchNorm2d(3, affine=False, track_running_stats=False), (4, 3, 5, 6)),
    "ZeroPad2d": (lambda nn: nn.ZeroPad2d(2), (2, 3, 4, 5)),
    "ZeroPad2d crop": (lambda nn: nn.ZeroPad2d((1, -1, 2, 0)), (2, 3, 4, 5)),
    "ReflectionPad2d": (lambda nn: nn.ReflectionPad2d((1, 2, 3, 0)), (2, 3, 4, 5)),
    "ReplicationPad2d": (lambda nn: nn.ReplicationPad2d((4, 2, 3, 5)), (2, 3, 4, 5)),
    "CircularPad2d": (lambda nn: nn.CircularPad2d((4, 2, 3, 1)), (2, 3, 4, 5)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_pytorchs(torch, name, dtype):
    make, shape = LAYERS[name]
    ours, theirs = twins(torch, make, dtype)
    for step in range(2):  # the second time layers know the shape
        assert_same(torch, ours, theirs, numbers(*shape, seed=step), dtype=dtype)
        ours.zero_grad()
        theirs.zero_grad()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith("BatchNorm")])
def test_batch_norm_learns_and_uses_running_statistics(torch, name, dtype):
    make, shape = LAYERS[name]
    ours, theirs = twins(torch, make, dtype)
    for step in range(3):
        for layer, tensor in ((ours, minidl.tensor), (theirs, torch.tensor)):
            layer(tensor((numbers(*shape, seed=step) * 3 + 1).astype(dtype)))
    state = ours.state_dict()
    for key, expected in theirs.state_dict().items():
        assert_close(state[key], expected, 1e-12 if dtype is np.float64 else 1e-6)
    ours.eval()
    theirs.eval()
    assert_same(torch, ours, theirs, numbers(*shape, seed=9), dtype=dtype)


def test_batch_norm_forgets():
    norm = nn.BatchNorm2d(2)
    norm(minidl.randn(3, 2, 4, 4) + 5)
    assert norm.num_batches_tracked.item() == 1
    assert norm.running_mean.abs().sum() > 0.5
    norm.reset_running_stats()
    assert norm.num_batches_tracked.item() == 0
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.running_var.tolist() == [1, 1]


BATCH_NORM_WITHOUT = {"mean": (None, [1.0, 1.0]), "variance": ([0.0, 0.0], None), "both": (None, None)}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("missing", BATCH_NORM_WITHOUT)
def test_batch_norm_without_running_statistics(missing, training):
    mean, var = (None if values is None else minidl.tensor(values) for values in BATCH_NORM_WITHOUT[missing])
    x = minidl.tensor([[1.0, 2.0], [3.0, 5.0]])
    if not training:
        name = "running_var" if missing == "variance" else "running_mean"
        with pytest.raises(RuntimeError, match=f"{name} must be defined in evaluation mode"):
            nn.functional.batch_norm(x, mean, var, training=False)
    elif missing == "both":
        np.testing.assert_allclose(nn.functional.batch_norm(x, mean, var, training=True).numpy(),
                                   [[-1, -1], [1, 1]], rtol=1e-4)  # 1 / sqrt(1 + eps)
    else:
        with pytest.raises(ValueError, match="running_mean and running_var must either both be None or neither"):
            nn.functional.batch_norm(x, mean, var, training=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("missing", BATCH_NORM_WITHOUT)
def test_batch_norm_without_running_statistics_raises_what_pytorch_raises(torch, missing, training):
    kinds = []
    for lib in (minidl, torch):
        mean, var = (None if values is None else lib.tensor(values) for values in BATCH_NORM_WITHOUT[missing])
        try:
            lib.nn.functional.batch_norm(lib.ones(2, 2), mean, var, training=training)
            kinds.append(None)
        except (RuntimeError, ValueError) as error:
            kinds.append(type(error))
    assert kinds[0] is kinds[1]


def test_max_pool_indices(torch):
    for shape in ((2, 3, 6, 8), (3, 6, 8)):
        x = numbers(*shape)
        output, indices = nn.MaxPool2d(3, 2, 1, return_indices=True)(minidl.tensor(x))
        expected, expected_indices = torch.nn.MaxPool2d(3, 2, 1, return_indices=True)(torch.tensor(x))
        assert indices.dtype is minidl.int64
        np.testing.assert_array_equal(indices.numpy(), expected_indices.numpy())
        np.testing.assert_array_equal(output.numpy(), expected.numpy())


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "Dropout"])
def test_in_place(name):
    """An in-place layer changes its input, returns it, and has the gradient of the other."""
    minidl.manual_seed(0)
    x = minidl.tensor(numbers(4, 5), requires_grad=True)
    kept = x * 1
    expected = getattr(nn, name)()(kept)
    expected.sum().backward()
    expected_grad, x.grad = x.grad, None
    minidl.manual_seed(0)
    changed = x * 1
    result = getattr(nn, name)(inplace=True)(changed)
    assert result is changed
    assert minidl.equal(result, expected)
    assert not minidl.equal(kept, expected)
    result.sum().backward()
    assert minidl.equal(x.grad, expected_grad)


# ---- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("name", "shape"), [
    ("Dropout", (40, 30)), ("Dropout", (3,)), ("Dropout2d", (6, 20, 3, 4)), ("Dropout", (0, 3))])
def test_dropout_keeps_what_pytorch_keeps(torch, name, shape, p, dtype):
    ours, theirs = getattr(nn, name)(p), getattr(torch.nn, name)(p)
    assert repr(ours) == repr(theirs)
    for seed in range(3):
        results = []
        for library, layer in ((minidl, ours), (torch, theirs)):
            library.manual_seed(seed)
            x = library.tensor(numbers(*shape).astype(dtype), requires_grad=True)
            y = layer(x)
            y.sum().backward()
            results.append((y.detach().numpy(), x.grad.numpy(), library.rand(2).numpy()))
        for got, expected in zip(*results, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_dropout_outside_of_training():
    x = minidl.ones(3, 4)
    assert nn.Dropout(0.7).eval()(x) is x
    assert F.dropout(x, 0.7, training=False) is x
    with pytest.raises(ValueError, match=r"dropout probability has to be between 0 and 1, but got 1\.5"):
        nn.Dropout(1.5)
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got -1"):
        F.dropout(x, -1)


def test_dropout2d_of_a_picture_warns():
    with pytest.warns(UserWarning, match="Received a 3D input"):
        dropped = F.dropout2d(minidl.ones(8, 9, 5), 0.5)
    assert {len(set(row)) for image in dropped.tolist() for row in image} == {1}
    with pytest.raises(RuntimeError, match=r"dropout2d: expected input \(N, C, H, W\), got \(2, 2\)"):
        F.dropout2d(minidl.ones(2, 2))


# ---- functional twins ------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "relu": lambda F, x: F.relu(x),
    "leaky_relu": lambda F, x: F.leaky_relu(x, 0.2),
    "elu": lambda F, x: F.elu(x, 0.7),
    "tanh": lambda F, x: F.tanh(x),
    "sigmoid": lambda F, x: F.sigmoid(x),
    "logsigmoid": lambda F, x: F.logsigmoid(x * 50),
    "softplus": lambda F, x: F.softplus(x * 50, 2, 20),
    "gelu": lambda F, x: F.gelu(x * 3),
    "gelu tanh": lambda F, x: F.gelu(x * 3, approximate="tanh"),
    "softmax": lambda F, x: F.softmax(x, dim=1),
    "log_softmax": lambda F, x: F.log_softmax(x * 100, dim=-1),
    "normalize": lambda F, x: F.normalize(x),
    "normalize L1": lambda F, x: F.normalize(x, p=1.0, dim=0),
    "pad": lambda F, x: F.pad(x, (1, 2)),
    "pad value": lambda F, x: F.pad(x, (0, 1, 2, 0), value=3.5),
    "pad crop": lambda F, x: F.pad(x, (-1, 2, 0, -2)),
    "batch_norm": lambda F, x: F.batch_norm(x, None, None, training=True),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_pytorchs(torch, name, dtype):
    function = FUNCTIONS[name]
    assert_same(torch, lambda x: function(F, x), lambda x: function(torch.nn.functional, x), numbers(4, 5), dtype=dtype)


def test_softmax_without_dim_warns_and_chooses_as_pytorch(torch):
    for shape in ((3,), (3, 4), (2, 3, 4), (2, 3, 4, 5)):
        x = numbers(*shape)
        for name in ("softmax", "log_softmax"):
            with pytest.warns(UserWarning, match=f"Implicit dimension choice for {name} has been deprecated"):
                got = getattr(F, name)(minidl.tensor(x))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert_close(got, getattr(torch.nn.functional, name)(torch.tensor(x)), 1e-12)


def test_one_hot():
    assert F.one_hot(minidl.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert F.one_hot(minidl.tensor([[1]]), 2).tolist() == [[[0, 1]]]
    with pytest.raises(RuntimeError, match="one_hot is only applicable to index tensor"):
        F.one_hot(minidl.tensor([1.0]))


def test_pad_errors():
    x = minidl.ones(1, 1, 3, 3)
    with pytest.raises(NotImplementedError, match="unrecognised padding mode 'mirror'"):
        F.pad(x, (1, 1), mode="mirror")
    with pytest.raises(RuntimeError, match="needs padding less than the size"):
        F.pad(x, (3, 3), mode="reflect")
    with pytest.raises(ValueError, match='Padding mode "reflect" doesn\'t take in value argument'):
        F.pad(x, (1, 1), mode="reflect", value=1.0)
    with pytest.raises(RuntimeError, match="approximate argument must be either none or tanh"):
        F.gelu(x, "erf")


# ---- whole networks --------------------------------------------------------------------------------------------------


def lenet(nn):
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 6, 5, padding=2), act1=nn.ReLU(), pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(6, 16, 5), act2=nn.ReLU(), pool2=nn.MaxPool2d(2), flat=nn.Flatten(),
        fc1=nn.Linear(400, 120), act3=nn.ReLU(), fc2=nn.Linear(120, 84), act4=nn.ReLU(), fc3=nn.Linear(84, 10)))


def residual(nn):
    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding="same", bias=False), nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"))
            self.act = nn.LeakyReLU()

        def forward(self, x):
            return self.act(x + self.body(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, 2, 1)
            self.blocks = nn.ModuleList([Block(8), Block(8), nn.Identity(), nn.Identity(), nn.Identity()])
            self.heads = nn.ModuleDict({"a": nn.Linear(8, 4), "b": nn.Linear(8, 2)})
            self.scale = nn.Parameter(self.stem.weight.detach()[0, 0, 0] * 2)
            self.empty = nn.ModuleList()

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            x = x.mean((2, 3))
            return self.heads["a"](x).sum(1) + self.heads["b"](x).sum(1) * self.scale.sum()

    return Net()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("make", "shape"), [(lenet, (3, 1, 28, 28)), (residual, (2, 3, 10, 8))])
def test_networks_are_pytorchs(torch, make, shape, dtype):
    ours, theirs = twins(torch, make, dtype, seed=3)
    assert_same(torch, ours, theirs, numbers(*shape), dtype=dtype)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
