"""LeNet on the GPU: the CPU's losses, and what a step costs in launches, copies and allocations."""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.datasets import EmbeddedDigits

pytestmark = pytest.mark.cuda

BATCH = 8


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


class Training:
    """LeNet, its optimizer and the digits, on a device."""

    def __init__(self, device, dtype):
        minidl.manual_seed(0)
        self.net = lenet().to(dtype).to(device)
        self.optimizer = minidl.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)
        digits = EmbeddedDigits(train=True)
        pairs = [digits[i] for i in range(30 * BATCH)]
        self.images = minidl.stack([image for image, _ in pairs]).to(dtype).to(device)
        self.labels = minidl.tensor([int(label) for _, label in pairs]).to(device)

    def step(self, number):
        part = slice(number % 30 * BATCH, (number % 30 + 1) * BATCH)
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(self.images[part]), self.labels[part])
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self, steps):
        return [self.step(number).item() for number in range(steps)]


def test_thirty_steps_in_float64_have_the_cpus_losses(gpu):
    """Sums in another order round at 1e-16; thirty steps amplify that to less than 1e-7 by far."""
    expected = Training("cpu", minidl.float64).losses(30)
    np.testing.assert_allclose(Training("cuda", minidl.float64).losses(30), expected, rtol=0, atol=1e-7)


def test_ten_steps_in_float32_have_the_cpus_losses(gpu, strict):
    expected = Training("cpu", minidl.float32).losses(10)
    np.testing.assert_allclose(Training("cuda", minidl.float32).losses(10), expected, rtol=0, atol=1e-5)


def test_a_warm_step_is_at_most_30_launches_without_copies_or_allocations(pooled, strict):
    if cuda_device.REAL:
        pytest.skip("counts what the emulated GPU does")
    training = Training("cuda", minidl.float32)
    for number in range(3):
        training.step(number)
    gpu = cuda_device.emulation()
    gpu.reset_counters()
    training.step(3)
    counted = gpu.counters()
    assert counted.launches == 24, counted.kernels
    assert (counted.copies_to_device, counted.copies_to_host, counted.copies_on_device, counted.allocations) == (0,) * 4
