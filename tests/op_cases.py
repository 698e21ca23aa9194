"""One table of every op: how to call it, and on what.  The generic tests in ``test_ops.py`` draw from it.

A case is written once for both libraries: ``call(lib, *tensors)`` is run with ``lib`` minidl and with PyTorch.  Inputs
are described by their shape and the kind of numbers in them, and made by NumPy with a seed of the case's own.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# kinds of numbers: what keeps an op away from its kinks and out of undefined ground
KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "any": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.uniform(0.5, 2.0, shape),
    "unit": lambda rng, shape: rng.uniform(-0.9, 0.9, shape),
    # at least 0.05 away from zero and from each other: no kink, no tie within reach of a finite difference
    "apart": lambda rng, shape: (rng.permutation(int(np.prod(shape))).reshape(shape) - np.prod(shape) / 2 + 0.3) * 0.1,
    "zeros": lambda rng, shape: np.where(rng.random(shape) < 0.5, 0.0, rng.standard_normal(shape)),
}


@dataclass(frozen=True)
class Case:
    """``call(lib, *tensors)`` over float tensors of the given shapes and kinds."""

    name: str
    call: Callable[..., Any]
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    exact: bool = True      # computes in float64 throughout, so that finite differences can follow

    def arrays(self) -> list[np.ndarray]:
        """The inputs, float64; the same in every run."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [np.ascontiguousarray(KINDS[kind](rng, shape)) for shape, kind in self.inputs]


def _case(name: str, call: Callable[..., Any], *inputs: Any, exact: bool = True) -> Case:
    described = tuple(spec if spec and isinstance(spec[-1], str) else (spec, "any") for spec in inputs)
    return Case(name, call, described, exact)


def _index(lib: Any, values: Any) -> Any:
    return lib.tensor(values)


_UNARY_KINDS = {
    "abs": "apart", "neg": "any", "square": "any", "exp": "any", "expm1": "any", "log": "positive", "log1p": "positive",
    "log2": "positive", "log10": "positive", "sqrt": "positive", "rsqrt": "positive", "reciprocal": "positive",
    "sin": "any", "cos": "any", "tan": "unit", "asin": "unit", "acos": "unit", "atan": "any", "sinh": "any",
    "cosh": "any", "tanh": "any", "sigmoid": "any", "relu": "apart", "sign": "apart", "floor": "apart", "ceil": "apart",
    "round": "apart", "trunc": "apart",
}


def _unary(name: str, kind: str) -> Case:
    return _case(name, lambda lib, x: getattr(lib, name)(x), ((3, 4), kind))


def _copied_view(lib: Any, x: Any, y: Any) -> Any:
    """A chain of in-place changes through views: the base's gradient must follow all of them."""
    z = x * 1.0
    z[1:, ::2] = y
    row = z[0]
    row.mul_(3.0)
    z.view(-1)[2:4].add_(y[0])
    return z * z


def _dropped(lib: Any, x: Any) -> Any:
    lib.manual_seed(7)
    return lib.nn.functional.dropout(x, 0.4) * x


