"""Convolution layers and matrix products on the GPU, in each precision: against cuDNN and cuBLAS."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks import convolution
from benchmarks.case import Job, Library, Options, Result, seeded
from benchmarks.convolution import Layer
from benchmarks.gpu.case import TOLERANCE, GPUCase
from benchmarks.gpu.memory import ends_of

# LeNet's two layers, the first of an ImageNet network, ResNet-18's four sizes, a 1x1 layer and a depthwise one.
LAYERS = [
    Layer((64, 1, 28, 28), 6, 5, 1, 2, first=True),
    Layer((64, 6, 14, 14), 16, 5),
    Layer((32, 3, 224, 224), 64, 7, 2, 3, first=True),
    Layer((64, 64, 56, 56), 64, 3, 1, 1),
    Layer((64, 128, 28, 28), 128, 3, 1, 1),
    Layer((64, 256, 14, 14), 256, 3, 1, 1),
    Layer((64, 512, 7, 7), 512, 3, 1, 1),
    Layer((64, 256, 56, 56), 64, 1),
    Layer((64, 64, 56, 56), 64, 3, 1, 1, groups=64),
]
TINY = [Layer((2, 3, 8, 8), 4, 3, 1, 1, first=True), Layer((2, 4, 6, 6), 4, 3, 1, 1, groups=4)]
LARGE = 1e9     # multiplications and additions of a forward pass: fewer are no work for tensor cores
SIDES = (1024, 4096)


def flops(layer: Layer) -> float:
    """Multiplications and additions of the layer, forward."""
    out = [(size + 2 * layer.padding - layer.dilation * (layer.kernel - 1) - 1) // layer.stride + 1
           for size in layer.shape[2:]]
    return 2.0 * layer.shape[0] * float(np.prod(layer.weight_shape)) * float(np.prod(out))


def goals(layer: Layer, precision: str) -> dict[str, float]:
    """In float32 near cuDNN, ahead of it for few channels and depthwise; in TF32 half of it where a layer is large."""
    if precision == "TF32":
        return {"PyTorch": 0.5} if flops(layer) >= LARGE and layer.groups == 1 else {}
    few = layer.shape[1] <= 3 or layer.groups == layer.shape[1]
    return {"PyTorch": 1.0 if few else 0.8}


def matmul_job(library: Library, side: int, precision: str) -> Job:
    """The product of two square matrices."""
    dtype = "float64" if precision == "float64" else "float32"
    a, b = (library.tensor(seeded(side, side, seed=seed).astype(dtype)) for seed in (0, 1))
    call = partial(library.lib.matmul, a, b)
    return Job(call, [Result("product", ends_of(call()), TOLERANCE[precision])])


def cases(family: str, options: Options) -> list[GPUCase]:
    """Layers forward and with their gradients, in float32 and TF32; or products in all precisions."""
    found = []
    if family == "matmul":
        for side in (20,) if options.tiny else SIDES:
            for precision in ("float32", "TF32", "float64"):
                found.append(GPUCase(
                    f"{side} x {side} by {side} x {side}", partial(matmul_job, side=side, precision=precision),
                    precision=precision, flops=2.0 * side**3,
                    goals={"PyTorch": 0.8} if precision == "float32" and side == 4096 else {}))
        return found
    for precision in ("float32", "TF32"):
        for gradients, what in ((False, "forward"), (True, "forward+backward")):
            for layer in TINY if options.tiny else LAYERS:
                passes = 1 if not gradients else 2 if layer.first else 3
                found.append(GPUCase(
                    f"{layer.name}, {what}", partial(convolution.job, layer=layer, gradients=gradients,
                                                     tolerance=TOLERANCE[precision]),
                    group=f"{what}, {precision}", precision=precision, beside=("PyTorch", "tuned", "channels_last"),
                    flops=passes * flops(layer), goals=goals(layer, precision)))
    return found
