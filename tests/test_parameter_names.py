"""Arguments given by the names that PyTorch has for them."""

from __future__ import annotations

import inspect
import re

import pytest
from outcomes import same, same_outcome

import minidl


def x(lib):
    return lib.tensor([[3.0, -1.0, 2.0], [0.5, 4.0, -2.0]])


def first(lib):
    return lib.tensor([[0, 1, 0]])


# a call by name, and the same call by position or in plainer words
CALLS = {
    "view": (lambda lib: x(lib).view(size=(3, 2)), lambda lib: x(lib).view(3, 2)),
    "reshape": (lambda lib: x(lib).reshape(shape=(3, -1)), lambda lib: x(lib).reshape(3, 2)),
    "reshape function": (lambda lib: lib.reshape(x(lib), shape=(6,)), lambda lib: x(lib).reshape(6)),
    "permute": (lambda lib: x(lib).permute(dims=(1, 0)), lambda lib: x(lib).permute(1, 0)),
    "permute function": (lambda lib: lib.permute(x(lib), dims=(1, 0)), lambda lib: x(lib).permute(1, 0)),
    "expand": (lambda lib: x(lib).expand(size=(2, -1, 3)), lambda lib: x(lib).expand(2, -1, 3)),
    "repeat": (lambda lib: x(lib).repeat(repeats=(2, 1)), lambda lib: x(lib).repeat(2, 1)),
    "tile": (lambda lib: x(lib).tile(dims=(2,)), lambda lib: x(lib).tile(2)),
    "flip": (lambda lib: x(lib).flip(dims=(0, 1)), lambda lib: x(lib).flip(0, 1)),
    "swapaxes": (lambda lib: x(lib).swapaxes(axis0=0, axis1=1), lambda lib: x(lib).swapaxes(0, 1)),
    "split": (lambda lib: x(lib).split(split_size=2, dim=1)[0], lambda lib: x(lib)[:, :2]),
    "split function": (lambda lib: lib.split(tensor=x(lib), split_size_or_sections=[1, 2], dim=1)[1],
                       lambda lib: x(lib)[:, 1:]),
    "squeeze_": (lambda lib: x(lib)[None].squeeze_(dim=0), x),
    "unsqueeze_": (lambda lib: x(lib).unsqueeze_(dim=0), lambda lib: x(lib)[None]),
    "max": (lambda lib: lib.max(x(lib), other=x(lib) * 0), lambda lib: x(lib).max(x(lib) * 0)),
    "min": (lambda lib: x(lib).min(other=x(lib) * 0), lambda lib: x(lib).min(x(lib) * 0)),
    "norm": (lambda lib: x(lib).norm(dtype=lib.float64), lambda lib: x(lib).double().norm()),
    "sort": (lambda lib: x(lib).sort(stable=True, dim=0).values, lambda lib: x(lib).sort(0).values),
    "argsort": (lambda lib: x(lib).argsort(dim=1, stable=True), lambda lib: x(lib).argsort(1)),
    "softmax": (lambda lib: x(lib).long().softmax(0, dtype=lib.float64), lambda lib: x(lib).long().double().softmax(0)),
    "log_softmax": (lambda lib: lib.log_softmax(x(lib), dim=0, dtype=lib.float64),
                    lambda lib: x(lib).double().log_softmax(0)),
    "round": (lambda lib: lib.round(x(lib) / 7, decimals=2),
              lambda lib: lib.tensor([[0.43, -0.14, 0.29], [0.07, 0.57, -0.29]])),
    "round tens": (lambda lib: (x(lib) * 7).round(decimals=-1),
                   lambda lib: lib.tensor([[20.0, -10.0, 10.0], [0.0, 30.0, -10.0]])),
    "round_": (lambda lib: (x(lib) / 7).round_(decimals=2), lambda lib: lib.round(x(lib) / 7, decimals=2)),
    "nonzero": (lambda lib: x(lib)[x(lib).relu().nonzero(as_tuple=True)], lambda lib: x(lib)[x(lib) > 0]),
    "nonzero of a number": (lambda lib: lib.tensor(3).nonzero(as_tuple=True)[0], lambda lib: lib.tensor([0])),
    "diag above": (lambda lib: lib.diag(x(lib)[0], diagonal=1),
                   lambda lib: lib.tensor([[0, 3.0, 0, 0], [0, 0, -1.0, 0], [0, 0, 0, 2.0], [0, 0, 0, 0]])),
    "diag below": (lambda lib: lib.diag(x(lib)[0, :1], diagonal=-1), lambda lib: lib.tensor([[0, 0], [3.0, 0]])),
    "diag of a matrix": (lambda lib: lib.diag(x(lib), diagonal=1), lambda lib: lib.tensor([-1.0, -2.0])),
    "diag beyond a matrix": (lambda lib: lib.diag(x(lib), diagonal=-3), lambda lib: lib.zeros(0)),
    "dot": (lambda lib: x(lib)[0].dot(tensor=x(lib)[1]), lambda lib: (x(lib)[0] * x(lib)[1]).sum()),
    "scatter": (lambda lib: x(lib).scatter(dim=0, index=first(lib), value=9.0),
                lambda lib: x(lib).scatter(0, first(lib), 9.0)),
    "scatter_": (lambda lib: x(lib).scatter_(dim=0, index=first(lib), src=x(lib)),
                 lambda lib: x(lib).scatter(0, first(lib), x(lib))),
    "tril_": (lambda lib: x(lib).tril_(), lambda lib: x(lib).tril()),
    "triu_": (lambda lib: x(lib).triu_(diagonal=1), lambda lib: x(lib).triu(1)),
    "random_": (lambda lib: x(lib).random_(**{"from": 3, "to": 4}), lambda lib: lib.full((2, 3), 3.0)),
    "uniform_": (lambda lib: x(lib).uniform_(**{"from": 3, "to": 3}), lambda lib: lib.full((2, 3), 3.0)),
    "zeros": (lambda lib: lib.zeros(size=(2, 3)), lambda lib: lib.zeros(2, 3)),
    "ones": (lambda lib: lib.ones(size=[2]), lambda lib: lib.ones(2)),
    "empty": (lambda lib: lib.empty(size=(0, 2)), lambda lib: lib.empty(0, 2)),
    "rand": (lambda lib: lib.rand(size=(2,), generator=lib.Generator().manual_seed(1)),
             lambda lib: lib.rand(2, generator=lib.Generator().manual_seed(1))),
    "randn": (lambda lib: lib.randn(size=(2,), generator=lib.Generator().manual_seed(1)),
              lambda lib: lib.randn(2, generator=lib.Generator().manual_seed(1))),
    "rand_like": (lambda lib: lib.rand_like(x(lib), generator=lib.Generator().manual_seed(1)),
                  lambda lib: lib.rand(2, 3, generator=lib.Generator().manual_seed(1))),
    "randn_like": (lambda lib: lib.randn_like(x(lib), generator=lib.Generator().manual_seed(1)),
                   lambda lib: lib.randn(2, 3, generator=lib.Generator().manual_seed(1))),
    "randint": (lambda lib: lib.randint(high=1, size=(2,)), lambda lib: lib.zeros(2).long()),
    "randint between": (lambda lib: lib.randint(low=4, high=5, size=(2,)), lambda lib: lib.full((2,), 4)),
    "randint high first": (lambda lib: lib.randint(1, size=(2,)), lambda lib: lib.zeros(2).long()),
    "arange": (lambda lib: lib.arange(end=3), lambda lib: lib.arange(3)),
    "arange from": (lambda lib: lib.arange(start=1, end=3), lambda lib: lib.arange(1, 3)),
    "new_zeros": (lambda lib: x(lib).new_zeros(size=(2,), dtype=lib.int32, device="cpu"),
                  lambda lib: lib.zeros(2, dtype=lib.int32)),
    "new_ones": (lambda lib: x(lib).new_ones(size=(2,), device="cpu"), lambda lib: lib.ones(2)),
    "new_empty": (lambda lib: x(lib).long().new_empty(size=(0,), device="cpu"), lambda lib: lib.empty(0).long()),
    "new_full": (lambda lib: x(lib).new_full(size=(2,), fill_value=3, device="cpu"), lambda lib: lib.full((2,), 3.0)),
    "new_tensor": (lambda lib: x(lib).new_tensor(data=[1.5], device="cpu"), lambda lib: lib.tensor([1.5])),
    "numel": (lambda lib: lib.tensor(lib.numel(input=x(lib))), lambda lib: lib.tensor(6)),
}

