"""Training steps of networks with batch norm on 32x32 colour pictures, at batch 32."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.case import Case, Job, Library, Options, seeded
from benchmarks.networks import VGG, ResNet8, ResNet18
from benchmarks.training import training_job

NETWORKS = {"VGG-like, 6 convolutions": VGG, "ResNet-8": ResNet8, "ResNet-18": ResNet18}


def job(library: Library, network: str, batch: int) -> Job:
    """Steps on one batch."""
    labels = np.random.default_rng(1).integers(0, 10, batch)
    return training_job(library, NETWORKS[network], seeded(batch, 3, 32, 32), labels)


def cases(family: str, options: Options) -> list[Case]:
    """One per network."""
    batch = 2 if options.tiny else 32
    names = ["ResNet-8"] if options.tiny else list(NETWORKS)
    return [Case(f"{name}, step at batch {batch}", partial(job, network=name, batch=batch)) for name in names]
