"""Optimizer steps over all parameters in one launch on the GPU: cuda/optimizer.cu.

The last argument of a launch is the rule: the bytes of a struct with everything that changes from one step to the next.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from minidl._ext.device_array import DeviceArray

from .arrays import SUFFIX, THREADS, ArraysCUDA

_CHUNK, _MOST_ROWS = 1024, 80  # numbers of a block and rows of a table, as in cuda/optimizer.cu


class OptimizerCUDA(ArraysCUDA):
    """Optimizer steps over all parameters in one launch; more than 80 of them, or two dtypes, take several."""

    def sgd_step(self, parameters: list[DeviceArray], grads: list[DeviceArray],
                 momentum_buffers: list[Any], first: list[bool], lr: float, momentum: float,
                 dampening: float, weight_decay: float, nesterov: bool, maximize: bool) -> None:
        rule = struct.pack("4d2i", lr, momentum, 1 - dampening, weight_decay, nesterov, maximize)
        buffers = momentum_buffers if momentum != 0 else [None] * len(parameters)
        rows: dict[Any, list[Any]] = {}
        for row in zip(parameters, grads, buffers, first, strict=True):
            rows.setdefault((row[0].dtype, rule), []).append(row)
        self._step("sgd_step", "3P3i4x", rows, (0, 2))

    def adam_step(self, parameters: list[DeviceArray], grads: list[DeviceArray],
                  exp_avgs: list[DeviceArray], exp_avg_sqs: list[DeviceArray],
                  max_exp_avg_sqs: list[DeviceArray] | None, steps: list[int], lr: float, beta1: float,
                  beta2: float, eps: float, weight_decay: float, amsgrad: bool, maximize: bool,
                  decoupled: bool) -> None:
        """Parameters that have made different numbers of steps take different launches."""
        largest: list[Any] = max_exp_avg_sqs if amsgrad and max_exp_avg_sqs else [None] * len(parameters)
        rows: dict[Any, list[Any]] = {}
        for *row, step in zip(parameters, grads, exp_avgs, exp_avg_sqs, largest, steps, strict=True):
            rule = struct.pack("8d2i", 1 - beta1, beta2, 1 - beta2, eps, weight_decay, 1 - lr * weight_decay,
                               lr / (1 - beta1**step), math.sqrt(1 - beta2**step), decoupled, maximize)
            rows.setdefault((row[0].dtype, rule), []).append(row)
        self._step("adam_step", "5P2i", rows, (0, 2, 3, 4))

    def _step(self, kernel: str, layout: str, rows: dict[Any, list[Any]], written: tuple[int, ...]) -> None:
        """Launch over rows of arrays (then numbers), gathered by dtype and rule; ``written`` are changed in place.

        ``layout`` is that of a row in C: its arrays' addresses, the size, the number of the first block, the numbers.
        """
        most = 8 + _MOST_ROWS * struct.calcsize(layout)
        for (dtype, rule), given in rows.items():
            given = [row for row in given if row[0].size]
            for at in range(0, len(given), _MOST_ROWS):
                part = given[at:at + _MOST_ROWS]
                dense = [[self.dense(each) if isinstance(each, DeviceArray) else each for each in row] for row in part]
                table, blocks = struct.pack("q", len(part)), 0
                for row in dense:
                    pointers = [each.ptr if isinstance(each, DeviceArray) else 0 for each in row if _is_array(each)]
                    table += struct.pack(layout, *pointers, row[0].size, blocks, *row[len(pointers):])
                    blocks += -(-row[0].size // _CHUNK)
                self.launch("optimizer", f"{kernel}_{SUFFIX[dtype]}", (blocks, 1), (THREADS, 1, 1),
                            table.ljust(most, b"\0"), rule)
                for row, made in zip(part, dense, strict=True):
                    for index in written:
                        if made[index] is not row[index]:
                            self.copy_(row[index], made[index])


def _is_array(each: Any) -> bool:
    return each is None or isinstance(each, DeviceArray)
