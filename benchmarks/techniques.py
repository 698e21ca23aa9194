"""``python -m benchmarks.techniques``: what each technique of the CPU engine is worth, by leaving it out.

Nothing is compared with another library here.  With and without are timed in turns, blocks of calls each; told are the
smallest times in microseconds and how many times as long it takes without.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import minidl
import minidl.nn.functional as F
from benchmarks import networks
from minidl import nn
from minidl._devices.cpu import CPU
from minidl._devices.cpu.conv import ConvCPU
from minidl._ext import instruction_set
from minidl.backends.cpu import conv_plan, use_conv_kernel
from minidl.geometry import conv2d_geometry

# N, C, H and W, OC, kernel, stride, padding
LAYERS = {
    "LeNet's first": (64, 1, 28, 6, 5, 1, 2),
    "LeNet's second": (64, 6, 14, 16, 5, 1, 0),
    "3 to 32 channels at 32x32": (64, 3, 32, 32, 3, 1, 1),
    "64 channels at 56x56": (8, 64, 56, 64, 3, 1, 1),
    "256 channels at 14x14": (8, 256, 14, 256, 3, 1, 1),
    "256 to 64 channels, 1x1, at 56x56": (8, 256, 56, 64, 1, 1, 0),
    "16 to 32 channels, stride 2, at 32x32": (64, 16, 32, 32, 3, 2, 1),
}
# N, C = OC, H and W, dilation; 3x3, as large as the input
DILATIONS = ((8, 64, 28, 2), (1, 64, 28, 2), (4, 32, 56, 2), (8, 64, 20, 2), (8, 64, 28, 4))
POOLED = ("LeNet's first", "LeNet's second")
BATCHES = (1, 8, 64, 256)
# network, shape of an image, batches
INFERENCES = {
    "LeNet": (networks.LeNet, (1, 28, 28), (16, 64, 256, 1024)),
    "VGG-like": (networks.VGG, (3, 32, 32), (1, 2, 8, 32)),
    "ResNet-18": (networks.ResNet18, (3, 32, 32), (1, 2, 8, 32)),
}
Function = Callable[[], Any]


def least(with_it: Function, without: Function, seconds: float) -> tuple[float, float]:
    """The smallest microseconds of a call of each, in turns."""
    best = [float("inf")] * 2
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, function in enumerate((with_it, without)):
            function()
            for _ in range(5):
                start = time.perf_counter()
                function()
                best[i] = min(best[i], time.perf_counter() - start)
    return best[0] * 1e6, best[1] * 1e6


def convolutions() -> Iterator[tuple[str, Function, Function]]:
    """The kernel that the table chooses, and im2col with BLAS."""
    device, generator = CPU(), np.random.default_rng(0)
    for name, (N, C, side, OC, kernel, stride, padding) in LAYERS.items():
        g = conv2d_geometry((N, C, side, side), (OC, C, kernel, kernel), stride, padding)
        x, weight, grad = (generator.standard_normal(shape, np.float32)
                           for shape in (g.input_shape, g.weight_shape, g.output_shape))
        plan = conv_plan(g.input_shape, g.weight_shape, stride, padding)
        calls = {
            "forward": lambda x=x, w=weight, g=g: device.conv2d(x, w, None, g),
            "backward_input": lambda w=weight, y=grad, g=g: device.conv2d_backward_input(y, w, g),
            "backward_weight": lambda x=x, y=grad, g=g: device.conv2d_backward_weight(y, x, g),
        }
        for direction, call in calls.items():
            chosen = getattr(plan, direction).kernel
            if chosen != "im2col" and not (name == "LeNet's first" and direction == "backward_input"):
                yield f"{name}, {direction}: {chosen}", call, within(
                    lambda direction=direction: use_conv_kernel(**{direction: "im2col"}), call)


def dilations() -> Iterator[tuple[str, Function, Function]]:
    """Winograd's kernel on the phases of a dilated convolution, and the packed product; the last two are left to it."""
    device, generator = CPU(), np.random.default_rng(0)
    for N, C, side, dilation in DILATIONS:
        g = conv2d_geometry((N, C, side, side), (C, C, 3, 3), 1, dilation, dilation)
        x, weight = (generator.standard_normal(shape, np.float32) for shape in (g.input_shape, g.weight_shape))

        def call(x: np.ndarray = x, weight: np.ndarray = weight, g: Any = g) -> Any:
            return device.conv2d(x, weight, None, g)

        yield (f"{C} channels at {side}x{side}, dilation {dilation}: winograd on phases, without: packed",
               within(lambda: use_conv_kernel(forward="winograd"), call),
               within(lambda: use_conv_kernel(forward="packed"), call))


