"""The end of a classifier, forward and backward in two launches: cuda/perceptron.cu.  ``minidl.compile`` uses it."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np

from minidl._devices.reference.loss import check_shapes
from minidl._devices.reference.matmul import check_linear
from minidl._ext.device_array import DeviceArray

from .arrays import SUFFIX, THREADS, ArraysCUDA
from .loss import REDUCTION, reduction_code

MOST_LAYERS = 6  # as in cuda/perceptron.cu, as the next two
_TILE = 16
_LAYER = "6P4i"
_ROWS = {np.dtype(np.float32): (1, 4, 8), np.dtype(np.float64): (1, 4)}  # of a block
_ROWS_THREADS = 512
_MOST_SHARED = 40 * 1024  # bytes: what fits beside the kernel's own into what every GPU has
_MOST_TRAFFIC = 64 << 20  # bytes of weights that all blocks read together: beyond it, products in tiles are faster


class PerceptronCUDA(ArraysCUDA):
    """Linear layers with ReLU between them, and cross entropy."""

    def can_fuse_perceptron(self, rows: int, widths: list[int], dtype: np.dtype) -> bool:
        """Whether ``perceptron`` takes layers of these widths (inputs, then the outputs of each), and is worth it."""
        if dtype not in _ROWS or not rows or not all(widths) or not 2 <= len(widths) <= MOST_LAYERS + 1:
            return False
        return _rows_of_a_block(rows, widths, dtype) > 0

    def perceptron(self, input: DeviceArray, weights: tuple[DeviceArray, ...], biases: tuple[DeviceArray | None, ...],
                   target: DeviceArray, ignore_index: int, reduction: str, needs_input: bool) -> tuple[Any, ...]:
        """Cross entropy of Linear - ReLU - ... - Linear, and the gradients of it.

        ``input`` (rows, in), ``weights`` (out, in) and ``biases`` (out,) or None of each layer, ``target`` (rows,);
        ``reduction`` is 'mean' or 'sum'.  Returns (loss, grad_input or None, then for each layer grad_weight,
        grad_bias or None).
        """
        input, target = self.dense(input), self.dense(target)
        weights = tuple(map(self.dense, weights))
        biases = tuple(None if bias is None else self.dense(bias) for bias in biases)
        rows, dtype = input.shape[0], input.dtype
        widths = [input.shape[1], *(weight.shape[0] for weight in weights)]
        for weight, bias, width in zip(weights, biases, widths, strict=False):
            check_linear(DeviceArray(0, (rows, width), None, dtype), weight, bias)
        check_shapes("cross_entropy", DeviceArray(0, (rows, widths[-1]), None, dtype), target, None)
        suffix = SUFFIX[dtype]
        if reduction_code(reduction) == REDUCTION["none"] or not self.can_fuse_perceptron(rows, widths, dtype):
            raise ValueError(f"perceptron: {rows} rows of widths {widths} in {dtype} with reduction={reduction!r} take "
                             "single calls: ask can_fuse_perceptron first")
        outputs = [self.empty((rows, width), dtype) for width in widths[1:-1]]
        grads = [self.empty((rows, width), dtype) for width in widths[1:]]
        grad_weights = [self.empty(weight.shape, dtype) for weight in weights]
        grad_biases = [None if bias is None else self.empty(bias.shape, dtype) for bias in biases]
        grad_input = self.empty(input.shape, dtype) if needs_input else None
        loss, total = self.empty((), dtype), self.empty((1,), np.float64)
        terms = self.empty((rows,), np.float64)
        table, blocks = b"", 0
        for arrays in zip(weights, biases, [*outputs, None], grads, grad_weights, grad_biases, strict=True):
            out, width = arrays[0].shape
            tiles = -(-width // _TILE)
            table += struct.pack(_LAYER, *(0 if each is None else each.ptr for each in arrays), width, out, tiles,
                                 blocks)
            blocks += tiles * -(-out // _TILE)
        table = table.ljust(MOST_LAYERS * struct.calcsize(_LAYER), b"\0")
        mean, layers, each = reduction == "mean", len(weights), _rows_of_a_block(rows, widths, dtype)
        self.launch("perceptron", f"perceptron_rows_{each}_{suffix}", (-(-rows // each), 1), (_ROWS_THREADS, 1, 1),
                    grad_input, terms, total, input, target, target.itemsize == 1, np.int64(ignore_index), mean, layers,
                    rows, table, shared=each * sum(widths) * dtype.itemsize)
        self.launch("perceptron", f"perceptron_weights_{suffix}", (blocks + 1, 1), (THREADS, 1, 1), loss, terms, total,
                    input, mean, layers, rows, table)
        return loss, grad_input, *(each for pair in zip(grad_weights, grad_biases, strict=True) for each in pair)


def _rows_of_a_block(rows: int, widths: list[int], dtype: np.dtype) -> int:
    """As few as keep the traffic of weights within bounds, each block reading all of them twice; 0 if none do."""
    weights = sum(a * b for a, b in itertools.pairwise(widths)) * dtype.itemsize
    for each in _ROWS[dtype]:
        if each * sum(widths) * dtype.itemsize <= _MOST_SHARED and 2 * -(-rows // each) * weights <= _MOST_TRAFFIC:
            return each
    return 0
