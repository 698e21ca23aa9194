"""What is bound by the memory of the GPU: elementwise work, cross-entropy, optimizers.  Told in bytes per second too.

Arrays are larger than the caches.  Bytes are those that have to move: each array that is read, each that is written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import optimizer
from benchmarks.case import Job, Library, Options, Result, numpy_of, seeded
from benchmarks.gpu.case import TOLERANCE, GPUCase

NUMBERS = 1 << 26       # of an array: 256 MB in float32
ROW = 1024              # numbers of the vector that is added to every row
SHARE = 0.8             # of the bandwidth of a copy
COMPARED = 1 << 19      # numbers at either end of a result
# Rows, classes, and whether they are more than the caches hold.
LOSSES = [(1024, 10, False), (1024, 1000, False), (65536, 1000, True)]
PARAMETERS = (160, 156_250)     # tensors, numbers of each: 25 million
PASSES = {"SGD, momentum": 5, "Adam": 7}    # arrays of all parameters that a step reads or writes

# Name -> the function of (library, x, y, row), and how many arrays of NUMBERS it reads and writes.
ELEMENTWISE: dict[str, tuple[Callable[[Any, Any, Any, Any], Any], int]] = {
    "y.copy_(x)": (lambda lib, x, y, row: y.copy_(x), 2),
    "x + y": (lambda lib, x, y, row: x + y, 3),
    "relu(x)": (lambda lib, x, y, row: lib.relu(x), 2),
    "exp(x)": (lambda lib, x, y, row: lib.exp(x), 2),
    "x + a row": (lambda lib, x, y, row: x + row, 2),
    "x.sum()": (lambda lib, x, y, row: x.sum(), 1),
    "x.sum(0)": (lambda lib, x, y, row: x.sum(0), 1),
}


def ends_of(tensor: Any) -> np.ndarray:
    """The first and the last numbers of a tensor, as float64."""
    flat = tensor.reshape(-1)
    return np.concatenate([numpy_of(flat[:COMPARED]), numpy_of(flat[-COMPARED:])])


def elementwise_job(library: Library, name: str, numbers: int) -> Job:
    """One op on arrays of so many numbers."""
    function, _ = ELEMENTWISE[name]
    width = min(ROW, numbers)
    x, y = (library.tensor(seeded(numbers // width, width, seed=seed)) for seed in (0, 1))
    call = partial(function, library.lib, x, y, library.tensor(seeded(width, seed=2)))
    return Job(call, [Result("result", ends_of(call()), TOLERANCE["float32"])])


def cross_entropy_job(library: Library, rows: int, classes: int) -> Job:
    """The loss of a batch and its gradient."""
    lib = library.lib
    scores = library.tensor(seeded(rows, classes)).requires_grad_()
    labels = library.tensor(np.random.default_rng(1).integers(0, classes, rows))

    def call() -> tuple[Any, Any]:
        loss = lib.nn.functional.cross_entropy(scores, labels)
        return loss, lib.autograd.grad(loss, scores)[0]

    loss, grad = call()
    return Job(call, [Result("loss", numpy_of(loss), TOLERANCE["float32"]),
                      Result("gradient", ends_of(grad), TOLERANCE["float32"])])


def cases(family: str, options: Options) -> list[GPUCase]:
    """One per op, per size of a batch, per optimizer."""
    if family == "cross-entropy":
        sizes = [(5, 3, True)] if options.tiny else LOSSES
        # forward reads the scores and writes log-probabilities, backward reads these and writes gradients
        return [GPUCase(f"cross-entropy of {rows} x {classes}, forward+backward",
                        partial(cross_entropy_job, rows=rows, classes=classes), nbytes=16.0 * rows * classes,
                        share=SHARE * large) for rows, classes, large in sizes]
    if family == "optimizer":
        tensors, numbers = (3, 50) if options.tiny else PARAMETERS
        return [GPUCase(f"{name}, {tensors} x {numbers} numbers",
                        partial(optimizer.job, name=name, tensors=tensors, numbers=numbers), inner=optimizer.STEPS,
                        nbytes=4.0 * PASSES[name] * tensors * numbers, share=SHARE) for name in optimizer.OPTIMIZERS]
    numbers = 2 * ROW if options.tiny else NUMBERS
    return [GPUCase(f"{name}, {numbers} numbers", partial(elementwise_job, name=name, numbers=numbers),
                    nbytes=4.0 * passes * numbers) for name, (_, passes) in ELEMENTWISE.items()]
