"""Generic tests over the table of op cases: against PyTorch, on every device class, and derivatives to second order."""

from __future__ import annotations

import numpy as np
import pytest
from op_cases import CASES

import minidl
from minidl._devices.reference import Reference
from minidl._ext import core
from minidl._ext.core import Op, Tensor

REFERENCE = Reference()

# Ops that no gradient ever reaches: answers, indices, integers, or memory that a rule asks for.
WITHOUT_DERIVATIVE = {name for name, op in core.REGISTERED.items() if isinstance(op, Op) and op.backward is None}


def ids(case):
    return case.name.replace(" ", "-")


def on(backend, arrays, dtype=np.float64):
    """Leaf tensors over the arrays on a backend."""
    return [core.from_raw(backend.from_host(a.astype(dtype)), backend).requires_grad_() for a in arrays]


def numbers(result):
    return np.asarray(result.detach()._raw)


def ops_on_tape(tensor):
    """Names of the ops behind a tensor."""
    seen, stack, names = set(), [tensor.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.add(node.op.name)
        stack += [edge for edge in (*node.edges, *node.args) if isinstance(edge, core.Node)]
    return names


@pytest.mark.parametrize("case", [c for c in CASES if c.exact], ids=ids)
def test_gradients_agree_with_finite_differences(case):
    tensors = on(minidl.zeros(1)._backend, case.arrays())
    minidl.autograd.gradcheck(lambda *args: case.call(minidl, *args), tensors)


@pytest.mark.parametrize("case", [c for c in CASES if c.exact], ids=ids)
def test_second_derivatives_agree_with_finite_differences(case):
    tensors = on(minidl.zeros(1)._backend, case.arrays())
    minidl.autograd.gradgradcheck(lambda *args: case.call(minidl, *args), tensors, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=ids)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-12)])
def test_the_cpu_agrees_with_the_reference(case, dtype, tolerance):
    """float32: a few hundred roundings of 6e-8 on numbers near one; float64: the same of 1e-16."""
    tolerance = tolerance if case.exact else 2e-5
    results = []
    for backend in (REFERENCE, minidl.zeros(1)._backend):
        tensors = on(backend, case.arrays(), dtype)
        out = case.call(Library(backend), *tensors)
        grads = minidl.autograd.grad(out.sum(), tensors, allow_unused=True) if out.requires_grad else []
        results.append([numbers(out), *(numbers(g) for g in grads if g is not None)])
    for expected, got in zip(*results, strict=True):
        assert got.dtype == expected.dtype
        atol = tolerance * max(1.0, np.abs(expected).max(initial=0))
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=atol)


class Library:
    """minidl, with ``tensor`` making its tensors on a given backend."""

    def __init__(self, backend):
        self.backend = backend

    def __getattr__(self, name):
        return getattr(minidl, name)

    def tensor(self, data, dtype=None):
        return core.from_raw(self.backend.from_host(minidl.tensor(data, dtype=dtype).numpy()), self.backend)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # PyTorch's, about its own speed
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_values_and_gradients_are_pytorchs(case):
    """Both compute in float64; sums of up to a few hundred products differ by their order only."""
    torch = pytest.importorskip("torch")
    arrays = case.arrays()
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    ours = on(minidl.zeros(1)._backend, arrays)
    expected, got = case.call(torch, *theirs), case.call(minidl, *ours)
    assert tuple(got.shape) == tuple(expected.shape)
    np.testing.assert_allclose(numbers(got), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert got.requires_grad == expected.requires_grad
    if not got.requires_grad:
        return
    direction = np.random.default_rng(1).standard_normal(expected.shape)
    grads = minidl.autograd.grad(got, ours, minidl.tensor(direction), allow_unused=True)
    expected_grads = torch.autograd.grad(expected, theirs, torch.from_numpy(np.array(direction)), allow_unused=True)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert (grad is None) == (expected_grad is None)
        if grad is not None:
            np.testing.assert_allclose(numbers(grad), expected_grad.numpy(), rtol=1e-10, atol=1e-12)


def test_every_differentiable_op_has_a_case():
    """An op that is registered with a derivative is reached by a case, in its gradient or its gradient's gradient."""
    reached = set()
    for case in CASES:
        tensors = on(minidl.zeros(1)._backend, case.arrays())
        out = case.call(minidl, *tensors)
        reached |= ops_on_tape(out)
        grads = minidl.autograd.grad((out * out).sum(), tensors, create_graph=True, allow_unused=True)
        for grad in grads:
            if isinstance(grad, Tensor) and grad.grad_fn is not None:
                reached |= ops_on_tape(grad)
                seconds = minidl.autograd.grad((grad * grad).sum(), tensors, create_graph=True, allow_unused=True)
                for second in seconds:
                    if isinstance(second, Tensor) and second.grad_fn is not None:
                        reached |= ops_on_tape(second)
    registered = {name for name, op in core.REGISTERED.items() if isinstance(op, Op)} - WITHOUT_DERIVATIVE
    assert registered - reached == set()
