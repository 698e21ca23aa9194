"""Derivatives checked against central differences, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl._ext import core
from minidl._ext.core import Tensor
from minidl.autograd.backward import grad as _grad


class GradcheckError(RuntimeError):
    """An analytical gradient that differs from the numerical one."""


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _host(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _outputs(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Tensor]:
    return [out for out in _tuple(function(*inputs)) if isinstance(out, Tensor) and out.dtype.is_floating_point]


def _numerical(function: Callable[..., Any], inputs: tuple[Any, ...], which: int, eps: float) -> list[np.ndarray]:
    """Per output the Jacobian (numbers of the input, numbers of the output) by central differences."""
    x = inputs[which]
    columns: list[list[np.ndarray]] = []
    original = _host(x).copy()
    backend = x._backend
    for place in range(original.size):
        sides = []
        for sign in (1.0, -1.0):
            moved = original.copy()
            moved.reshape(-1)[place] += sign * eps
            backend.copy_(x._raw, backend.from_host(moved))
            sides.append([_host(out).copy() for out in _outputs(function, inputs)])
        columns.append([(up - down).reshape(-1) / (2 * eps) for up, down in zip(*sides, strict=True)])
    backend.copy_(x._raw, backend.from_host(original))
    outputs = len(_outputs(function, inputs))
    return [
        np.array([column[o] for column in columns]).reshape(original.size, -1) if columns else np.zeros((0, 0))
        for o in range(outputs)
    ]


def _analytical(function: Callable[..., Any], inputs: tuple[Any, ...], which: list[int]) -> list[list[np.ndarray]]:
    """[input][output] Jacobians by one backward pass per number of each output."""
    outputs = _outputs(function, inputs)
    wanted = [inputs[i] for i in which]
    jacobians: list[list[np.ndarray]] = [[] for _ in which]
    for out in outputs:
        rows: list[list[np.ndarray]] = [[] for _ in which]
        size = out._raw.size
        for place in range(size):
            direction = np.zeros(out.shape, out._raw.dtype)
            direction.reshape(-1)[place] = 1
            backend = out._backend
            seed = core.from_raw(backend.from_host(direction), backend)
            grads: Sequence[Any]
            if out.requires_grad:
                grads = _grad(out, wanted, seed, retain_graph=True, allow_unused=True)
            else:
                grads = [None] * len(wanted)
            for row, g, x in zip(rows, grads, wanted, strict=True):
                row.append(np.zeros(x._raw.size) if g is None else _host(g).reshape(-1).copy())
        for jacobian, row, x in zip(jacobians, rows, wanted, strict=True):
            jacobian.append(np.array(row).reshape(size, x._raw.size).T)
    return jacobians


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of ``func`` at ``inputs`` with central differences of width ``eps``.

    Every floating-point output is checked with respect to every input that requires a gradient; use float64.
    Raises ``GradcheckError`` with both Jacobians (or returns False) when they differ by more than
    ``atol + rtol * |numerical|``.
    """
    arguments = _tuple(inputs)
    which = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.requires_grad]
    if not which:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them have it.")
    analytical = _analytical(func, arguments, which)
    for position, i in enumerate(which):
        for o, expected in enumerate(_numerical(func, arguments, i, eps)):
            got = analytical[position][o]
            if got.shape != expected.shape or not np.allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True):
                if not raise_exception:
                    return False
                raise GradcheckError(
                    f"Jacobian mismatch for output {o} with respect to input {i},\n"
                    f"numerical:{expected}\nanalytical:{got}\n"
                )
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """``gradcheck`` of the gradients of ``func`` themselves: checks second derivatives.

    ``grad_outputs`` are drawn at random (seed 0) where they are not given.
    """
    arguments = _tuple(inputs)
    outputs = _outputs(func, arguments)
    if grad_outputs is None:
        generator = np.random.default_rng(0)
        directions = []
        for out in outputs:
            values = generator.standard_normal(out.shape).astype(out._raw.dtype)
            directions.append(core.from_raw(out._backend.from_host(np.asarray(values)), out._backend))
    else:
        directions = [g.detach() for g in _tuple(grad_outputs)]
    for direction in directions:
        direction.requires_grad_()
    which = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.requires_grad]
    count = len(arguments)

    def gradients(*everything: Any) -> tuple[Any, ...]:
        given, directions = everything[:count], everything[count:]
        heads = [(out, d) for out, d in zip(_outputs(func, given), directions, strict=True) if out.requires_grad]
        found = _grad(
            [out for out, _ in heads],
            [given[i] for i in which],
            [d for _, d in heads],
            create_graph=True,
            allow_unused=True,
        )
        return tuple(g for g in found if g is not None)

    return gradcheck(gradients, (*arguments, *directions), eps, atol, rtol, raise_exception)
