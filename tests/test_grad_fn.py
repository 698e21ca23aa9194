"""The names on the tape, and walking it."""

from __future__ import annotations

import pytest
from tape_parts import leaf

import minidl

NAMES = {
    "x + y": "AddBackward0",
    "x - y": "SubBackward0",
    "2 - x": "RsubBackward1",
    "x * y": "MulBackward0",
    "x / y": "DivBackward0",
    "-x": "NegBackward0",
    "x ** 2": "PowBackward0",
    "x ** y": "PowBackward1",
    "2 ** x": "PowBackward2",
    "x @ y": "MmBackward0",
    "x.abs()": "AbsBackward0",
    "x.exp()": "ExpBackward0",
    "x.log()": "LogBackward0",
    "x.sqrt()": "SqrtBackward0",
    "x.tanh()": "TanhBackward0",
    "x.relu()": "ReluBackward0",
    "x.sigmoid()": "SigmoidBackward0",
    "x.clamp(min=0)": "ClampBackward1",
    "x.sum()": "SumBackward0",
    "x.sum(0)": "SumBackward1",
    "x.mean()": "MeanBackward0",
    "x.mean((0, 1))": "MeanBackward1",
    "x.amax(0)": "AmaxBackward0",
    "x.max()": "MaxBackward1",
    "x.max(0).values": "MaxBackward0",
    "x.min(1).values": "MinBackward0",
    "x.var(0)": "VarBackward0",
    "x.logsumexp(0)": "LogsumexpBackward0",
    "x.cumsum(0)": "CumsumBackward0",
    "x.sort().values": "SortBackward0",
    "x.softmax(0)": "SoftmaxBackward0",
    "x.log_softmax(0)": "LogSoftmaxBackward0",
    "x.view(-1)": "ViewBackward0",
    "x.reshape(4, 1)": "ViewBackward0",
    "x.flatten()": "ViewBackward0",
    "x.t()": "TBackward0",
    "x.T": "PermuteBackward0",
    "x.mT": "TransposeBackward0",
    "x.transpose(0, 1)": "TransposeBackward0",
    "x.permute(1, 0)": "PermuteBackward0",
    "x.expand(2, 2, 2)": "ExpandBackward0",
    "x.unsqueeze(0)": "UnsqueezeBackward0",
    "x[None].squeeze()": "SqueezeBackward0",
    "x[None].squeeze(0)": "SqueezeBackward1",
    "x[0]": "SelectBackward0",
    "x[0, 1]": "SelectBackward0",
    "x[:, 1]": "SelectBackward0",
    "x.select(1, 0)": "SelectBackward0",
    "x[1:]": "SliceBackward0",
    "x[:, 1:]": "SliceBackward0",
    "x[None]": "UnsqueezeBackward0",
    "x[...]": "AliasBackward0",
    "x.narrow(0, 0, 1)": "SliceBackward0",
    "x[[0, 1]]": "IndexBackward0",
    "x[x > 0]": "IndexBackward0",
    "lib.cat([x, y])": "CatBackward0",
    "lib.stack([x, y])": "StackBackward0",
    "x.clone()": "CloneBackward0",
    "x.float()": "ToCopyBackward0",
    "x.flip(0)": "FlipBackward0",
    "x.roll(1, 0)": "RollBackward0",
    "x.repeat(2, 1)": "RepeatBackward0",
    "x.tril()": "TrilBackward0",
    "lib.where(x > 0, x, y)": "WhereBackward0",
    "lib.maximum(x, y)": "MaximumBackward0",
    "x.masked_fill(x > 0, 0.0)": "MaskedFillBackward0",
    "x.gather(0, lib.zeros(1, 2, dtype=lib.int64))": "GatherBackward0",
    "lib.bmm(x[None], y[None])": "BmmBackward0",
    "F.linear(x, y, x[0])": "AddmmBackward0",
    "F.linear(x, y)": "MmBackward0",
    "F.conv2d(x[None, None], y[None, None])": "ConvolutionBackward0",
    "F.max_pool2d(x[None, None], 2)": "MaxPool2DWithIndicesBackward0",
    "F.avg_pool2d(x[None, None], 2)": "AvgPool2DBackward0",
    "F.cross_entropy(x, lib.tensor([0, 1]))": "NllLossBackward0",
    "F.nll_loss(x, lib.tensor([0, 1]))": "NllLossBackward0",
    "F.mse_loss(x, y)": "MseLossBackward0",
    "F.leaky_relu(x)": "LeakyReluBackward0",
    "F.batch_norm(x, None, None, training=True)": "NativeBatchNormBackward0",
    "x.add_(y)": "AddBackward0",
    "x.zero_()": "ZeroBackward0",
    "x.mul_(2)": "MulBackward0",
}


def name_of(lib, expression):
    x = lib.tensor([[0.5, 1.0], [2.0, 0.7]], dtype=lib.float64, requires_grad=True) * 1.0
    y = lib.tensor([[0.3, 1.5], [0.2, 4.0]], dtype=lib.float64, requires_grad=True) * 1.0
    return eval(expression, {"lib": lib, "x": x, "y": y, "F": lib.nn.functional}).grad_fn.name()


@pytest.mark.parametrize("expression", NAMES)
def test_grad_fn_has_pytorchs_name(expression):
    assert name_of(minidl, expression) == NAMES[expression]


@pytest.mark.torch
@pytest.mark.parametrize("expression", NAMES)
def test_the_stored_names_are_pytorchs(expression, torch):
    assert name_of(torch, expression) == NAMES[expression]


def test_the_graph_can_be_walked():
    a, b = leaf(1.0), leaf(2.0)
    y = (a * b).exp() + a
    add = y.grad_fn
    (exp, number), (accumulate, _) = add.next_functions
    assert exp.name() == "ExpBackward0" and number == 0
    assert accumulate.name() == "AccumulateGrad" and accumulate.variable is a
    ((mul, _),) = exp.next_functions
    assert mul.name() == "MulBackward0" and [
        f.variable is v for (f, _), v in zip(mul.next_functions, (a, b), strict=True)
    ]
    assert repr(add).startswith("<AddBackward0 object at 0x")
    assert (a * minidl.ones(1)).grad_fn.next_functions[1] == (None, 0)
    values, _ = (a * 1.0).max(0)
    assert values.output_nr == 0
