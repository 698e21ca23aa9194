"""A wrong input names the layer by its path in the network, says the cure, and leaves other errors alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.nn import functional as F


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.parts = nn.ModuleList([nn.ModuleDict({"fc": nn.Linear(16, 2)})])
        self.loose = [nn.Linear(9, 9)]

    def forward(self, x, fault=None):
        if fault == "value":
            raise ValueError("mine")
        if fault == "runtime":
            raise RuntimeError("mine")
        if fault == "function":
            return F.conv2d(x, self.features[0].weight[:, :2])
        if fault == "loose":
            return self.loose[0](x)
        return self.parts[0]["fc"](self.features(x).flatten(1))


def linear_after(layer):
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(400, 10))


MESSAGES = {
    "linear after flatten": (
        lambda: linear_after(nn.Identity())(minidl.ones(2, 3456)), RuntimeError,
        "Sequential.3 (Linear): input (2, 3456), expected (..., 400); set in_features=3456"),
    "bare layer": (
        lambda: nn.Linear(4, 2)(minidl.ones(3)), RuntimeError,
        "Linear: input (3,), expected (..., 4); set in_features=3"),
    "linear of a number": (
        lambda: nn.Linear(4, 2)(minidl.tensor(3.0)), RuntimeError,
        "Linear: linear: input (), expected (..., 4) for weight (2, 4)"),
    "linear dtype": (
        lambda: nn.Linear(4, 2)(minidl.ones(1, 4).double()), RuntimeError,
        "Linear: linear: input has dtype minidl.float64, weight has dtype minidl.float32; convert one with .to(...)"),
    "linear of an array": (
        lambda: nn.Sequential(nn.Linear(4, 2))(np.ones((1, 4), np.float32)), TypeError,
        "linear(): argument 'input' must be Tensor, not ndarray"),
    "linear bias dtype": (
        lambda: F.linear(minidl.ones(1, 4), minidl.ones(2, 4), minidl.ones(2).double()), RuntimeError,
        "linear: input has dtype minidl.float32, bias has dtype minidl.float64; convert one with .to(...)"),
    "linear bias size": (
        lambda: F.linear(minidl.ones(1, 4), minidl.ones(2, 4), minidl.ones(3)), RuntimeError,
        "linear: bias (3,), expected (2,) for weight (2, 4)"),
    "deep linear": (
        lambda: Deep()(minidl.ones(1, 3, 5, 5)), RuntimeError,
        "Deep.parts.0.fc (Linear): input (1, 36), expected (..., 16); set in_features=36"),
    "conv channels": (
        lambda: nn.Sequential(Deep())(minidl.ones(8, 4, 32, 32)), RuntimeError,
        "Sequential.0.features.0 (Conv2d): conv2d: input (8, 4, 32, 32) has 4 channels, weight (4, 3, 3, 3) with "
        "groups=1 needs 3; set in_channels=4"),
    "conv dimensions": (
        lambda: Deep()(minidl.ones(3, 8)), RuntimeError,
        "Deep.features.0 (Conv2d): Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: "
        "[3, 8]"),
    "conv too small": (
        lambda: Deep()(minidl.ones(1, 3, 2, 9)), RuntimeError,
        "Deep.features.0 (Conv2d): conv2d: input (1, 3, 2, 9) is 2 + 0 (padding) = 2 high, too small for a kernel of "
        "3; the output would be (2 + 0 + 0 - 1 * (3 - 1) - 1) // 1 + 1 = 0 high; use a larger input, more padding or a "
        "smaller kernel"),
    "pool too small": (
        lambda: linear_after(nn.MaxPool2d(4))(minidl.ones(1, 3, 8, 2)), RuntimeError,
        "Sequential.0 (MaxPool2d): max_pool2d: input (1, 3, 8, 2) is 2 + 2 * 0 (padding) = 2 wide, too small for a "
        "window of 4; the output would be (2 + 0 + 0 - 1 * (4 - 1) - 1) // 4 + 1 = 0 wide; use a larger input or a "
        "smaller kernel_size"),
    "average pool too small": (
        lambda: linear_after(nn.AvgPool2d(4))(minidl.ones(1, 3, 8, 2)), RuntimeError,
        "Sequential.0 (AvgPool2d): avg_pool2d: input (1, 3, 8, 2) is 2 + 2 * 0 (padding) = 2 wide, too small for a "
        "window of 4; the output would be (2 + 0 + 0 - 1 * (4 - 1) - 1) // 4 + 1 = 0 wide; use a larger input or a "
        "smaller kernel_size"),
    "pool dimensions": (
        lambda: linear_after(nn.MaxPool2d(2))(minidl.ones(3, 8)), RuntimeError,
        "Sequential.0 (MaxPool2d): max_pool2d: expected 3D (C, H, W) or 4D (N, C, H, W) input, but got input of "
        "size [3, 8]"),
    "adaptive pool": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1))(minidl.ones(3, 8)), RuntimeError,
        "Sequential.0 (AdaptiveAvgPool2d): adaptive_avg_pool2d: expected 3D (C, H, W) or 4D (N, C, H, W) input, but "
        "got input of size [3, 8]"),
    "norm channels": (
        lambda: nn.Sequential(nn.BatchNorm2d(4))(minidl.ones(2, 3, 5, 5)), RuntimeError,
        "Sequential.0 (BatchNorm2d): batch_norm: weight should contain 3 elements, one for each channel of the input "
        "(2, 3, 5, 5), not 4; set num_features=3"),
    "norm dimensions": (
        lambda: nn.Sequential(nn.BatchNorm2d(4))(minidl.ones(2, 4)), ValueError,
        "Sequential.0 (BatchNorm2d): expected 4D input (got 2D input)"),
    "norm 1-d dimensions": (
        lambda: nn.BatchNorm1d(4)(minidl.ones(2, 4, 1, 1)), ValueError,
        "BatchNorm1d: expected 2D or 3D input (got 4D input)"),
    "norm dtype": (
        lambda: nn.BatchNorm1d(4)(minidl.ones(2, 4).double()), RuntimeError,
        "BatchNorm1d: batch_norm: input has dtype minidl.float64, weight has dtype minidl.float32; convert one with "
        ".to(...)"),
    "unflatten": (
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)))(minidl.ones(2, 5)), RuntimeError,
        "Sequential.0 (Unflatten): shape '[2, 2, 3]' is invalid for input of size 10"),
    "padding": (
        lambda: nn.Sequential(nn.ReflectionPad2d(3))(minidl.ones(1, 1, 5, 3)), RuntimeError,
        "Sequential.0 (ReflectionPad2d): pad: mode 'reflect' needs padding less than the size of the dimension: "
        "(before, after) = (3, 3) at dimension 3 of input (1, 1, 5, 3)"),
    "unregistered": (
        lambda: Deep()(minidl.ones(1, 3), "loose"), RuntimeError,
        "Linear: input (1, 3), expected (..., 9); set in_features=3"),
    "function": (
        lambda: Deep()(minidl.ones(1, 3, 5, 5), "function"), RuntimeError,
        "conv2d: input (1, 3, 5, 5) has 3 channels, weight (4, 2, 3, 3) with groups=1 needs 2"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_errors_name_the_layer(name):
    call, kind, message = MESSAGES[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_single_values_cannot_be_normalized():
    with pytest.raises(ValueError, match=r"^Sequential\.0 \(BatchNorm1d\): Expected more than 1 value per channel"):
        nn.Sequential(nn.BatchNorm1d(3))(minidl.ones(1, 3))


@pytest.mark.parametrize(("fault", "kind"), [("value", ValueError), ("runtime", RuntimeError)])
def test_errors_of_the_user_pass_untouched(fault, kind):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Deep()

        def forward(self, x):
            return self.inner(x, fault)

    with pytest.raises(kind) as caught:
        Outer()(minidl.ones(1))
    assert type(caught.value) is kind
    assert str(caught.value) == "mine"


def test_the_traceback_shows_where_it_happened():
    with pytest.raises(nn.ShapeError) as caught:
        Deep()(minidl.ones(1, 4, 5, 5))
    assert issubclass(nn.ShapeError, RuntimeError)
    assert caught.value.__suppress_context__
    functions = [entry.name for entry in caught.traceback]
    assert functions[-1] == "_conv_windows"
    assert sum(name.endswith("__call__") for name in functions) == 3
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
