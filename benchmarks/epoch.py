"""An epoch of MNIST: 60,000 digits in random order through the library's own DataLoader, LeNet trained at batch 64.

Without MNIST's files the 10,000 digits of the package are taken six times.  The losses of the first batches are
compared; after some dozens of steps float32 runs of any two implementations part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Job, Library, Options, Result, numpy_of
from benchmarks.digits import arrays, as_many_as_mnist
from benchmarks.networks import LeNet

COMPARED = 5


def job(library: Library, root: str | None, count: int) -> Job | None:
    """One epoch."""
    if library.is_jax or library.channels_last:
        return None
    lib = library.lib
    images, labels = map(library.tensor, as_many_as_mnist(*arrays(root, True), count))
    lib.manual_seed(0)
    net, criterion = LeNet(lib), lib.nn.CrossEntropyLoss()
    optimizer = lib.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    loader = lib.utils.data.DataLoader(lib.utils.data.TensorDataset(images, labels), batch_size=64, shuffle=True)

    def losses() -> Iterator[Any]:
        for batch, wanted in loader:
            optimizer.zero_grad()
            loss = criterion(net(batch), wanted)
            loss.backward()
            optimizer.step()
            yield loss

    def call() -> None:
        for _ in losses():
            pass

    first = [float(numpy_of(loss)) for loss, _ in zip(losses(), range(COMPARED), strict=False)]
    return Job(call, [Result("first losses", np.array(first), 1e-4)])


def cases(family: str, options: Options) -> list[Case]:
    """One."""
    count = 640 if options.quick or options.tiny else 60_000
    origin = "MNIST" if options.mnist else "embedded digits, repeated"
    return [Case(f"LeNet, epoch of {count:,} ({origin})", partial(job, root=options.mnist, count=count), unit="s")]