POINTWISE = [
    *(_unary(name, kind) for name, kind in _UNARY_KINDS.items()),
    _case("add", lambda lib, a, b: a + b, (3, 4), (3, 4)),
    _case("add broadcast", lambda lib, a, b: a + b, (2, 3, 4), (3, 1)),
    _case("add alpha", lambda lib, a, b: lib.add(a, b, alpha=2.5), (3, 4), (4,)),
    _case("add scalar", lambda lib, a: 2.5 + a, (3, 4)),
    _case("sub", lambda lib, a, b: a - b, (3, 4), (1, 4)),
    _case("sub scalar", lambda lib, a: 1.5 - a, (3,)),
    _case("mul", lambda lib, a, b: a * b, (3, 4), (4,)),
    _case("mul scalar", lambda lib, a: a * -2.0, (3, 4)),
    _case("mul 0-d", lambda lib, a, b: a * b, (3, 4), ()),
    _case("mul by itself", lambda lib, a: a * a, (3, 4)),
    _case("div", lambda lib, a, b: a / b, (3, 4), ((3, 1), "positive")),
    _case("div scalar", lambda lib, a: 2.0 / a, ((3, 4), "positive")),
    _case("pow", lambda lib, a, b: a**b, ((3, 4), "positive"), (3, 4)),
    _case("pow scalar", lambda lib, a: a**3, (3, 4)),
    _case("pow square", lambda lib, a: a**2, ((3, 4), "zeros")),
    _case("pow of scalar", lambda lib, a: 2.0**a, (3, 4)),
    _case("maximum", lambda lib, a, b: lib.maximum(a, b), ((3, 4), "apart"), ((4,), "unit")),
    _case("minimum", lambda lib, a, b: lib.minimum(a, b), ((3, 4), "apart"), ((4,), "unit")),
    _case("atan2", lambda lib, a, b: lib.atan2(a, b), ((3, 4), "positive"), ((3, 4), "positive")),
    _case("remainder", lambda lib, a: lib.remainder(a, 1.7), ((3, 4), "apart")),
    _case("where", lambda lib, a, b: lib.where(a > 0.1, a, b), ((3, 4), "apart"), (4,)),
    _case("clamp", lambda lib, a: lib.clamp(a, -0.32, 0.41), ((3, 4), "apart")),
    _case("clamp min", lambda lib, a: a.clamp(min=0.02), ((3, 4), "apart")),
    _case("masked_fill", lambda lib, a: a.masked_fill(a > 0.1, 7.0), ((3, 4), "apart")),
    _case("leaky_relu", lambda lib, a: lib.nn.functional.leaky_relu(a, 0.2), ((3, 4), "apart")),
    _case("elu", lambda lib, a: lib.nn.functional.elu(a, 1.3), ((3, 4), "apart")),
    _case("softplus", lambda lib, a: lib.nn.functional.softplus(a, 2.0), (3, 4)),
    _case("logsigmoid", lambda lib, a: lib.nn.functional.logsigmoid(a), (3, 4)),
    _case("erf", lambda lib, a: lib.erf(a), (3, 4)),
    _case("gelu", lambda lib, a: lib.nn.functional.gelu(a), (3, 4)),
    _case("dropout", lambda lib, a: _dropped(lib, a), (3, 4)),
    _case("clone", lambda lib, a: a.clone() * 2, (3, 4)),
    _case("cast", lambda lib, a: (a.float() * 1.0).double() * 3.0, ((3, 4), "positive"), exact=False),
    _case("in-place chain", lambda lib, a, b: (a * 2).add_(b).mul_(3.0).tanh_(), (3, 4), (4,)),
    _case("in-place views", _copied_view, (3, 4), (2, 2)),
    _case("fill_", lambda lib, a: (a * 2)[0].fill_(3.0) + (a * 2).zero_(), (3, 4)),
]

REDUCE = [
    _case("sum", lambda lib, x: x.sum(), (3, 4)),
    _case("sum dims", lambda lib, x: x.sum((0, 2)), (2, 3, 4)),
    _case("sum keepdim", lambda lib, x: x.sum(-1, keepdim=True), (2, 3, 4)),
    _case("mean", lambda lib, x: x.mean(), (3, 4)),
    _case("mean dims", lambda lib, x: x.mean((1, 2), keepdim=True), (2, 3, 4)),
    _case("prod", lambda lib, x: x.prod(), (7,)),
    _case("prod dim with zeros", lambda lib, x: x.prod(1), ((3, 5), "zeros")),
    _case("amax", lambda lib, x: x.amax((0, 2)), ((2, 3, 4), "apart")),
    _case("amin", lambda lib, x: x.amin(1, keepdim=True), ((2, 3, 4), "apart")),
    _case("max all", lambda lib, x: x.max(), ((3, 4), "apart")),
    _case("max dim", lambda lib, x: x.max(1)[0], ((3, 4), "apart")),
    _case("max dim keepdim", lambda lib, x: x.max(0, keepdim=True)[0], ((3, 4), "apart")),
    _case("min dim", lambda lib, x: x.min(-1)[0], ((2, 3, 4), "apart")),
    _case("var", lambda lib, x: x.var(), (3, 4)),
    _case("var dim", lambda lib, x: x.var(1, unbiased=False), (3, 4)),
    _case("std", lambda lib, x: x.std(0, keepdim=True), (3, 4)),
    _case("logsumexp", lambda lib, x: x.logsumexp(1), (3, 4)),
    _case("norm", lambda lib, x: x.norm(), (3, 4)),
    _case("norm dim", lambda lib, x: x.norm(3, dim=1), ((3, 4), "positive")),
    _case("cumsum", lambda lib, x: x.cumsum(1), (3, 4)),
    _case("sort", lambda lib, x: x.sort(1, descending=True)[0], ((3, 4), "apart")),
    _case("topk", lambda lib, x: x.topk(2, 1)[0], ((3, 4), "apart")),
]

