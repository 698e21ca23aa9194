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
_SGD_ROW, _ADAM_ROW = "3P4i", "5P2i"  # as there: addresses, then size and first block, then what is the row's own


class OptimizerCUDA(ArraysCUDA):
    """Optimizer steps over all parameters in one launch; more than 80 of them, or two dtypes, take several."""

    def sgd_step(self, parameters: list[DeviceArray], grads: list[DeviceArray],
                 momentum_buffers: list[Any], first: list[bool], lr: float, momentum: float,
                 dampening: float, weight_decay: float, nesterov: bool, maximize: bool) -> None:
        rule = struct.pack("4d2i", lr, momentum, 1 - dampening, weight_decay, nesterov, maximize)
        buffers = momentum_buffers if momentum != 0 else [None] * len(parameters)
        groups: dict[Any, list[Any]] = {}
        for parameter, grad, buffer, is_first in zip(parameters, grads, buffers, first, strict=True):
            groups.setdefault(parameter.dtype, []).append(((parameter, grad, buffer), (is_first, 0)))
        for rows in groups.values():
            self._step("sgd_step", _SGD_ROW, rows, rule)

    def adam_step(self, parameters: list[DeviceArray], grads: list[DeviceArray],
                  exp_avgs: list[DeviceArray], exp_avg_sqs: list[DeviceArray],
                  max_exp_avg_sqs: list[DeviceArray] | None, steps: list[int], lr: float, beta1: float,
                  beta2: float, eps: float, weight_decay: float, amsgrad: bool, maximize: bool,
                  decoupled: bool) -> None:
        """Parameters that have made different numbers of steps take different launches."""
        largest: list[Any] = max_exp_avg_sqs if amsgrad and max_exp_avg_sqs else [None] * len(parameters)
        groups: dict[Any, list[Any]] = {}
        for *row, step in zip(parameters, grads, exp_avgs, exp_avg_sqs, largest, steps, strict=True):
            groups.setdefault((row[0].dtype, step), []).append((row, ()))
        for (_, step), rows in groups.items():
            self._step("adam_step", _ADAM_ROW, rows, struct.pack(
                "8d2i", 1 - beta1, beta2, 1 - beta2, eps, weight_decay, 1 - lr * weight_decay, lr / (1 - beta1**step),
                math.sqrt(1 - beta2**step), decoupled, maximize))

    def _step(self, kernel: str, layout: str, rows: list[Any], rule: bytes) -> None:
        """Launch over rows of (arrays, numbers); all arrays but the second, the gradient, are changed in place."""
        most = 8 + _MOST_ROWS * struct.calcsize(layout)
        for at in range(0, len(rows), _MOST_ROWS):
            part = rows[at:at + _MOST_ROWS]
            values, blocks, copies = [len(part)], 0, []
            for arrays, numbers in part:
                for each in arrays:
                    if each is None:
                        values.append(0)
                    elif each.contiguous:
                        values.append(each.ptr)
                    else:
                        copies.append((each, self.copy(each), each is not arrays[1]))
                        values.append(copies[-1][1].ptr)
                values += arrays[0].size, blocks, *numbers
                blocks += -(-arrays[0].size // _CHUNK)
            if blocks:
                table = struct.pack("q" + layout * len(part), *values)
                self.launch("optimizer", f"{kernel}_{SUFFIX[part[0][0][0].dtype]}", (blocks, 1), (THREADS, 1, 1),
                            table.ljust(most, b"\0"), rule)
            for each, dense, written in copies:
                if written:
                    self.copy_(each, dense)
