"""First values: PyTorch's numbers for the same seed, kept here as figures and compared directly where it is there."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.nn import init


def lenet(nn):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def digest(state):
    """One short text for all bits of a state dict."""
    sha = hashlib.sha256()
    for key, value in state.items():
        sha.update(key.encode() + np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()[:16]


# PyTorch 2.13.0, CPU
FIGURES = {
    0: (
        [-0.002367540495470166, 0.16963835060596466, -0.26026973128318787],
        [0.15803514420986176, -0.13878203928470612, 0.043921709060668945],
        "9396b87da2f5793e",
    ),
    1: (
        [0.16294053196907043, -0.1395760476589203, -0.06130438297986984],
        [0.23477113246917725, 0.18893620371818542, -0.011036433279514313],
        "04b322fbff008969",
    ),
    42: (
        [0.24176831543445587, 0.2624715566635132, -0.07408346235752106],
        [0.06788963824510574, 0.0976310670375824, 0.07454347610473633],
        "c7a8754c940084ac",
    ),
}


@pytest.mark.parametrize("seed", FIGURES)
def test_first_weights_are_pytorchs_figures(seed):
    linear, conv, net = FIGURES[seed]
    minidl.manual_seed(seed)
    assert nn.Linear(10, 5).weight.detach()[0, :3].tolist() == linear
    minidl.manual_seed(seed)
    assert nn.Conv2d(2, 3, 3).bias.tolist() == conv
    minidl.manual_seed(seed)
    assert digest(lenet(nn).state_dict()) == net


LAYERS = {
    "linear": lambda nn: nn.Linear(10, 5),
    "linear without bias": lambda nn: nn.Linear(3, 200, bias=False),
    "linear of one": lambda nn: nn.Linear(1, 1),
    "conv": lambda nn: nn.Conv2d(2, 3, 3),
    "conv groups": lambda nn: nn.Conv2d(4, 8, (1, 5), groups=4),
    "lenet": lenet,
}


@pytest.mark.parametrize("seed", [0, 1, 1234567])
@pytest.mark.parametrize("name", LAYERS)
def test_first_weights_are_pytorchs(torch, name, seed):
    minidl.manual_seed(seed)
    torch.manual_seed(seed)
    ours, theirs = LAYERS[name](nn).state_dict(), LAYERS[name](torch.nn).state_dict()
    assert list(ours) == list(theirs)
    for key in ours:
        np.testing.assert_array_equal(ours[key].numpy(), theirs[key].numpy())
    assert minidl.rand(1).item() == torch.rand(1).item()


FILLS = {
    "uniform_": lambda init, t: init.uniform_(t, -2, 3),
    "normal_": lambda init, t: init.normal_(t, 1.0, 0.5),
    "constant_": lambda init, t: init.constant_(t, 0.3),
    "ones_": lambda init, t: init.ones_(t),
    "zeros_": lambda init, t: init.zeros_(t),
    "xavier_uniform_": lambda init, t: init.xavier_uniform_(t, gain=2.0),
    "xavier_normal_": lambda init, t: init.xavier_normal_(t),
    "kaiming_uniform_": lambda init, t: init.kaiming_uniform_(t, nonlinearity="relu"),
    "kaiming_uniform_ slope": lambda init, t: init.kaiming_uniform_(t, a=0.2, mode="fan_out"),
    "trunc_normal_": lambda init, t: init.trunc_normal_(t, std=0.5, a=-0.4, b=0.6),
    "trunc_normal_ wide": lambda init, t: init.trunc_normal_(t, 1.0, 0.1),
    "trunc_normal_ of a tail": lambda init, t: init.trunc_normal_(t, 0.0, 1.0, 1.5, 3.0),
    "trunc_normal_ of a thin slice": lambda init, t: init.trunc_normal_(t, 0.5, 2.0, 0.1, 0.4),
    "kaiming_normal_": lambda init, t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="tanh"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 4), (6, 2, 3, 5)])
@pytest.mark.parametrize("name", FILLS)
def test_fills_are_pytorchs(torch, name, shape, dtype):
    filled = []
    for library in (minidl, torch):
        library.manual_seed(7)
        tensor = library.empty(*shape, dtype=getattr(library, dtype)).requires_grad_()
        assert FILLS[name](library.nn.init, tensor) is tensor
        assert tensor.requires_grad
        assert tensor.grad_fn is None
        filled.append(tensor.detach().numpy())
    np.testing.assert_array_equal(*filled)


@pytest.mark.parametrize(("a", "b"), [(-0.4, 0.6), (1.5, 3.0)])
def test_truncated_normal_numbers_have_their_distribution(a, b):
    """The shares of 40000 numbers are 0.02 or more from the exact ones with a chance of 2 exp(-2 40000 0.02**2)."""
    minidl.manual_seed(3)
    drawn = np.sort(init.trunc_normal_(minidl.empty(200, 200, dtype=minidl.float64), a=a, b=b).numpy().ravel())
    assert a <= drawn[0] and drawn[-1] <= b
    below = np.array([math.erf(x / math.sqrt(2)) for x in (a, b, *drawn)])
    expected = (below[2:] - below[0]) / (below[1] - below[0])
    assert np.abs(expected - np.arange(drawn.size) / drawn.size).max() < 0.02


def test_a_mean_far_from_the_bounds_is_warned_of(torch):
    for library in (minidl, torch):
        with pytest.warns(UserWarning, match="mean is more than 2 std from"):
            library.nn.init.trunc_normal_(library.empty(2), mean=5.5, std=1.0, a=2.0, b=3.0)


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3), (1, 4)])
def test_orthogonal(shape):
    minidl.manual_seed(1)
    tensor = minidl.empty(*shape, dtype=minidl.float64).requires_grad_()
    assert init.orthogonal_(tensor, gain=3.0) is tensor
    assert tensor.requires_grad and tensor.grad_fn is None
    matrix = tensor.detach().numpy().reshape(shape[0], -1) / 3
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-14)  # rounding of sums of up to 18 products


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3)])
def test_orthogonal_is_pytorchs_but_for_rounding(torch, shape, dtype):
    filled = []
    for library in (minidl, torch):
        library.manual_seed(7)
        filled.append(library.nn.init.orthogonal_(library.empty(*shape, dtype=getattr(library, dtype)), 2.0).numpy())
    # PyTorch factorises float32 in float32, where a small diagonal of R magnifies rounding some ten times
    np.testing.assert_allclose(*filled, atol=1e-5 if dtype == "float32" else 1e-13)
    assert minidl.rand(1).item() == torch.rand(1).item()


def test_orthogonal_of_a_vector_and_of_nothing():
    with pytest.raises(ValueError, match="Only tensors with 2 or more dimensions are supported"):
        init.orthogonal_(minidl.empty(3))
    assert init.orthogonal_(minidl.empty(0, 3)).shape == (0, 3)


def test_eye():
    assert init.eye_(minidl.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="Only tensors with 2 dimensions are supported"):
        init.eye_(minidl.empty(2))


@pytest.mark.parametrize(("name", "param"), [
    ("linear", None), ("conv2d", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("selu", None),
    ("leaky_relu", None), ("leaky_relu", 0.3), ("leaky_relu", math.sqrt(5))])
def test_gains(torch, name, param):
    assert init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
        init.calculate_gain("swish")
    with pytest.raises(ValueError, match="negative_slope True not a valid number"):
        init.calculate_gain("leaky_relu", True)
    with pytest.raises(ValueError, match="Fan in and fan out can not be computed for tensor with fewer than 2"):
        init.kaiming_uniform_(minidl.empty(3))
    with pytest.raises(ValueError, match="Mode fan_avg not supported"):
        init.kaiming_normal_(minidl.empty(3, 3), mode="fan_avg")
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        init.kaiming_uniform_(minidl.empty(0, 3))


def test_fans():
    assert init._calculate_fan_in_and_fan_out(minidl.empty(8, 3, 2, 5)) == (30, 80)
