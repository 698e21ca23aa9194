"""Test accuracy on all of MNIST after ten epochs, from the same seeds.

LeNet-5, batch 64, SGD with momentum 0.9 and weight decay 5e-4, the learning rate in one cycle up to 0.05: the recipe of
``examples/train_lenet.py``.  Each library uses its own layers, optimizer, schedule and data loader.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.case import Library, Options
from benchmarks.digits import arrays
from benchmarks.networks import LeNet
from benchmarks.timing import Row


def accuracy(lib: Any, net: Any, images: Any, labels: Any) -> float:
    """Percent of right answers."""
    net.eval()
    with lib.no_grad():
        right = sum(
            (net(images[i : i + 1000]).argmax(1) == labels[i : i + 1000]).sum().item()
            for i in range(0, len(labels), 1000)
        )
    net.train()
    return 100 * right / len(labels)


def accuracies(library: Library, data: Any, seed: int, epochs: int, peak: float = 0.05) -> Iterator[float]:
    """Train, and give the test accuracy in percent after every epoch."""
    lib = library.lib
    (images, labels), (test_images, test_labels) = (tuple(map(library.tensor, part)) for part in data)
    lib.manual_seed(seed)
    net, criterion = LeNet(lib), lib.nn.CrossEntropyLoss()
    optimizer = lib.optim.SGD(net.parameters(), lr=peak, momentum=0.9, weight_decay=5e-4)
    loader = lib.utils.data.DataLoader(lib.utils.data.TensorDataset(images, labels), batch_size=64, shuffle=True)
    schedule = lib.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak, epochs=epochs, steps_per_epoch=len(loader))
    for _ in range(epochs):
        for batch, wanted in loader:
            optimizer.zero_grad()
            criterion(net(batch), wanted).backward()
            optimizer.step()
            schedule.step()
        yield accuracy(lib, net, test_images, test_labels)


def rows(options: Options, kinds: list[str]) -> list[Row]:
    """One row: the accuracies of all seeds; the table tells the best and the median."""
    if options.mnist is None:
        print("mnist: left out, it needs MNIST's files: --mnist ROOT", file=sys.stderr)
        return []
    epochs, seeds = (1, 1) if options.quick else (10, 3)
    data = arrays(options.mnist, True), arrays(options.mnist, False)
    figures: dict[str, list[float]] = {kind: [] for kind in ("minidl", "torch") if kind in kinds}
    for seed in range(seeds):
        for kind, percents in figures.items():
            percents.append(list(accuracies(Library(kind), data, seed, epochs))[-1])
    name = f"MNIST test accuracy after {epochs} epoch{'s' * (epochs > 1)}"
    return [Row("mnist", name, 0, "%", figures, larger_is_better=True)]