MATMUL = [
    _case("matmul", lambda lib, a, b: a @ b, (3, 4), (4, 5)),
    _case("matmul vectors", lambda lib, a, b: a @ b, (4,), (4,)),
    _case("matmul matrix vector", lambda lib, a, b: a @ b, (3, 4), (4,)),
    _case("matmul vector matrix", lambda lib, a, b: a @ b, (4,), (4, 2)),
    _case("matmul stacks", lambda lib, a, b: a @ b, (2, 1, 3, 4), (5, 4, 2)),
    _case("matmul transposed", lambda lib, a, b: a.t() @ b.t(), (4, 3), (5, 4)),
    _case("linear", lambda lib, x, w, b: lib.nn.functional.linear(x, w, b), (3, 4), (5, 4), (5,)),
    _case("linear no bias", lambda lib, x, w: lib.nn.functional.linear(x, w), (2, 3, 4), (5, 4)),
    _case("linear vector", lambda lib, x, w, b: lib.nn.functional.linear(x, w, b), (4,), (5, 4), (5,)),
]

SHAPE = [
    _case("reshape", lambda lib, x: x.reshape(4, -1) * 2, (2, 6)),
    _case("reshape copy", lambda lib, x: x.t().reshape(-1) * 2, (2, 6)),
    _case("permute", lambda lib, x: x.permute(2, 0, 1) * 2, (2, 3, 4)),
    _case("transpose", lambda lib, x: x.transpose(0, -1).exp(), (2, 3, 4)),
    _case("flatten", lambda lib, x: x.flatten(1) * 2, (2, 3, 4)),
    _case("squeeze unsqueeze", lambda lib, x: x.squeeze(1).unsqueeze(0) * x.sum(), (3, 1, 2)),
    _case("expand", lambda lib, x: x.expand(2, 3, 4) * 2, (3, 1)),
    _case("slice", lambda lib, x: x[1:, ::2] * 2, (3, 5)),
    _case("slice int and None", lambda lib, x: x[1, None, ..., 2:].exp(), (3, 2, 5)),
    _case("slice overlapping uses", lambda lib, x: x[:2] * x[1:], (3, 4)),
    _case("cat", lambda lib, a, b: lib.cat([a, b * 2], 1), (3, 2), (3, 4)),
    _case("stack", lambda lib, a, b: lib.stack([a, b, a], -1), (3, 2), (3, 2)),
    _case("split", lambda lib, x: x.split(2, 1)[1] * x.split(2, 1)[0], (3, 4)),
    _case("unbind", lambda lib, x: x.unbind(1)[0] * x.unbind(1)[2], (3, 4)),
    _case("flip", lambda lib, x: x.flip(0, 1) * x, (3, 4)),
    _case("roll", lambda lib, x: x.roll((1, 2), (0, 1)) * x, (3, 4)),
    _case("repeat", lambda lib, x: x.repeat(2, 3, 1) * 2, (3, 4)),
    _case("tril", lambda lib, x: x.tril(1), (3, 4)),
    _case("triu", lambda lib, x: x.triu(), (3, 4)),
    *(
        _case(f"pad {mode}", lambda lib, x, mode=mode: lib.nn.functional.pad(x, (1, 2, 2, 1), mode=mode), (2, 2, 4, 5))
        for mode in ("constant", "reflect", "replicate", "circular")
    ),
]

INDEXING = [
    _case("index rows", lambda lib, x: x[_index(lib, [2, 0, 2])] * 2, (3, 4)),
    _case("index pairs", lambda lib, x: x[_index(lib, [0, 1]), _index(lib, [3, 3])], (3, 4)),
    _case("index mixed", lambda lib, x: x[:, _index(lib, [1, 1, 0]), 1:], (2, 3, 4)),
    _case("index mask", lambda lib, x: x[x > 0.1], ((3, 4), "apart")),
    _case("setitem", lambda lib, x, y: _assigned(x, (slice(1, None), slice(None, None, 2)), y), (3, 4), (2, 2)),
    _case("setitem rows", lambda lib, x, y: _assigned(x, _index(lib, [2, 0]), y), (3, 4), (4,)),
    _case("index_put", lambda lib, x, y: lib.Tensor.index_put(x, (_index(lib, [1, 1, 0]),), y, True), (3, 4), (3, 4)),
    _case("gather", lambda lib, x: x.gather(1, _index(lib, [[0, 0, 3], [1, 2, 1]])), (3, 4)),
    _case("scatter", lambda lib, x, y: x.scatter(1, _index(lib, [[0, 3], [1, 2]]), y), (3, 4), (2, 2)),
    _case("scatter_add", lambda lib, x, y: x.scatter_add(0, _index(lib, [[0, 0, 2], [1, 0, 2]]), y), (3, 4), (2, 3)),
    _case("index_select", lambda lib, x: x.index_select(1, _index(lib, [1, 3, 1])), (3, 4)),
]


