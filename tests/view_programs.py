"""Random programs of views, in-place changes and arithmetic, written once for both libraries.

A program is a list of steps drawn from a seeded generator.  It is drawn while minidl runs it (the shapes that are there
decide what can come next) and can then be replayed in another library, which must come to the same numbers, the same
errors at the same steps, and the same gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Step = tuple[str, Callable[[Any, list[Any]], Any]]


def starts(lib: Any, kind: str, a: Any, b: Any) -> list[Any]:
    """The tensors that a program begins with; the leaves ``a`` (3, 4) and ``b`` (4,) require gradients."""
    if kind == "recorded":
        return [a * 1.5, b + 0.5]
    if kind == "not recorded":
        return [lib.from_numpy(np.linspace(-1, 1, 12).reshape(3, 4).copy()), b * 2.0]
    if kind == "column-major":
        return [lib.from_numpy(np.linspace(-1, 1, 12).reshape(4, 3).copy()).t().detach(), b * 2.0]
    return [(a * 1.0).view(2, 6), a, b]


STARTS = ("recorded", "not recorded", "column-major", "with leaves")


@dataclass
class Program:
    """Steps with a readable text each, for the message of a failing test."""

    start: str
    steps: list[Step] = field(default_factory=list)

    def run(self, lib: Any, a: Any, b: Any) -> tuple[list[Any], list[str]]:
        """All tensors that the program made, and what each step ended with: '' or 'error'."""
        tensors = starts(lib, self.start, a, b)
        outcomes = []
        for _, step in self.steps:
            outcomes.append(perform(lib, step, tensors))
        return tensors, outcomes

    def __str__(self) -> str:
        return "\n".join([f"start: {self.start}", *(text for text, _ in self.steps)])


def perform(lib: Any, step: Callable[[Any, list[Any]], Any], tensors: list[Any]) -> str:
    """Run one step; what it returns joins the tensors."""
    for tensor in tensors:
        tensor.grad_fn  # noqa: B018 - PyTorch finds a view's new place on the tape only when it is asked for it
    try:
        result = step(lib, tensors)
    except RuntimeError:
        return "error"
    if result is not None:
        tensors.append(result)
    return ""


def loss(lib: Any, tensors: list[Any]) -> Any:
    """One number that depends on every tensor, each place with a weight of its own."""
    total = lib.zeros((), dtype=lib.float64)
    for i, tensor in enumerate(tensors):
        weights = np.cos(np.arange(int(np.prod(tuple(tensor.shape)))) + i).reshape(tuple(tensor.shape))
        total = total + (tensor * lib.from_numpy(np.array(weights))).sum()
    return total


def draw(seed: int, length: int, differentiable: bool) -> Program:
    """A program of ``length`` steps; ``differentiable`` leaves out what finite differences cannot follow."""
    import minidl

    rng = np.random.default_rng(seed)
    program = Program(STARTS[int(rng.integers(3 if differentiable else 4))])
    a, b = leaves(minidl)
    tensors = starts(minidl, program.start, a, b)
    for _ in range(length):
        step = _draw_step(rng, tensors, differentiable)
        program.steps.append(step)
        perform(minidl, step[1], tensors)
    return program


def leaves(lib: Any, a: np.ndarray | None = None, b: np.ndarray | None = None) -> tuple[Any, Any]:
    """The two leaves."""
    a = np.sin(np.arange(12.0)).reshape(3, 4) if a is None else a
    b = np.cos(np.arange(4.0)) if b is None else b
    return lib.from_numpy(a.copy()).requires_grad_(), lib.from_numpy(b.copy()).requires_grad_()


def _draw_step(rng: np.random.Generator, tensors: list[Any], differentiable: bool) -> Step:
    i = int(rng.integers(len(tensors)))
    # The newest tensors are the most interesting ones: views of views, changed again.
    if rng.random() < 0.5:
        i = len(tensors) - 1 - int(rng.integers(min(3, len(tensors))))
    kind = rng.choice(["view", "in place", "new", "aside"], p=[0.42, 0.38, 0.2, 0.0] if differentiable
                      else [0.38, 0.38, 0.14, 0.1])
    if kind == "view":
        return _draw_view(rng, i, tuple(tensors[i].shape))
    if kind == "in place":
        return _draw_in_place(rng, i, tensors)
    if kind == "new":
        return _draw_new(rng, i, tensors)
    return _draw_aside(rng, i, tuple(tensors[i].shape))


def _draw_view(rng: np.random.Generator, i: int, shape: tuple[int, ...]) -> Step:
    size = int(np.prod(shape))
    options: list[Step] = [
        (f"t{i}.view(-1)", lambda lib, ts: ts[i].view(-1)),
        (f"t{i}.reshape(-1)", lambda lib, ts: ts[i].reshape(-1)),
        (f"t{i}.unsqueeze(0)", lambda lib, ts: ts[i].unsqueeze(0)),
        (f"t{i}.squeeze()", lambda lib, ts: ts[i].squeeze()),
        (f"t{i}[...]", lambda lib, ts: ts[i][...]),
        (f"t{i}.expand(2, ...)", lambda lib, ts: ts[i].expand((2, *shape)) if len(shape) < 4 else None),
    ]
    if size % 2 == 0 and size:
        options.append((f"t{i}.view(2, -1)", lambda lib, ts: ts[i].view(2, -1)))
    if len(shape) == 2:
        options.append((f"t{i}.t()", lambda lib, ts: ts[i].t()))
    if len(shape) > 1:
        order = tuple(int(d) for d in rng.permutation(len(shape)))
        options.append((f"t{i}.permute{order}", lambda lib, ts: ts[i].permute(*order)))
        options.append((f"t{i}.transpose(0, -1)", lambda lib, ts: ts[i].transpose(0, -1)))
        options.append((f"t{i}.flatten(0, 1)", lambda lib, ts: ts[i].flatten(0, 1)))
    if shape:
        dim = int(rng.integers(len(shape)))
        if shape[dim]:
            at = int(rng.integers(shape[dim]))
            options += [(f"t{i}.select({dim}, {at})", lambda lib, ts: ts[i].select(dim, at))] * 2
            length = int(rng.integers(1, shape[dim] - at + 1))
            options += [(f"t{i}.narrow({dim}, {at}, {length})", lambda lib, ts: ts[i].narrow(dim, at, length))] * 2
            step = int(rng.integers(1, 4))
            key = (slice(None),) * dim + (slice(at, None, step),)
            options += [(f"t{i}[{key}]", lambda lib, ts: ts[i][key])] * 2
            options.append((f"t{i}[..., None, -1]", lambda lib, ts: ts[i][..., None, -1] if shape[-1] else None))
    return options[int(rng.integers(len(options)))]


def _fitting(rng: np.random.Generator, i: int, tensors: list[Any]) -> int:
    """A tensor that broadcasts to the shape of tensor i (often one that shares its memory)."""
    shape = tuple(tensors[i].shape)
    fitting = []
    for j, tensor in enumerate(tensors):
        try:
            if np.broadcast_shapes(tuple(tensor.shape), shape) == shape:
                fitting.append(j)
        except ValueError:
            pass
    return fitting[int(rng.integers(len(fitting)))]


def _draw_in_place(rng: np.random.Generator, i: int, tensors: list[Any]) -> Step:
    shape = tuple(tensors[i].shape)
    j = _fitting(rng, i, tensors)
    c = round(float(rng.uniform(-1.5, 1.5)), 2)
    if 0 in tensors[i].stride():
        # PyTorch writes to expanded tensors in some ops and refuses in others; minidl refuses in all
        return f"t{i}.mul_({c})", lambda lib, ts: _nothing(ts[i].mul_(c))
    options: list[Step] = [
        (f"t{i}.mul_({c})", lambda lib, ts: _nothing(ts[i].mul_(c))),
        (f"t{i}.add_({c})", lambda lib, ts: _nothing(ts[i].add_(c))),
        (f"t{i}.add_(t{i}, alpha={c})", lambda lib, ts: _nothing(ts[i].add_(ts[i], alpha=c))),
        # PyTorch refuses an argument that partly overlaps what is written to
        (f"t{i}.add_(t{j}.clone())", lambda lib, ts: _nothing(ts[i].add_(ts[j].clone()))),
        (f"t{i} -= sin(t{j})", lambda lib, ts: _nothing(ts[i].sub_(ts[j].sin()))),
        (f"t{i}.mul_(cos(t{j}))", lambda lib, ts: _nothing(ts[i].mul_(ts[j].cos()))),
        (f"t{i}.copy_(t{j})", lambda lib, ts: _nothing(ts[i].copy_(ts[j].clone()))),
        (f"t{i}.zero_()", lambda lib, ts: _nothing(ts[i].zero_())),
        (f"t{i}.fill_({c})", lambda lib, ts: _nothing(ts[i].fill_(c))),
        (f"t{i}.sigmoid_()", lambda lib, ts: _nothing(ts[i].sigmoid_())),
        (f"t{i}.tanh_()", lambda lib, ts: _nothing(ts[i].tanh_())),
        (f"t{i}.neg_()", lambda lib, ts: _nothing(ts[i].neg_())),
        (f"t{i}.masked_fill_(...)", lambda lib, ts: _nothing(ts[i].masked_fill_(_mask(lib, shape), c))),
        (f"t{i}[mask] = {c}", lambda lib, ts: ts[i].__setitem__(_mask(lib, shape), c)),
    ]
    if shape and shape[0]:
        at = int(rng.integers(shape[0]))
        options += [
            (f"t{i}[{at}] = {c}", lambda lib, ts: ts[i].__setitem__(at, c)),
            (f"t{i}[{at}:] = t{i}[{at}:] * {c}", lambda lib, ts: ts[i].__setitem__(slice(at, None), ts[i][at:] * c)),
            (f"t{i}[[{at}]] = {c} * t{i}[{at}]", lambda lib, ts: ts[i].__setitem__([at], ts[i][at] * c)),
            (f"t{i}[..., ::2].mul_(t{i}[..., :1].cos())",
             lambda lib, ts: _nothing(ts[i][..., ::2].mul_(ts[i][..., :1].cos())) if shape[-1] else None),
        ]
    return options[int(rng.integers(len(options)))]


def _draw_new(rng: np.random.Generator, i: int, tensors: list[Any]) -> Step:
    """Fresh tensors, row-major in both libraries: PyTorch would keep the order of a transposed argument."""
    j = _fitting(rng, i, tensors)
    options: list[Step] = [
        (f"t{i} * t{j}", lambda lib, ts: ts[i] * ts[j]),
        (f"t{i} + t{j}", lambda lib, ts: ts[i] + ts[j]),
        (f"t{i} * 0.5", lambda lib, ts: ts[i] * 0.5),
        (f"t{i}.sin()", lambda lib, ts: ts[i].sin()),
        (f"t{i}.tanh()", lambda lib, ts: ts[i].tanh()),
        (f"t{i}.clone()", lambda lib, ts: ts[i].clone()),
        (f"stack([t{i}, t{i}])", lambda lib, ts: lib.stack([ts[i], ts[i]]) if len(ts[i].shape) < 4 else None),
        (f"t{i}.sum(0)", lambda lib, ts: ts[i].sum(0)),
    ]
    text, make = options[int(rng.integers(len(options)))]

    def row_major(lib: Any, ts: list[Any]) -> Any:
        return make(lib, [t.contiguous() for t in ts])

    return text, row_major


def _draw_aside(rng: np.random.Generator, i: int, shape: tuple[int, ...]) -> Step:
    """Changes that the tape does not see."""

    def without_recording(change: Callable[[Any], Any]) -> Callable[[Any, list[Any]], Any]:
        def step(lib: Any, ts: list[Any]) -> Any:
            with lib.no_grad():
                return change(ts[i])

        return step

    options: list[Step] = [
        (f"t{i}.detach()", lambda lib, ts: ts[i].detach()),
        (f"no_grad: t{i}.mul_(0.5)", without_recording(lambda t: _nothing(t.mul_(0.5)))),
        (f"no_grad: t{i}[..., :1] *= 0.5",
         without_recording(lambda t: _nothing(t[..., :1].mul_(0.5)) if shape else None)),
        (f"no_grad: t{i}.clone()", without_recording(lambda t: t.clone().contiguous())),
    ]
    return options[int(rng.integers(len(options)))]


def _nothing(_: Any) -> None:
    return None


def _mask(lib: Any, shape: tuple[int, ...]) -> Any:
    return lib.from_numpy(np.array(np.arange(int(np.prod(shape))).reshape(shape) % 3 == 0))
