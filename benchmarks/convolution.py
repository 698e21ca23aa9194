"""Convolution layers on their own, float32: forward, and forward with all gradients.

``conv`` are thirteen layers from small to large networks; ``soumith`` the five of
https://github.com/soumith/convnet-benchmarks at batch 16; ``conv-kinds`` transposed and 1-d convolutions.  A first
layer has no input gradient, as in training.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from benchmarks.case import Case, Job, Library, Options, Result, numpy_of, seeded

TOLERANCE = 1e-4  # of the largest number: sums of up to 200,000 products in float32, and transforms of some kernels


class Layer(NamedTuple):
    """One convolution.  ``kind`` is the function of ``nn.functional``."""

    shape: tuple[int, ...]
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    first: bool = False
    kind: str = "conv2d"

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """As ``nn.functional`` takes it."""
        channels, sides = self.shape[1], len(self.shape) - 2
        pair = (channels, self.out_channels) if "transpose" in self.kind else (self.out_channels, channels)
        return (pair[0], pair[1] // self.groups, *(self.kernel,) * sides)

    @property
    def name(self) -> str:
        """All its numbers."""
        size = "x".join(map(str, self.shape[2:]))
        parts = [f"{self.shape[0]}x{self.shape[1]}x{size} -> {self.out_channels}", f"k{self.kernel}"]
        for letter, value, plain in (("s", self.stride, 1), ("p", self.padding, 0), ("d", self.dilation, 1),
                                     ("g", self.groups, 1)):
            if value != plain:
                parts.append(f"{letter}{value}")
        if self.kind != "conv2d":
            parts.append(self.kind.removeprefix("conv_"))
        return " ".join(parts)


def _square(batch: int, channels: int, size: int, *rest: int, **options: Any) -> Layer:
    return Layer((batch, channels, size, size), *rest, **options)  # type: ignore[arg-type]


LAYERS = {
    "conv": [
        _square(64, 1, 28, 6, 5, 1, 2, first=True),
        _square(64, 6, 14, 16, 5),
        _square(64, 3, 32, 32, 3, 1, 1, first=True),
        _square(64, 32, 16, 64, 3, 1, 1),
        _square(32, 64, 32, 64, 3, 1, 1),
        _square(8, 64, 56, 64, 3, 1, 1),
        _square(8, 128, 28, 128, 3, 1, 1),
        _square(8, 256, 14, 256, 3, 1, 1),
        _square(8, 512, 7, 512, 3, 1, 1),
        _square(8, 3, 224, 64, 7, 2, 3, first=True),
        _square(8, 256, 56, 64, 1),
        _square(8, 64, 56, 64, 3, 1, 1, groups=64),
        _square(8, 64, 28, 64, 3, 1, 2, 2),
    ],
    "soumith": [
        _square(16, 3, 128, 96, 11, first=True),
        _square(16, 64, 64, 128, 9),
        _square(16, 128, 32, 128, 9),
        _square(16, 128, 16, 128, 7),
        _square(16, 384, 13, 384, 3),
    ],
    "conv-kinds": [
        _square(32, 64, 16, 32, 4, 2, 1, kind="conv_transpose2d"),
        _square(8, 128, 28, 64, 2, 2, kind="conv_transpose2d"),
        Layer((32, 64, 256), 64, 5, kind="conv1d"),
    ],
}

TINY = {
    "conv": [_square(2, 3, 8, 4, 3, 1, 1, first=True), _square(2, 4, 9, 6, 3, 2, 1, 2, 2)],
    "soumith": [_square(1, 3, 12, 4, 11, first=True)],
    "conv-kinds": [_square(2, 4, 4, 3, 4, 2, 1, kind="conv_transpose2d"), Layer((2, 3, 16), 4, 5, kind="conv1d")],
}


def job(library: Library, layer: Layer, gradients: bool, tolerance: float = TOLERANCE) -> Job | None:
    """The layer forward, or forward and its gradients for a fixed gradient of the output."""
    if library.channels_last and len(layer.shape) != 4:
        return None
    arrays = [seeded(*layer.shape), seeded(*layer.weight_shape, seed=1), seeded(layer.out_channels, seed=2)]
    if library.is_jax:
        from benchmarks import in_jax

        call = in_jax.layer(layer, arrays, gradients)
    else:
        call = _eager(library, layer, arrays, gradients)
    names = ("output", "weight's gradient", "bias's gradient", "input's gradient")
    results = [Result(name, numpy_of(values), tolerance) for name, values in zip(names, call(), strict=False)]
    return Job(call, results)


def _eager(library: Library, layer: Layer, arrays: list[Any], gradients: bool) -> Any:
    """A function that returns output, and gradients of weight, bias and, unless the layer is the first, input."""
    lib = library.lib
    x, weight, bias = map(library.tensor, arrays)
    function = getattr(lib.nn.functional, layer.kind)
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": layer.groups}

    def forward() -> tuple[Any, ...]:
        with lib.no_grad():
            return (_computed(function(x, weight, bias, **options)),)

    if not gradients:
        return forward
    direction = library.tensor(seeded(*forward()[0].shape, seed=3))
    wanted = [weight, bias] if layer.first else [weight, bias, x]
    for tensor in wanted:
        tensor.requires_grad_()

    def forward_and_backward() -> tuple[Any, ...]:
        output = _computed(function(x, weight, bias, **options))
        return (output, *lib.autograd.grad(output, wanted, direction))

    return forward_and_backward


def _computed(output: Any) -> Any:
    """The output; minidl's, which may wait for a ReLU to be computed with it, computes it when asked where it lies."""
    output.data_ptr()
    return output


def cases(family: str, options: Options) -> list[Case]:
    """Two per layer."""
    layers = (TINY if options.tiny else LAYERS)[family]
    return [Case(f"{layer.name}, {what}", partial(job, layer=layer, gradients=gradients), group=what)
            for gradients, what in ((False, "forward"), (True, "forward+backward")) for layer in layers]