def _assigned(x: Any, key: Any, value: Any) -> Any:
    y = x * 1.0
    y[key] = value
    return y * y


def _conv(op: str = "conv2d", **options: Any) -> Callable[..., Any]:
    return lambda lib, *tensors: getattr(lib.nn.functional, op)(*tensors, **options)


CONV = [
    _case("conv2d", _conv(), (2, 3, 5, 6), (4, 3, 3, 2), (4,)),
    _case("conv2d no bias", _conv(padding=1), (2, 2, 4, 4), (3, 2, 3, 3)),
    _case("conv2d stride", _conv(stride=(2, 3), padding=(1, 0)), (2, 3, 6, 7), (2, 3, 3, 3), (2,)),
    _case("conv2d dilation", _conv(dilation=2, padding=2), (1, 2, 6, 5), (2, 2, 2, 3), (2,)),
    _case("conv2d groups", _conv(groups=2, stride=2, padding=1), (2, 4, 5, 5), (6, 2, 3, 3), (6,)),
    _case("conv2d depthwise", _conv(groups=3, stride=2), (2, 3, 5, 5), (3, 1, 3, 3), (3,)),
    _case("conv2d 1x1", _conv(), (2, 3, 4, 3), (5, 3, 1, 1), (5,)),
    _case("conv2d same", _conv(padding="same"), (1, 2, 4, 5), (2, 2, 2, 3)),
    _case("conv2d leftover", _conv(stride=3, dilation=2), (1, 2, 9, 10), (2, 2, 2, 2), (2,)),
    _case("conv1d", _conv("conv1d", stride=2, padding=1), (2, 3, 8), (4, 3, 3), (4,)),
    _case("conv1d unbatched", _conv("conv1d", padding="same", dilation=2), (2, 7), (3, 2, 4)),
    _case("conv1d groups", _conv("conv1d", groups=2, dilation=2), (2, 4, 7), (6, 2, 3), (6,)),
    _case("conv_transpose2d", _conv("conv_transpose2d"), (2, 3, 3, 4), (3, 4, 3, 2), (4,)),
    _case("conv_transpose2d stride", _conv("conv_transpose2d", stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
          (2, 3, 3, 2), (3, 2, 3, 4), (2,)),
    _case("conv_transpose2d groups", _conv("conv_transpose2d", stride=2, groups=2, dilation=2), (1, 4, 3, 2),
          (4, 3, 2, 3), (6,)),
    _case("conv_transpose2d unbatched", _conv("conv_transpose2d", padding=1), (2, 4, 3), (2, 3, 3, 3)),
    _case("conv_transpose2d far padding", _conv("conv_transpose2d", dilation=3, output_padding=(2, 1)), (1, 2, 3, 2),
          (2, 2, 2, 2), (2,)),
    _case("conv_transpose1d", _conv("conv_transpose1d", stride=3, padding=1, output_padding=2), (2, 3, 4), (3, 2, 4),
          (2,)),
    _case("conv_transpose1d groups", _conv("conv_transpose1d", stride=2, dilation=3, output_padding=2, groups=2),
          (2, 4, 3), (4, 1, 2)),
]

POOL = [
    _case("max_pool2d", lambda lib, x: lib.nn.functional.max_pool2d(x, 2), ((2, 3, 4, 6), "apart")),
    _case("max_pool2d overlapping", lambda lib, x: lib.nn.functional.max_pool2d(x, 3, 2, 1), ((1, 2, 7, 6), "apart")),
    _case("max_pool2d ceil dilation", lambda lib, x: lib.nn.functional.max_pool2d(
        x, 2, 2, 0, dilation=2, ceil_mode=True), ((1, 2, 7, 6), "apart")),
    _case("max_pool2d indices", lambda lib, x: lib.nn.functional.max_pool2d(x, 2, return_indices=True)[0],
          ((1, 2, 4, 4), "apart")),
    _case("avg_pool2d", lambda lib, x: lib.nn.functional.avg_pool2d(x, 2), (2, 3, 4, 6)),
    _case("avg_pool2d padded", lambda lib, x: lib.nn.functional.avg_pool2d(
        x, 3, 2, 1, ceil_mode=True, count_include_pad=False), (1, 2, 7, 6)),
    _case("avg_pool2d divisor", lambda lib, x: lib.nn.functional.avg_pool2d(x, 2, divisor_override=3), (1, 2, 4, 4)),
    _case("adaptive_avg_pool2d", lambda lib, x: lib.nn.functional.adaptive_avg_pool2d(x, (3, 2)), (2, 2, 5, 7)),
]


def _cross_entropy(**options: Any) -> Callable[..., Any]:
    def call(lib: Any, x: Any) -> Any:
        given = dict(options)
        if "weight" in given:
            given["weight"] = lib.tensor(given["weight"], dtype=x.dtype)
        return lib.nn.functional.cross_entropy(x, lib.tensor([1, 0, 3]), **given)

    return call


LOSS = [
    _case("softmax", lambda lib, x: x.softmax(1), (3, 4)),
    _case("log_softmax", lambda lib, x: x.log_softmax(0), (3, 4)),
    _case("cross_entropy", _cross_entropy(), (3, 4)),
    _case("cross_entropy sum", _cross_entropy(reduction="sum"), (3, 4)),
    _case("cross_entropy none", _cross_entropy(reduction="none"), (3, 4)),
    _case("cross_entropy weight", _cross_entropy(weight=[0.5, 1.0, 2.0, 3.0]), (3, 4)),
    _case("cross_entropy ignore", _cross_entropy(ignore_index=0), (3, 4)),
    _case("cross_entropy smoothing", _cross_entropy(label_smoothing=0.2, weight=[0.5, 1.0, 2.0, 3.0]), (3, 4)),
    _case("cross_entropy maps", lambda lib, x: lib.nn.functional.cross_entropy(
        x, lib.tensor([[[0, 1], [2, 2]], [[1, 1], [0, 2]]])), (2, 3, 2, 2)),
    _case("cross_entropy probabilities", lambda lib, x, t: lib.nn.functional.cross_entropy(
        x, t.softmax(1), label_smoothing=0.1), (3, 4), (3, 4)),
    _case("nll_loss", lambda lib, x: lib.nn.functional.nll_loss(x, lib.tensor([1, 0, 3])), (3, 4)),
    _case("nll_loss none", lambda lib, x: lib.nn.functional.nll_loss(
        x, lib.tensor([1, 0, 3]), reduction="none", ignore_index=0), (3, 4)),
    _case("binary_cross_entropy", lambda lib, x, y: lib.nn.functional.binary_cross_entropy(x.sigmoid(), y.sigmoid()),
          (3, 4), (3, 4)),
    _case("gelu", lambda lib, x: lib.nn.functional.gelu(x), (3, 4)),
    _case("dropout", lambda lib, x: (lib.manual_seed(0), lib.nn.functional.dropout(x, 0.4))[1], (5, 6)),
    _case("mse_loss", lambda lib, x, y: lib.nn.functional.mse_loss(x, y), (3, 4), (3, 4)),
    _case("mse_loss none", lambda lib, x, y: lib.nn.functional.mse_loss(x, y, reduction="none"), (3, 4), (3, 4)),
    _case("l1_loss", lambda lib, x, y: lib.nn.functional.l1_loss(x, y, reduction="sum"), ((3, 4), "positive"),
          ((3, 4), "apart")),
    _case("binary_cross_entropy", lambda lib, x, y: lib.nn.functional.binary_cross_entropy(x.sigmoid(), y.sigmoid()),
          (3, 4), (3, 4)),
    _case("bce_with_logits", lambda lib, x, y: lib.nn.functional.binary_cross_entropy_with_logits(x, y.sigmoid()),
          (3, 4), (3, 4)),
]


def _batch_norm(training: bool, running: bool = False) -> Callable[..., Any]:
    def call(lib: Any, x: Any, *affine: Any) -> Any:
        kind = x.dtype
        mean = lib.tensor([0.1, -0.2, 0.3], dtype=kind) if running or not training else None
        var = lib.tensor([0.5, 1.5, 2.0], dtype=kind) if running or not training else None
        return lib.nn.functional.batch_norm(x, mean, var, *affine, training=training, momentum=0.3)

    return call


NORMALIZATION = [
    _case("batch_norm training", _batch_norm(True), (4, 3, 2, 2), (3,), (3,)),
    _case("batch_norm training 2-d", _batch_norm(True, running=True), (6, 3), (3,), (3,)),
    _case("batch_norm eval", _batch_norm(False), (4, 3, 2, 2), (3,), (3,)),
    _case("batch_norm no affine", _batch_norm(True), (4, 3, 2)),
]

CASES = [*POINTWISE, *REDUCE, *MATMUL, *SHAPE, *INDEXING, *CONV, *POOL, *LOSS, *NORMALIZATION]