RECORDED = {
    "new_zeros": lambda lib: x(lib).new_zeros(2, requires_grad=True),
    "new_ones": lambda lib: x(lib).new_ones(2, requires_grad=True),
    "new_empty": lambda lib: x(lib).new_empty(2, requires_grad=True),
    "new_full": lambda lib: x(lib).new_full((2,), 1.0, requires_grad=True),
    "rand_like": lambda lib: lib.rand_like(x(lib), requires_grad=True),
    "randn_like": lambda lib: lib.randn_like(x(lib), requires_grad=True),
    "randperm": lambda lib: lib.randperm(2, dtype=lib.float32, requires_grad=True),
    "normal": lambda lib: lib.normal(0.0, 1.0, (2,), requires_grad=True),
}

WRONG = {
    "view": lambda lib: x(lib).view(6, size=(6,)),
    "zeros": lambda lib: lib.zeros(6, size=(6,)),
    "max": lambda lib: x(lib).max(0, other=x(lib)),
    "arange": lambda lib: lib.arange(),
    "randint": lambda lib: lib.randint(high=3),
    "scatter": lambda lib: x(lib).scatter(0, first(lib), x(lib), value=3.0),
    "scatter nothing": lambda lib: x(lib).scatter(0, first(lib)),
    "round": lambda lib: lib.tensor([15]).round(decimals=-1),
    "diag": lambda lib: lib.diag(x(lib)[None]),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_by_name_is_the_call_by_position(name):
    by_name, by_position = CALLS[name]
    same(by_name(minidl), by_position(minidl))


@pytest.mark.torch
@pytest.mark.parametrize("name", CALLS)
def test_a_call_by_name_is_pytorchs(name, torch):
    same_outcome(torch, CALLS[name][0])


@pytest.mark.parametrize("name", RECORDED)
def test_new_tensors_can_require_gradients(name):
    made = RECORDED[name](minidl)
    assert made.requires_grad and made.is_leaf


@pytest.mark.parametrize("name", WRONG)
def test_contradictions_are_refused(name):
    with pytest.raises((TypeError, RuntimeError)):
        WRONG[name](minidl)


@pytest.mark.torch
@pytest.mark.parametrize("name", WRONG)
def test_contradictions_are_refused_as_in_pytorch(name, torch):
    same_outcome(torch, WRONG[name])


def test_diag_is_differentiable():
    a = minidl.tensor([1.0, 2.0], dtype=minidl.float64, requires_grad=True)
    minidl.autograd.gradcheck(lambda a: minidl.diag(a * a, diagonal=1), (a,))
    minidl.autograd.gradcheck(lambda a: minidl.diag(a.reshape(2, 1) * a, diagonal=-1), (a,))


def test_round_with_decimals_has_no_slope():
    a = minidl.tensor([1.26], requires_grad=True)
    a.round(decimals=1).backward(minidl.ones(1))
    assert a.grad.tolist() == [0.0]


# Names that PyTorch documents and minidl has not: options of what minidl does not do, and deprecated ones; then what
# PyTorch's text calls otherwise than PyTorch's code does.
WITHOUT = {"out", "memory_format", "layout", "pin_memory", "sparse_grad", "out_dtype", "reduce", "non_blocking"}
MISNAMED = {
    "bmm": {"batch2"}, "matmul": {"tensor2"}, "narrow": {"dimension"}, "where": {"y"}, "type_as": {"tensor"},
    "broadcast_to": {"shape"},
    "div": {"value"}, "divide": {"value"}, "true_divide": {"value"}, "floor_divide": {"value"}, "mul": {"value"},
    "multiply": {"value"}, "remainder": {"divisor"}, "dot": {"other"},
}


def documented(name, function):
    """The names in the first line of a method's text in PyTorch."""
    found = re.match(rf"\s*{name}\((.*?)\) ?->", function.__doc__ or "")
    parts = [] if found is None else re.sub(r"\([^()]*\)|\[[^\]]*\]", "", found.group(1)).split(",")
    names = {re.split("[=:]", part.strip())[0].split(" ")[-1] for part in parts}
    return {each for each in names if each.isidentifier()} - WITHOUT - MISNAMED.get(name, set())


@pytest.mark.torch
def test_methods_have_the_parameters_that_pytorch_documents(torch):
    missing, compared = {}, 0
    for name, method in vars(minidl.Tensor).items():
        if name.startswith("_") or not inspect.isfunction(method) or not hasattr(torch.Tensor, name):
            continue
        parameters = inspect.signature(method).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            continue
        wanted = documented(name, getattr(torch.Tensor, name))
        compared += len(wanted)
        lacking = wanted - {parameter.name for parameter in parameters}
        if lacking:
            missing[name] = lacking
    assert missing == {}
    assert compared > 150  # PyTorch's text is still read as it was
