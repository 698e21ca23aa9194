"""What one small op costs.

The tensors are so small that nearly all the time is overhead: finding the op, making the result, recording the step.
One call of a case is many of the op.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.case import Case, Job, Library, Options, Result, numpy_of

REPEATS = 200


def chain(x: Any) -> Any:
    """Twelve ops."""
    y = x * 2.0
    y = y + x
    y = y.relu()
    y = y * y
    y = y - x
    y = y / 3.0
    y = y.tanh()
    y = y + 1.0
    y = y * x
    y = -y
    y = y.view(-1)
    return y.sum()


def _chain_step(leaf: Any) -> Any:
    chain(leaf).backward()
    gradient, leaf.grad = leaf.grad, None
    return gradient


def _without_recording(lib: Any, leaf: Any) -> Any:
    with lib.no_grad():
        return chain(leaf)


# name -> a function that makes what is timed, of the library, plain numbers and a leaf that requires a gradient; what
# it returns is what is compared
CALLS: dict[str, Callable[[Any, Any, Any], Callable[[], Any]]] = {
    "a + a": lambda lib, a, x: lambda: a + a,
    "a * 2.0": lambda lib, a, x: lambda: a * 2.0,
    "x * x, recorded": lambda lib, a, x: lambda: x * x,
    "x * 2.0, recorded": lambda lib, a, x: lambda: x * 2.0,
    "x.view(-1), recorded": lambda lib, a, x: lambda: x.view(-1),
    "x[1], recorded": lambda lib, a, x: lambda: x[1],
    "a.add_(1.0)": lambda lib, a, x: lambda: a.add_(1.0),
    "12 ops, no_grad": lambda lib, a, x: lambda: _without_recording(lib, x),
    "12 ops, forward": lambda lib, a, x: lambda: chain(x),
    "12 ops, forward and backward": lambda lib, a, x: lambda: _chain_step(x),
}


def job(library: Library, name: str, repeats: int) -> Job | None:
    """``repeats`` calls."""
    if library.is_jax or library.channels_last:
        return None
    lib = library.lib
    function = CALLS[name](lib, lib.ones(4, 4), lib.ones(4, 4, requires_grad=True))

    def call() -> None:
        for _ in range(repeats):
            function()

    return Job(call, [Result("value", numpy_of(function()).copy(), 1e-5)])


def cases(family: str, options: Options) -> list[Case]:
    """One per op."""
    repeats = 3 if options.tiny else REPEATS
    return [Case(name, partial(job, name=name, repeats=repeats), unit="us", inner=repeats) for name in CALLS]
