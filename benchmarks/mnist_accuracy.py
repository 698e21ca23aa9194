"""Test accuracy on all of MNIST after ten epochs, in both frameworks, from the same seeds.

LeNet-5, batch 64, SGD with momentum 0.9 and weight decay 5e-4, the learning rate in one cycle up to 0.05: the recipe of
``examples/train_lenet.py``.  Each framework uses its own layers, optimizer, schedule and data loader.
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.lenet_step import lenet

MEAN, STD = 0.1307, 0.3081


def arrays(root: str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images (n, 1, 28, 28) float32 and labels (n,) int64."""
    from minidl.datasets import MNIST

    digits = MNIST(root, train=train)
    images = (np.asarray(digits.data)[:, None] / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return images, np.asarray(digits.targets)


def accuracy(lib: ModuleType, net: Any, images: Any, labels: Any) -> float:
    """Percent of right answers."""
    net.eval()
    with lib.no_grad():
        right = sum(
            (net(images[i : i + 1000]).argmax(1) == labels[i : i + 1000]).sum().item()
            for i in range(0, len(labels), 1000)
        )
    net.train()
    return 100 * right / len(labels)


def train(lib: ModuleType, data: Any, seed: int, epochs: int) -> tuple[float, float]:
    """(test accuracy in percent, seconds of training) of one run."""
    (images, labels), (test_images, test_labels) = (tuple(map(lib.from_numpy, part)) for part in data)
    lib.manual_seed(seed)
    net, criterion = lenet(lib), lib.nn.CrossEntropyLoss()
    optimizer = lib.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    loader = lib.utils.data.DataLoader(lib.utils.data.TensorDataset(images, labels), batch_size=64, shuffle=True)
    schedule = lib.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, epochs=epochs, steps_per_epoch=len(loader))
    start = time.perf_counter()
    for _ in range(epochs):
        for batch, wanted in loader:
            optimizer.zero_grad()
            criterion(net(batch), wanted).backward()
            optimizer.step()
            schedule.step()
    return accuracy(lib, net, test_images, test_labels), time.perf_counter() - start


def run(root: str, epochs: int, seeds: int) -> list[dict[str, float]]:
    """One row per seed."""
    import torch

    import minidl

    data = arrays(root, True), arrays(root, False)
    rows = []
    for seed in range(seeds):
        ours, our_seconds = train(minidl, data, seed, epochs)
        theirs, their_seconds = train(torch, data, seed, epochs)
        rows.append({"seed": seed, "epochs": epochs, "minidl": ours, "torch": theirs, "minidl_seconds": our_seconds,
                     "torch_seconds": their_seconds})
        print(f"seed {seed}: minidl {ours:.2f} % in {our_seconds:.0f} s, "
              f"PyTorch {theirs:.2f} % in {their_seconds:.0f} s", flush=True)
    means = [float(np.mean([row[name] for row in rows])) for name in ("minidl", "torch")]
    print(f"mean: minidl {means[0]:.2f} %, PyTorch {means[1]:.2f} %, apart by {abs(means[0] - means[1]):.2f} points")
    return rows
