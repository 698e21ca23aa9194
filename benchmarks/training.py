"""A training step of any network, and the figures by which two libraries are held to have done the same steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.case import Job, Library, Result, numpy_of

RATE, MOMENTUM = 0.001, 0.9     # ten times as fast, VGG and ResNet-18 amplify rounding: losses part by 2e-4 in 3 steps
COMPARED = 3                    # steps before anything is timed
# Measured against float64, over all networks and formats: losses of three steps within 4e-5, PyTorch's and minidl's
# alike.  A ReLU that rounding turns on or off changes single gradients, by up to a percent of the largest.
LOSS_TOLERANCE, MOVED_TOLERANCE = 1e-4, 0.03


def training_job(library: Library, make: Callable[[Any], Any], images: np.ndarray, labels: np.ndarray,
                 repeated: Callable[[Any], Any] | None = None) -> Job:
    """Steps of ``make(lib)`` on one batch: cross-entropy, backward, SGD with momentum.

    ``repeated``, such as ``minidl.compile``, makes of the step what is called instead of it.
    """
    if library.is_jax:
        from benchmarks import in_jax

        step, weights = in_jax.training(make, images, labels, RATE, MOMENTUM)
    else:
        step, weights = _eager(library, make, images, labels, repeated)
    before = weights()
    with warnings.catch_warnings():  # a step that minidl.compile cannot repeat must not be timed as a compiled one
        warnings.filterwarnings("error", message="minidl.compile")
        losses = [float(numpy_of(step()))]
        moved = [after - start for after, start in zip(weights(), before, strict=True)]
        losses += [float(numpy_of(step())) for _ in range(COMPARED - 1)]
    return Job(step, [Result("losses", np.array(losses), LOSS_TOLERANCE),
                      Result("what the first weights moved by in one step", moved[0], MOVED_TOLERANCE),
                      Result("what the last weights moved by in one step", moved[1], MOVED_TOLERANCE)])


def _eager(library: Library, make: Callable[[Any], Any], images: np.ndarray, labels: np.ndarray,
           repeated: Callable[[Any], Any] | None) -> tuple[Callable[[], Any], Callable[[], list[np.ndarray]]]:
    """A step, and a function that gives copies of the first and the last parameter with more than one dimension."""
    lib = library.lib
    lib.manual_seed(0)
    net = library.module(make(lib))
    optimizer = lib.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    criterion = lib.nn.CrossEntropyLoss()
    batch, classes = library.tensor(images), library.tensor(labels)

    def step(batch: Any, classes: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(batch), classes)
        loss.backward()
        optimizer.step()
        return loss

    if repeated is not None:
        step = repeated(step)
    matrices = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    return (lambda: step(batch, classes),
            lambda: [numpy_of(parameter).copy() for parameter in (matrices[0], matrices[-1])])
