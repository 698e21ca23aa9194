"""The columns: a library on the GPU, with the switches that it is timed under."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.case import Library


@dataclass(frozen=True)
class OnGPU(Library):
    """A library that computes on the GPU."""

    device: str = "cuda"
    tuned: bool = False     # cuDNN measures its algorithms first and takes the fastest
    graph: bool = False     # the step is captured once and replayed as a CUDA graph

    @contextmanager
    def switched(self) -> Iterator[None]:
        """With its own switches, for as long as it computes."""
        cudnn = self.lib.backends.cudnn
        before, cudnn.benchmark = cudnn.benchmark, self.tuned
        try:
            yield
        finally:
            cudnn.benchmark = before


KINDS = {
    "minidl": OnGPU("minidl"),
    "PyTorch": OnGPU("torch"),
    "tuned": OnGPU("torch", tuned=True),
    "channels_last": OnGPU("torch", channels_last=True, tuned=True),
    "CUDA graph": OnGPU("torch", graph=True),
}
ON_CPU = Library("minidl")  # judges where nobody else is there
PRECISIONS = ("float32", "TF32", "float64")


def absent(kind: str) -> str:
    """Why a column stays empty, or nothing."""
    if KINDS[kind].name != "torch":
        return ""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    return "" if importlib.import_module("torch").cuda.is_available() else "this PyTorch finds no GPU"


@contextmanager
def precision(name: str, kinds: list[str]) -> Iterator[None]:
    """Let the libraries of these columns compute products of float32 as asked: in float32 alone, or in TF32."""
    switches = []
    for library in {KINDS[kind].name: KINDS[kind].lib for kind in kinds}.values():
        switches += [library.backends.cuda.matmul, library.backends.cudnn]
    before = [each.allow_tf32 for each in switches]
    try:
        for each in switches:
            each.allow_tf32 = name == "TF32"
        yield
    finally:
        for each, value in zip(switches, before, strict=True):
            each.allow_tf32 = value


class UnderGraph:
    """A step of PyTorch as a CUDA graph: its first call runs as written, the second is captured, then it is replayed.

    As https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture says: the call that warms up runs on
    a stream of its own, and the arguments stay where they are.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        self._warm = False
        self._graph: Any = None
        self._output: Any = None

    def __call__(self, *arguments: Any) -> Any:
        cuda = importlib.import_module("torch").cuda
        if not self._warm:
            self._warm = True
            side = cuda.Stream()
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):
                output = self._step(*arguments)
            cuda.current_stream().wait_stream(side)
            return output
        if self._graph is None:
            self._graph = cuda.CUDAGraph()
            with cuda.graph(self._graph):
                self._output = self._step(*arguments)
        self._graph.replay()
        return self._output
