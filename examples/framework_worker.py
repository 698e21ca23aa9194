"""Steps of LeNet in one framework, in a process of its own: what ``compare_pytorch.py`` times and weighs.

The worker is told on its standard input, one JSON list a line, ``[batch size, steps]``; it takes that many steps and
answers with the seconds of each and the process's peak memory. It imports nothing but its framework.

``Worker`` is the other end of the pipe.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from lenet import lenet5

IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


class Worker:
    """A process that imports ``framework`` (its name) and takes steps when asked. Use as a context manager."""

    def __init__(self, framework: str, threads: int) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, framework, str(threads)], text=True, bufsize=1,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def steps(self, batch_size: int, count: int) -> tuple[list[float], float]:
        """Take ``count`` steps; the seconds of each, and the peak memory of the process so far in MB."""
        self._process.stdin.write(json.dumps([batch_size, count]) + "\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a worker process died; its message is above")
        return tuple(json.loads(answer))


def import_seconds(framework: str) -> float:
    """The time of ``import framework`` in a fresh process."""
    done = subprocess.run([sys.executable, "-c", IMPORT.format(framework)], check=True, text=True, capture_output=True)
    return float(done.stdout)


def peak_memory() -> float:
    """The most memory that this process has had, in MB."""
    # Not getrusage: on Linux its maximum begins with the memory of the parent process.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def stepper(framework: Any) -> Callable[[int], None]:
    """A function that takes one step of training with a batch of the given size."""
    framework.manual_seed(0)
    net = lenet5(framework.nn)
    loss_function = framework.nn.CrossEntropyLoss()
    optimizer = framework.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    batches: dict[int, tuple[Any, Any]] = {}

    def step(batch_size: int) -> None:
        if batch_size not in batches:
            batches[batch_size] = framework.randn(batch_size, 1, 28, 28), framework.randint(0, 10, (batch_size,))
        images, labels = batches[batch_size]
        optimizer.zero_grad()
        loss_function(net(images), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    name, threads = sys.argv[1:]
    framework = __import__(name)
    framework.set_num_threads(int(threads))
    step = stepper(framework)
    for line in sys.stdin:
        batch_size, count = json.loads(line)
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            step(batch_size)
            seconds.append(time.perf_counter() - began)
        print(json.dumps([seconds, peak_memory()]), flush=True)


if __name__ == "__main__":
    main()