def pooled() -> Iterator[tuple[str, Function, Function]]:
    """LeNet's layers with ReLU and pooling in their pass: the kernels for that, and those of the convolution alone."""
    device, generator = CPU(), np.random.default_rng(0)
    for name in POOLED:
        for N in BATCHES[:3]:
            _, C, side, OC, kernel, stride, padding = LAYERS[name]
            g = conv2d_geometry((N, C, side, side), (OC, C, kernel, kernel), stride, padding)
            x, weight, bias = (generator.standard_normal(shape, np.float32)
                               for shape in (g.input_shape, g.weight_shape, (OC,)))
            output, codes = device.conv2d_relu_max_pool2d(x, weight, bias, g)
            grad, needs_input = generator.standard_normal(output.shape, np.float32), C > 1
            plan = conv_plan(g.input_shape, g.weight_shape, stride, padding)
            alone = {direction: getattr(plan, direction).kernel for direction in ("forward", "backward_input",
                                                                                  "backward_weight")}
            calls = {"forward": lambda x=x, w=weight, b=bias, g=g: device.conv2d_relu_max_pool2d(x, w, b, g),
                     "backward": lambda x=x, w=weight, y=grad, c=codes, g=g, n=needs_input:
                     device.conv2d_relu_max_pool2d_backward(y, c, x, w, g, n)}
            for way, call in calls.items():
                table = dict.fromkeys(alone, "auto")
                yield f"{name}, ReLU, pooling, batch {N}, {way}", within(
                    lambda table=table: use_conv_kernel(**table), call), within(
                    lambda alone=alone: use_conv_kernel(**alone), call)


def within(context: Callable[[], Any], call: Function) -> Function:
    """``call`` inside a context."""
    def function() -> Any:
        with context():
            return call()

    return function


@contextmanager
def isa(name: str) -> Iterator[None]:
    """Kernels compiled for another instruction set."""
    before = instruction_set.use(name)
    try:
        yield
    finally:
        instruction_set.use(before)


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Plans that keep no layout: every call packs what it reads and unpacks what it makes."""
    before = {name: vars(ConvCPU)[name] for name in ("can_keep_conv2d_lanes", "kept_conv2d_weights")}
    ConvCPU.can_keep_conv2d_lanes = staticmethod(lambda geometry: False)
    ConvCPU.kept_conv2d_weights = staticmethod(lambda weights: [None] * len(weights))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(ConvCPU, name, function)


class LeNet(nn.Module):
    """LeNet-5; ``look`` computes each result on its own."""

    def __init__(self, look: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.look = look

    def seen(self, x: minidl.Tensor) -> minidl.Tensor:
        """The same; computed now, if results are looked at."""
        if self.look:
            x._raw  # noqa: B018 - reading it computes what waits
        return x

    def forward(self, x: minidl.Tensor) -> minidl.Tensor:
        x = F.max_pool2d(self.seen(F.relu(self.seen(self.conv1(x)))), 2)
        x = F.max_pool2d(self.seen(F.relu(self.seen(self.conv2(x)))), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


def step_of(batch: int, look: bool = False, compiled: bool = False) -> Function:
    """A training step of LeNet with SGD and momentum on one batch."""
    minidl.manual_seed(0)
    net, criterion = LeNet(look), nn.CrossEntropyLoss()
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    images, labels = minidl.rand(batch, 1, 28, 28), minidl.randint(0, 10, (batch,))

    def step(images: minidl.Tensor, labels: minidl.Tensor) -> minidl.Tensor:
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    run: Callable[..., Any] = minidl.compile(step) if compiled else step
    for _ in range(4):
        run(images, labels)
    return lambda: run(images, labels)


def steps() -> Iterator[tuple[str, Function, Function]]:
    """A step of LeNet without one thing at a time."""
    for batch in BATCHES:
        case = f"LeNet step, batch {batch}"
        step = step_of(batch)
        yield f"{case}: compiled, without: eager", step_of(batch, compiled=True), step
        yield f"{case}: ReLU and pooling in the convolution's pass", step, step_of(batch, look=True)
        im2col = {"forward": "im2col", "backward_input": "im2col", "backward_weight": "im2col"}
        yield f"{case}: kernels chosen by shape, without: im2col", step, within(lambda im2col=im2col: use_conv_kernel(
            **im2col), step)
        for name in instruction_set.supported()[:-1]:
            yield f"{case}: {instruction_set.used()}, without: {name}", step, within(lambda name=name: isa(name), step)


def inference_of(net: nn.Module, images: minidl.Tensor) -> Function:
    """What the compiled network makes of one batch."""
    run = minidl.compile(net.eval())

    def call() -> Any:
        with minidl.no_grad():
            return run(images)

    for _ in range(4):
        call()
    return call


def inferences() -> Iterator[tuple[str, Function, Function]]:
    """Compiled inference without the layouts that a plan keeps."""
    for name, (network, shape, batches) in INFERENCES.items():
        net = network(minidl)
        for batch in batches:
            images = minidl.rand(batch, *shape)
            with_it = inference_of(net, images)
            with nothing_kept():
                without = inference_of(net, images)
            yield f"{name} inference, batch {batch}, compiled: layouts kept", with_it, without


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.techniques", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    options = parser.parse_args()
    minidl.set_num_threads(options.threads)
    head = f"microseconds, smallest; {options.threads} thread{'s' * (options.threads > 1)}"
    print(f"{head:<78} {'with':>9} {'without':>9} {'worth':>6}")
    for part in (convolutions, dilations, pooled, steps, inferences):
        for name, with_it, without in part():
            ours, other = least(with_it, without, options.seconds)
            print(f"{name:<78} {ours:9.1f} {other:9.1f} {other / ours:6.2f}", flush=True)


if __name__ == "__main__":
    main()
