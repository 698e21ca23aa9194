"""One training step of LeNet-5 (forward, cross-entropy, backward, SGD with momentum) in minidl and in PyTorch.

The same class definition, the same seed, the same data: the losses of the first steps are compared before anything is
timed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from benchmarks.timing import Pair, interleaved

BATCHES = {1: 400, 8: 200, 64: 80, 256: 20}


def lenet(lib: ModuleType) -> Any:
    """LeNet-5 as a user writes it, over ``lib.nn``."""
    nn = lib.nn

    class LeNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(400, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)
            self.relu = nn.ReLU()
            self.pool = nn.MaxPool2d(2)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.relu(self.conv1(x)))
            x = self.pool(self.relu(self.conv2(x)))
            x = x.flatten(1)
            return self.fc3(self.relu(self.fc2(self.relu(self.fc1(x)))))

    return LeNet()


def step_of(lib: ModuleType, batch: int) -> Callable[[], Any]:
    """A function that trains one step on a fixed random batch and returns the loss."""
    lib.manual_seed(0)
    net = lenet(lib)
    optimizer = lib.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    criterion = lib.nn.CrossEntropyLoss()
    images = lib.rand(batch, 1, 28, 28)
    labels = lib.randint(0, 10, (batch,))

    def step() -> Any:
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def run(threads: int, quick: bool) -> list[Pair]:
    """All batch sizes with ``threads`` threads."""
    import torch

    import minidl

    minidl.set_num_threads(threads)
    torch.set_num_threads(threads)
    pairs = []
    for batch, calls in BATCHES.items():
        ours, peer = step_of(minidl, batch), step_of(torch, batch)
        for _ in range(5):
            mine, theirs = ours().item(), peer().item()
            if abs(mine - theirs) > 1e-5 * abs(theirs):
                raise SystemExit(f"LeNet at batch {batch}: the losses differ, {mine} and {theirs}: nothing is timed")
        case = f"LeNet step, batch {batch}, {threads} thread{'s' * (threads > 1)}"
        pairs.append(interleaved(case, ours, peer, max(calls // 10, 5) if quick else calls))
    return pairs
