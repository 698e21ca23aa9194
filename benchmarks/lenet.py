"""LeNet-5 over batch sizes: one training step (forward, cross-entropy, backward, SGD with momentum), and inference.

The same class definition, the same seed, the same data.  Where ``minidl.compile`` exists, a step made by it is timed
too, beside the same eager step of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Job, Library, Options, Result, numpy_of, seeded
from benchmarks.networks import LeNet
from benchmarks.training import training_job

BATCHES = (1, 8, 16, 64, 256, 1024)


def images_and_labels(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures and classes."""
    return seeded(batch, 1, 28, 28), np.random.default_rng(1).integers(0, 10, batch)


def step_job(library: Library, batch: int, compiled: bool) -> Job | None:
    """Training steps on one batch; None for a compiled one where this minidl cannot compile."""
    repeated = None
    if compiled and library.name == "minidl":
        repeated = getattr(library.lib, "compile", None)
        if repeated is None:
            return None
    return training_job(library, LeNet, *images_and_labels(batch), repeated)


def step_of(library: str, batch: int) -> Callable[[], Any]:
    """The bare step, for programs that measure something else than its time."""
    job = training_job(Library(library), LeNet, *images_and_labels(batch))
    return job.call


def inference_job(library: Library, batch: int) -> Job:
    """The class scores of one batch, in eval mode, nothing recorded."""
    images, _ = images_and_labels(batch)
    if library.is_jax:
        from benchmarks import in_jax

        call = in_jax.inference(LeNet, images)
    else:
        lib = library.lib
        lib.manual_seed(0)
        net, batch_images = library.module(LeNet(lib)), library.tensor(images)
        net.eval()

        def call() -> Any:
            with lib.no_grad():
                return net(batch_images)

    return Job(call, [Result("class scores", numpy_of(call()), 1e-4)])


def cases(family: str, options: Options) -> list[Case]:
    """One case per batch size, and one more for a compiled step."""
    found = []
    for batch in BATCHES[:2] if options.tiny else BATCHES:
        if family == "inference":
            found.append(Case(f"LeNet inference, batch {batch}", partial(inference_job, batch=batch)))
            continue
        for name, compiled in (("", False), (", compiled", True)):
            found.append(Case(f"LeNet step, batch {batch}{name}", partial(step_job, batch=batch, compiled=compiled)))
    return found
