"""One step of an optimizer over many small parameters: 200 tensors of 100 numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.case import Case, Job, Library, Options, Result, numpy_of, seeded

TENSORS, NUMBERS, STEPS = 200, 100, 20
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD, momentum": ("SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}),
    "Adam": ("Adam", {"lr": 0.001}),
}


def job(library: Library, name: str, tensors: int, numbers: int = NUMBERS) -> Job | None:
    """Steps with the same gradients each time."""
    if library.is_jax or library.channels_last:
        return None
    kind, options = OPTIMIZERS[name]
    parameters = [library.tensor(seeded(numbers, seed=i)).requires_grad_() for i in range(tensors)]
    for i, parameter in enumerate(parameters):
        parameter.grad = library.tensor(seeded(numbers, seed=1000 + i))
    optimizer = getattr(library.lib.optim, kind)(parameters, **options)

    def call() -> None:
        for _ in range(STEPS):
            optimizer.step()

    call()
    last = numpy_of(parameters[-1])
    return Job(call, [Result(f"the last parameter after {STEPS} steps", last.copy(), 1e-4)])


def cases(family: str, options: Options) -> list[Case]:
    """One per optimizer."""
    tensors = 3 if options.tiny else TENSORS
    return [Case(f"{name}, {tensors} x {NUMBERS} numbers", partial(job, name=name, tensors=tensors), unit="us",
                 inner=STEPS) for name in OPTIMIZERS]
