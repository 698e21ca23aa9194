"""The measurements of ``compare_pytorch.py``: each runs the same text in PyTorch and in minidl.

``framework`` is one of the two modules ``torch`` and ``minidl``. A pair holds PyTorch's value first.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.utils.data
from framework_worker import Worker, import_seconds
from lenet import lenet5
from training import MOMENTUM, WEIGHT_DECAY

import minidl

FRAMEWORKS = (torch, minidl)
NUDGE = 1e-7
BATCH_SIZES = (1, 64)
STEPS_AT_ONCE = 20

Arrays = tuple[np.ndarray, np.ndarray]  # images float32 (N, 1, 28, 28), labels int64 (N,)


def number_of(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy()


def largest_difference(pair: Any) -> float:
    """The largest absolute difference of the elements of two tensors."""
    ours, theirs = (number_of(tensor).astype(np.float64) for tensor in pair)
    return float(np.abs(ours - theirs).max())


class Script:
    """The training script: same seed, same network, same batches. ``steps`` of it are the whole cycle."""

    def __init__(self, framework: Any, data: Arrays, batch_size: int, lr: float, seed: int, steps: int,
                 double: bool = False, nudge: float = 0.0) -> None:
        self.framework, self.steps = framework, steps
        framework.manual_seed(seed)
        self.net = lenet5(framework.nn)
        images, labels = (framework.from_numpy(array) for array in data)
        if double:
            self.net, images = self.net.double(), images.double()
        with framework.no_grad():
            for parameter in self.net.parameters():
                parameter += nudge
        optim, utils = framework.optim, framework.utils.data
        self.loss_function = framework.nn.CrossEntropyLoss()
        self.optimizer = optim.SGD(self.net.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        self.schedule = optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=lr, total_steps=steps)
        self.loader = utils.DataLoader(utils.TensorDataset(images, labels), batch_size=batch_size, shuffle=True)

    def batches(self) -> Iterator[Any]:
        """The batches of ``steps`` steps, epoch after epoch."""
        taken = 0
        while True:
            for batch in self.loader:
                if taken == self.steps:
                    return
                taken += 1
                yield batch

    def losses(self) -> np.ndarray:
        """Train; the loss of each step."""
        values = []
        for images, labels in self.batches():
            self.optimizer.zero_grad()
            loss = self.loss_function(self.net(images), labels)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            values.append(loss.item())
        return np.array(values)

    def accuracy(self, data: Arrays) -> float:
        self.net.eval()
        images, labels = data
        with self.framework.no_grad():
            answers = [number_of(self.net(self.framework.from_numpy(images[i:i + 500])).argmax(1))
                       for i in range(0, len(images), 500)]
        return float((np.concatenate(answers) == labels).mean())


def layers_at_step_0(data: Arrays, **settings: Any) -> list[dict[str, Any]]:
    """For each layer, the largest differences of its output, of the gradient there and of its parameters' gradients."""
    traces = []
    for framework in FRAMEWORKS:
        script = Script(framework, data, steps=1, **settings)
        images, labels = next(script.batches())
        outputs = {}
        x = images
        for name, layer in script.net.named_children():
            x = layer(x)
            x.retain_grad()
            outputs[name] = x
        script.loss_function(x, labels).backward()
        traces.append((script.net, outputs))
    (their_net, their_outputs), (our_net, our_outputs) = traces
    rows = []
    for name, theirs in their_outputs.items():
        ours = our_outputs[name]
        row = {
            "layer": name,
            "shape": tuple(theirs.shape),
            "output": largest_difference((theirs, ours)),
            "grad_output": largest_difference((theirs.grad, ours.grad)),
        }
        our_parameters = dict(getattr(our_net, name).named_parameters())
        for kind, parameter in getattr(their_net, name).named_parameters():
            row[f"grad_{kind}"] = largest_difference((parameter.grad, our_parameters[kind].grad))
        rows.append(row)
    return rows


def curves(data: Arrays, steps: int, double: bool, **settings: Any) -> dict[str, np.ndarray]:
    """The losses of ``steps`` steps in PyTorch, in minidl, and in PyTorch from weights moved by ``NUDGE``."""
    settings = {"data": data, "steps": steps, "double": double, **settings}
    return {
        "torch": Script(torch, **settings).losses(),
        "minidl": Script(minidl, **settings).losses(),
        "nudged": Script(torch, nudge=NUDGE, **settings).losses(),
    }


def accuracies(train: Arrays, test: Arrays, epochs: int, batch_size: int, **settings: Any) -> list[float]:
    """The test accuracy after ``epochs`` epochs in both."""
    steps = epochs * -(-len(train[0]) // batch_size)
    values = []
    for framework in FRAMEWORKS:
        script = Script(framework, train, steps=steps, batch_size=batch_size, **settings)
        script.losses()
        values.append(script.accuracy(test))
    return values


def costs(rounds: int, threads: int) -> list[tuple[str, str, list[float]]]:
    """What both cost: the name of a cost, its unit, and the pair.

    Each framework has a process to take its steps in; they take turns, so that a busy moment of the machine strikes
    both. A step's seconds are the median of all rounds, the import's of up to five.
    """
    found = []
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(framework.__name__, threads)) for framework in FRAMEWORKS]
        for batch_size in BATCH_SIZES:
            samples: list[list[float]] = [[], []]
            for number in range(rounds + 1):
                for worker, values in zip(workers, samples, strict=True):
                    seconds, _ = worker.steps(batch_size, STEPS_AT_ONCE)
                    values.extend(seconds if number else [])  # the first round warms up
            found.append((f"step, batch {batch_size}", "ms", [1e3 * median(values) for values in samples]))
        found.append(("peak memory", "MB", [worker.steps(1, 0)[1] for worker in workers]))
    imports = [[1e3 * import_seconds(framework.__name__) for framework in FRAMEWORKS] for _ in range(min(rounds, 5))]
    found.append(("import", "ms", [median(values) for values in zip(*imports, strict=True)]))
    return found
