"""Losses against PyTorch's over their options, values and gradients; and what they say to a wrong target."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nn_twins import assert_close, assert_same, numbers

import minidl
from minidl import nn
from minidl.nn import functional as F

REDUCTIONS = ["mean", "sum", "none"]


def both(torch, name, *args, dtype=np.float64, **options):
    """A loss of both libraries; arrays among the options become tensors."""
    made = []
    for library in (minidl, torch):
        given = {key: library.tensor(value.astype(dtype)) if isinstance(value, np.ndarray) else value
                 for key, value in options.items()}
        made.append(getattr(library.nn, name)(*args, **given))
    assert repr(made[0]) == repr(made[1])
    return made


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 2, 4), (5,)])
def test_cross_entropy_with_indices(torch, shape, reduction, dtype):
    target = np.random.default_rng(0).integers(0, 5, (*shape[:1], *shape[2:]) if len(shape) > 1 else ())
    for weight, ignore, smoothing in itertools.product([None, np.arange(1.0, 6)], [-100, 2], [0.0, 0.1]):
        losses = both(torch, "CrossEntropyLoss", dtype=dtype, weight=weight, ignore_index=ignore, reduction=reduction,
                      label_smoothing=smoothing)
        assert_same(torch, *(lambda x, t, loss=loss: loss(x, t) for loss in losses), numbers(*shape) * 3,
                    np.asarray(target), dtype=dtype)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 2, 4), (5,)])
def test_cross_entropy_with_probabilities(torch, shape, reduction):
    target = np.random.default_rng(0).random(shape)
    for weight, smoothing in itertools.product([None, np.arange(1.0, 6)], [0.0, 0.1]):
        losses = both(torch, "CrossEntropyLoss", weight=weight, reduction=reduction, label_smoothing=smoothing)
        assert_same(torch, *losses, numbers(*shape) * 3, target)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nll_loss(torch, reduction, dtype):
    target = np.array([1, 0, 4, 2])
    for weight, ignore in itertools.product([None, np.arange(1.0, 6)], [-100, 0]):
        losses = both(torch, "NLLLoss", dtype=dtype, weight=weight, ignore_index=ignore, reduction=reduction)
        assert_same(torch, *losses, numbers(4, 5), target, dtype=dtype)


PAIRS = {
    "MSELoss": [{}],
    "L1Loss": [{}],
    "HuberLoss": [{}, {"delta": 0.3}],
    "SmoothL1Loss": [{}, {"beta": 0.3}, {"beta": 0.0}],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", PAIRS)
def test_distances(torch, name, reduction, dtype):
    for options in PAIRS[name]:
        losses = both(torch, name, reduction=reduction, **options)
        assert_same(torch, *losses, numbers(4, 5), numbers(4, 5, seed=1), dtype=dtype)


@pytest.mark.parametrize("name", PAIRS)
def test_distances_of_different_shapes_warn(torch, name):
    x, y = numbers(4, 5), numbers(4, 1, seed=1)
    results = []
    for library in (minidl, torch):
        given = [library.tensor(a).requires_grad_() for a in (x, y)]
        with pytest.warns(UserWarning, match=r"Using a target size \(.*\) that is different to the") as caught:
            loss = getattr(library.nn, name)()(*given)
        loss.backward()
        results.append((loss, *(a.grad for a in given)))
        assert len(caught) == 1
    for got, expected in zip(*results, strict=True):
        assert_close(got, expected, 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(torch, reduction, dtype):
    x, y = np.random.default_rng(0).random((2, 4, 5))
    x[0, :2] = 0, 1  # where the logarithm ends
    y[0, :2] = 1, 0
    for weight in (None, np.arange(1.0, 6)):
        losses = both(torch, "BCELoss", dtype=dtype, weight=weight, reduction=reduction)
        assert_same(torch, *losses, x, y, dtype=dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy_with_logits(torch, reduction, dtype):
    x, y = numbers(4, 5) * 50, np.random.default_rng(1).random((4, 5))
    for weight, positive in itertools.product([None, np.arange(1.0, 6)], repeat=2):
        losses = both(torch, "BCEWithLogitsLoss", dtype=dtype, weight=weight, reduction=reduction, pos_weight=positive)
        assert_same(torch, *losses, x, y, dtype=dtype)


MISTAKES = {
    "list": (lambda: F.cross_entropy(minidl.ones(1, 3), [1]), TypeError,
             "cross_entropy_loss(): argument 'target' (position 2) must be Tensor, not list"),
    "smoothing": (lambda: F.cross_entropy(minidl.ones(1, 3), minidl.tensor([1]), label_smoothing=1.5), RuntimeError,
                  "label_smoothing must be between 0.0 and 1.0. Got: 1.5"),
    "probabilities": (lambda: F.cross_entropy(minidl.ones(2, 3), minidl.ones(2)), RuntimeError,
                      "cross_entropy: a floating point target holds class probabilities and must have the shape of the "
                      "input, (2, 3), got (2,); class indices must be int64, convert them with target.long()"),
    "ignore": (lambda: F.cross_entropy(minidl.ones(2, 3), minidl.ones(2, 3), ignore_index=1), RuntimeError,
               "ignore_index is not supported for floating point target"),
    "no class": (lambda: F.cross_entropy(minidl.ones(2, 3), minidl.tensor([0, 3])), IndexError,
                 "Target 3 is out of bounds."),
    "reduction": (lambda: F.cross_entropy(minidl.ones(2, 3), minidl.tensor([0, 1]), reduction="average"), ValueError,
                  "average is not a valid value for reduction"),
    "huber reduction": (lambda: F.huber_loss(minidl.ones(2), minidl.ones(2), reduction="max"), ValueError,
                        "max is not a valid value for reduction"),
    "delta": (lambda: F.huber_loss(minidl.ones(2), minidl.ones(2), delta=0), ValueError,
              "huber_loss does not support non-positive values for delta."),
    "beta": (lambda: F.smooth_l1_loss(minidl.ones(2), minidl.ones(2), beta=-1), ValueError,
             "smooth_l1_loss does not support negative values for beta."),
    "bce size": (lambda: F.binary_cross_entropy(minidl.ones(2), minidl.ones(2, 1)), ValueError,
                 "Using a target size (minidl.Size([2, 1])) that is different to the input size (minidl.Size([2]))"),
    "bce range": (lambda: F.binary_cross_entropy(minidl.ones(2) * 2, minidl.ones(2)), RuntimeError,
                  "binary_cross_entropy: all elements of input should be between 0 and 1"),
    "logits size": (lambda: F.binary_cross_entropy_with_logits(minidl.ones(2), minidl.ones(2, 1)), ValueError,
                    "Target size (minidl.Size([2, 1])) must be the same as input size (minidl.Size([2]))"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name):
    call, kind, start = MISTAKES[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(start)


def test_class_weights_are_buffers():
    loss = nn.CrossEntropyLoss(minidl.ones(3))
    assert list(loss.state_dict()) == ["weight"]
    assert loss.double().weight.dtype is minidl.float64
    assert list(nn.CrossEntropyLoss().state_dict()) == []
