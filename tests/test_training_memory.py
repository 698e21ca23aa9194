"""A long training run does not grow: neither in resident memory nor in what the allocator holds."""

import gc
import resource

import pytest

import minidl
from minidl import nn


def resident_megabytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


@pytest.mark.slow
def test_twenty_thousand_steps_grow_by_less_than_five_megabytes():
    minidl.manual_seed(0)
    net, criterion = lenet(), nn.CrossEntropyLoss()
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    images, labels = minidl.rand(64, 1, 28, 28), minidl.randint(0, 10, (64,))

    def train(steps):
        for step in range(steps):
            # batches of one to four images: blocks of different sizes come and go
            first, count = step % 60, 1 + step % 4
            optimizer.zero_grad()
            criterion(net(images[first : first + count]), labels[first : first + count]).backward()
            optimizer.step()

    gc.collect()
    gc.disable()  # reference cycles would show as growth
    try:
        train(500)
        resident, held = resident_megabytes(), minidl.memory_stats()["held"]
        train(19_500)
        assert resident_megabytes() - resident < 5
        assert minidl.memory_stats()["held"] == held
    finally:
        gc.enable()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("batch", [1, 64])
def test_a_warm_step_takes_no_fresh_pages(batch, compiled):
    net, criterion = lenet(), nn.CrossEntropyLoss()
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    images, labels = minidl.rand(batch, 1, 28, 28), minidl.randint(0, 10, (batch,))

    def step(images, labels):
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    run = minidl.compile(step) if compiled else step
    for _ in range(10):
        run(images, labels)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        run(images, labels)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 100
