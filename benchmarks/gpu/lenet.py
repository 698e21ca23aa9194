"""LeNet-5 on the GPU: the time of a training step, and whether a run has PyTorch's losses."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks import digits
from benchmarks.case import Job, Library, Options, Result, numpy_of
from benchmarks.gpu.case import GPUCase
from benchmarks.gpu.libraries import KINDS, ON_CPU, OnGPU, UnderGraph, precision
from benchmarks.lenet import images_and_labels
from benchmarks.networks import LeNet
from benchmarks.training import LOSS_TOLERANCE, training_job

BATCHES = (8, 64, 1024)
REPEATED = 5            # steps more that are compared: the first that a graph repeats are among them
# Batch -> how many times as fast as a column: eager, and compiled.
EAGER_GOALS = {64: {"PyTorch": 1.0}}
COMPILED_GOALS = {64: {"PyTorch": 5.0, "CUDA graph": 1.0}, 1024: {"PyTorch": 3.0}}


def step_job(library: Library, batch: int, compiled: bool) -> Job:
    """Steps on one batch.  Raises ``RuntimeWarning`` where minidl.compile does not repeat them."""
    repeated = None
    if isinstance(library, OnGPU) and library.graph:
        repeated = UnderGraph
    elif library.name == "minidl" and compiled:
        repeated = library.lib.compile
    job = training_job(library, LeNet, *images_and_labels(batch), repeated)
    losses = np.array([float(numpy_of(job.call())) for _ in range(REPEATED)])
    return Job(job.call, [*job.results, Result("losses of repeated steps", losses, LOSS_TOLERANCE)])


def cases(family: str, options: Options) -> list[GPUCase]:
    """Two per batch size."""
    found = []
    for batch in (2,) if options.tiny else BATCHES:
        for name, compiled, goals in (("", False, EAGER_GOALS), (", compiled", True, COMPILED_GOALS)):
            found.append(GPUCase(
                f"LeNet step, batch {batch}{name}", partial(step_job, batch=batch, compiled=compiled),
                beside=("PyTorch", "CUDA graph"), goals=goals.get(batch, {})))
    return found


class Check(NamedTuple):
    """Losses of a run and how far apart two libraries are in them."""

    name: str
    judge: str
    apart: float
    allowed: float

    @property
    def fine(self) -> bool:
        """Whether they are as near as they have to be; not where one is not a number."""
        return self.apart <= self.allowed


def losses(library: Library, dtype: str, steps: int, batch: int) -> np.ndarray:
    """The losses of a run over the digits from the seed 0, SGD with momentum."""
    lib = library.lib
    lib.manual_seed(0)
    net = library.module(LeNet(lib).to(getattr(lib, dtype)))
    optimizer = lib.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    images, labels = digits.as_many_as_mnist(*digits.arrays(None, True), steps * batch)
    found: list[Any] = []
    for first in range(0, steps * batch, batch):
        part = slice(first, first + batch)
        optimizer.zero_grad()
        loss = lib.nn.functional.cross_entropy(
            net(library.tensor(images[part].astype(dtype))), library.tensor(labels[part]))
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return np.array([float(numpy_of(loss)) for loss in found])


def checks(kinds: list[str], options: Options) -> list[Check]:
    """The first losses in float32 and those of a long run in float64."""
    judge, library = ("PyTorch", KINDS["PyTorch"]) if "PyTorch" in kinds else ("minidl on the CPU", ON_CPU)
    batch = 4 if options.tiny else 64
    found = []
    with precision("float32", kinds):
        for dtype, steps, allowed in (("float32", 10, 1e-5), ("float64", 200, 1e-7)):
            steps = 2 if options.tiny else steps
            ours = losses(KINDS["minidl"], dtype, steps, batch)
            apart = float(np.abs(ours - losses(library, dtype, steps, batch)).max())
            found.append(Check(f"LeNet, the first {steps} losses, {dtype}", judge, apart, allowed))
    return found
