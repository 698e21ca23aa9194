"""What a DataLoader costs per sample: tensors at hand, and a dataset written in Python."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Job, Library, Options, Result, numpy_of, seeded

SAMPLES = 10_000


class Pictures:
    """A dataset as a user writes it: an index gives a tensor and a label."""

    def __init__(self, library: Library, count: int) -> None:
        self.images, self.from_numpy = seeded(count, 1, 28, 28), library.lib.from_numpy

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.from_numpy(self.images[index]), index % 10


KINDS = {
    "TensorDataset": ("tensors", {}),
    "dataset in Python": ("python", {}),
    "dataset in Python, 2 workers": ("python", {"num_workers": 2, "persistent_workers": True}),
}


def job(library: Library, name: str, count: int) -> Job | None:
    """One pass, shuffled, in batches of 64."""
    if library.is_jax or library.channels_last:
        return None
    lib = library.lib
    what, options = KINDS[name]
    if what == "tensors":
        tensors = library.tensor(seeded(count, 1, 28, 28)), library.tensor(np.arange(count) % 10)
        dataset: Any = lib.utils.data.TensorDataset(*tensors)
    else:
        dataset = Pictures(library, count)
    lib.manual_seed(0)
    loader = lib.utils.data.DataLoader(dataset, batch_size=64, shuffle=True, **options)
    results = []
    for number, (images, labels) in enumerate(loader):  # the whole of it: workers that last start clean
        if number == 0:
            results = [Result("first images", numpy_of(images), 0.0), Result("first labels", numpy_of(labels), 0.0)]

    def call() -> None:
        for _ in loader:
            pass

    return Job(call, results)


def cases(family: str, options: Options) -> list[Case]:
    """Microseconds per sample; a million over it are samples per second."""
    count = 200 if options.tiny else SAMPLES
    return [Case(f"{name}, per sample", partial(job, name=name, count=count), unit="us", inner=count)
            for name in list(KINDS)[:2] + ([] if options.tiny else list(KINDS)[2:])]
