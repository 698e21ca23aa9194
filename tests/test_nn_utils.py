"""Clipping of gradients, and parameters as one vector."""

from __future__ import annotations

import math

import numpy as np
import pytest
from nn_twins import assert_close, numbers

import minidl
from minidl import nn
from minidl.nn.utils import clip_grad_norm_, clip_grad_value_, parameters_to_vector, vector_to_parameters


def with_gradients(library, scale=1.0):
    made = []
    for seed, shape in enumerate([(3, 4), (5,), ()]):
        parameter = library.nn.Parameter(library.tensor(numbers(*shape)))
        parameter.grad = library.tensor(numbers(*shape, seed=seed) * scale)
        made.append(parameter)
    return [*made, library.nn.Parameter(library.tensor(numbers(2)))]


@pytest.mark.parametrize("norm_type", [2.0, 1, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100])
def test_clip_grad_norm(max_norm, norm_type):
    torch = pytest.importorskip("torch")
    ours, theirs = with_gradients(minidl), with_gradients(torch)
    total = clip_grad_norm_(ours, max_norm, norm_type)
    assert_close(total, torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type), 1e-12)
    for a, b in zip(ours[:-1], theirs[:-1], strict=True):
        assert_close(a.grad, b.grad, 1e-12)
    assert ours[-1].grad is None


def test_clip_grad_norm_of_nothing_and_of_nan():
    assert clip_grad_norm_([], 1.0).item() == 0
    parameter = nn.Parameter(minidl.ones(2))
    parameter.grad = minidl.tensor([1.0, math.nan])
    assert math.isnan(clip_grad_norm_(parameter, 1.0).item())
    with pytest.raises(RuntimeError, match=r"The total norm of order 2\.0 for gradients .* is non-finite"):
        clip_grad_norm_(parameter, 1.0, error_if_nonfinite=True)


def test_clip_grad_value():
    parameters = with_gradients(minidl)
    expected = np.clip(parameters[0].grad.numpy(), -0.3, 0.3)
    clip_grad_value_(parameters, 0.3)
    np.testing.assert_array_equal(parameters[0].grad.numpy(), expected)


def test_vectors():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    vector = parameters_to_vector(net.parameters())
    assert vector.shape == (11,)
    assert vector.tolist()[6:8] == net[0].bias.tolist()
    vector_to_parameters(minidl.arange(11.0), net.parameters())
    assert net[0].weight.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert net[1].bias.tolist() == [10]
    assert parameters_to_vector(net.parameters()).tolist() == list(range(11))
    with pytest.raises(TypeError, match=r"expected minidl\.Tensor, but got: list"):
        vector_to_parameters([1.0], net.parameters())
