"""A training step of any network, and the figures by which two libraries are held to have done the same steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.case import Job, Library, Result, numpy_of

RATE, MOMENTUM = 0.01, 0.9
COMPARED = 3                # steps before anything is timed
LOSS_TOLERANCE = 1e-4       # float32: each step rounds a few thousand sums, and the next ones start from there
MOVED_TOLERANCE = 0.02      # of how far the weights were moved: gradients of many rounded activations


def training_job(library: Library, make: Callable[[Any], Any], images: np.ndarray, labels: np.ndarray,
                 compiled: bool = False) -> Job:
    """Steps of ``make(lib)`` on one batch: cross-entropy, backward, SGD with momentum."""
    if library.is_jax:
        from benchmarks import in_jax

        step, weights = in_jax.training(make, images, labels, RATE, MOMENTUM)
    else:
        step, weights = _eager(library, make, images, labels)
        if compiled and library.name == "minidl":
            step = library.lib.compile(step)
    before = weights()
    losses = [float(numpy_of(step())) for _ in range(COMPARED)]
    moved = [after - start for after, start in zip(weights(), before, strict=True)]
    return Job(step, [Result("losses", np.array(losses), LOSS_TOLERANCE),
                      Result("what the first weights moved by", moved[0], MOVED_TOLERANCE),
                      Result("what the last weights moved by", moved[1], MOVED_TOLERANCE)])


def _eager(library: Library, make: Callable[[Any], Any], images: np.ndarray,
           labels: np.ndarray) -> tuple[Callable[[], Any], Callable[[], list[np.ndarray]]]:
    """A step, and a function that gives copies of the first and the last parameter with more than one dimension."""
    lib = library.lib
    lib.manual_seed(0)
    net = library.module(make(lib))
    optimizer = lib.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    criterion = lib.nn.CrossEntropyLoss()
    batch, classes = library.tensor(images), library.tensor(labels)

    def step() -> Any:
        optimizer.zero_grad()
        loss = criterion(net(batch), classes)
        loss.backward()
        optimizer.step()
        return loss

    matrices = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    return step, lambda: [numpy_of(parameter).copy() for parameter in (matrices[0], matrices[-1])]
