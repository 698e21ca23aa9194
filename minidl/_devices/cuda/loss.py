"""Losses on the GPU: cuda/loss.cu and cuda/error_loss.cu."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minidl._devices.reference.loss import check_shapes, class_axis, reduction_error
from minidl._ext.device_array import DeviceArray

from .arrays import SUFFIX, THREADS, ArraysCUDA
from .teams import BLOCKS, WORK, plan

REDUCTION = {"none": 0, "mean": 1, "sum": 2}  # as in cuda/loss.cu
_ROUNDS = 4  # of a single block over the rows, or over its share of the numbers: more are split
_FLOAT64 = np.dtype(np.float64)


class _Classes(NamedTuple):
    """A batch of predictions seen as (N, C, inner): ``rows`` = N * inner predictions over C classes."""

    C: int
    inner: int
    rows: int


class LossCUDA(ArraysCUDA):
    """Losses.

    A target that is neither a class nor ``ignore_index`` raises nothing, since nobody waits for the GPU to look at it:
    no memory out of bounds is read, the loss is NaN, and so is the gradient of that prediction.
    """

    def cross_entropy(self, input: DeviceArray, target: DeviceArray, weight: DeviceArray | None, ignore_index: int,
                      reduction: str, label_smoothing: float) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
        check_shapes("cross_entropy", input, target, weight)
        code = reduction_code(reduction)
        input, target, weight = self.dense(input), self.dense(target), self._weights(weight, input)
        classes, suffix = _classes(input.shape), SUFFIX[input.dtype]
        loss, total_weight = self._losses(input, target, reduction)
        log_probs = self.empty(input.shape, input.dtype)
        how = plan(classes.rows, classes.C, classes.inner > 1, True)
        blocks = 1 if how.blocks <= _ROUNDS else min(how.blocks, BLOCKS)
        partial = self.empty((blocks, 2), _FLOAT64) if blocks > 1 else None
        self.launch("loss", f"cross_entropy_{suffix}", (blocks, 1), (how.threads, 1, 1), loss, log_probs, total_weight,
                    partial, input, target, target.itemsize == 1, weight, np.int64(ignore_index), code,
                    *_smoothing(label_smoothing, classes), how.lanes, how.columns, *classes)
        self._finish(loss, total_weight, partial, code)
        return loss, log_probs, total_weight

    def cross_entropy_backward(self, grad_output: DeviceArray, log_probs: DeviceArray, total_weight: DeviceArray,
                               target: DeviceArray, weight: DeviceArray | None, ignore_index: int, reduction: str,
                               label_smoothing: float) -> DeviceArray:
        code = reduction_code(reduction)
        grad_output, log_probs, target = self.dense(grad_output), self.dense(log_probs), self.dense(target)
        grad_input = self.empty(log_probs.shape, log_probs.dtype)
        if grad_input.size:
            classes = _classes(log_probs.shape)
            how = plan(classes.rows, classes.C, classes.inner > 1, True)
            self.launch("loss", f"cross_entropy_backward_{SUFFIX[log_probs.dtype]}", (how.blocks, 1),
                        (how.threads, 1, 1), grad_input, grad_output, log_probs, total_weight, target,
                        target.itemsize == 1, self._weights(weight, log_probs), np.int64(ignore_index), code,
                        *_smoothing(label_smoothing, classes), how.lanes, how.columns, *classes)
        return grad_input

    def nll_loss(self, input: DeviceArray, target: DeviceArray, weight: DeviceArray | None, ignore_index: int,
                 reduction: str) -> tuple[DeviceArray, DeviceArray]:
        check_shapes("nll_loss", input, target, weight)
        code = reduction_code(reduction)
        input, target, weight = self.dense(input), self.dense(target), self._weights(weight, input)
        classes = _classes(input.shape)
        loss, total_weight = self._losses(input, target, reduction)
        blocks = _blocks(classes.rows)
        partial = self.empty((blocks, 2), _FLOAT64) if blocks > 1 else None
        self.launch("loss", f"nll_loss_{SUFFIX[input.dtype]}", (blocks, 1), (THREADS, 1, 1), loss, total_weight,
                    partial, input, target, target.itemsize == 1, weight, np.int64(ignore_index), code, *classes)
        self._finish(loss, total_weight, partial, code)
        return loss, total_weight

    def nll_loss_backward(self, grad_output: DeviceArray, total_weight: DeviceArray, target: DeviceArray,
                          weight: DeviceArray | None, ignore_index: int, reduction: str,
                          input_shape: tuple[int, ...]) -> DeviceArray:
        code = reduction_code(reduction)
        grad_output, target = self.dense(grad_output), self.dense(target)
        grad_input = self.empty(input_shape, grad_output.dtype)
        if grad_input.size:
            classes = _classes(input_shape)
            how = plan(classes.rows, classes.C, classes.inner > 1, True)
            self.launch("loss", f"nll_loss_backward_{SUFFIX[grad_output.dtype]}", (how.blocks, 1), (how.threads, 1, 1),
                        grad_input, grad_output, total_weight, target, target.itemsize == 1,
                        self._weights(weight, grad_output), np.int64(ignore_index), code, how.lanes, how.columns,
                        *classes)
        return grad_input

    def _weights(self, weight: DeviceArray | None, input: DeviceArray) -> DeviceArray | None:
        if weight is None:
            return None
        return self.dense(weight if weight.dtype == input.dtype else self.cast(weight, input.dtype))

    def _losses(self, input: DeviceArray, target: DeviceArray, reduction: str) -> tuple[DeviceArray, DeviceArray]:
        return self.empty(target.shape if reduction == "none" else (), input.dtype), self.empty((), input.dtype)

    def _finish(self, loss: DeviceArray, total_weight: DeviceArray, partial: DeviceArray | None, code: int) -> None:
        if partial is not None:
            self.launch("loss", f"loss_finish_{SUFFIX[loss.dtype]}", (1, 1), (THREADS, 1, 1), loss, total_weight,
                        partial, code, partial.shape[0])

    def mse_loss(self, input: DeviceArray, target: DeviceArray, reduction: str) -> DeviceArray:
        return self._error_loss(input, target, True, reduction)

    def mse_loss_backward(self, grad_output: DeviceArray, input: DeviceArray, target: DeviceArray,
                          reduction: str) -> DeviceArray:
        return self._error_loss_backward(grad_output, input, target, True, reduction)

    def l1_loss(self, input: DeviceArray, target: DeviceArray, reduction: str) -> DeviceArray:
        return self._error_loss(input, target, False, reduction)

    def l1_loss_backward(self, grad_output: DeviceArray, input: DeviceArray, target: DeviceArray,
                         reduction: str) -> DeviceArray:
        return self._error_loss_backward(grad_output, input, target, False, reduction)

    def _error_loss(self, input: DeviceArray, target: DeviceArray, squared: bool, reduction: str) -> DeviceArray:
        reduced = reduction_code(reduction) != 0
        input, target, suffix = self.dense(input), self.dense(target), SUFFIX[input.dtype]
        loss = self.empty(() if reduced else input.shape, input.dtype)
        if not loss.size:
            return loss
        factor = np.float64(1.0 if reduction != "mean" else 1.0 / input.size if input.size else math.nan)
        blocks = _blocks(input.size)
        partial = self.empty((blocks,), _FLOAT64) if reduced and blocks > 1 else None
        self.launch("error_loss", f"error_loss_{suffix}", (blocks, 1), (THREADS, 1, 1), loss, partial, input, target,
                    squared, reduced, factor, input.size)
        if partial is not None:
            self.launch("error_loss", f"error_loss_finish_{suffix}", (1, 1), (THREADS, 1, 1), loss, partial, factor,
                        blocks)
        return loss

    def _error_loss_backward(self, grad_output: DeviceArray, input: DeviceArray, target: DeviceArray, squared: bool,
                             reduction: str) -> DeviceArray:
        reduced = reduction_code(reduction) != 0
        grad_output, input, target = self.dense(grad_output), self.dense(input), self.dense(target)
        grad_input = self.empty(input.shape, input.dtype)
        factor = (2.0 if squared else 1.0) / (max(input.size, 1) if reduction == "mean" else 1)
        self.launch_each("error_loss", f"error_loss_backward_{SUFFIX[input.dtype]}", input.size, grad_input,
                         grad_output, input, target, squared, reduced, input.dtype.type(factor), input.size)
        return grad_input


def reduction_code(reduction: str) -> int:
    """The number of a reduction in cuda/loss.cu; ``ValueError`` for what is none."""
    try:
        return REDUCTION[reduction]
    except KeyError:
        raise reduction_error(reduction) from None


def _classes(shape: tuple[int, ...]) -> _Classes:
    axis = class_axis(len(shape))
    return _Classes(shape[axis], math.prod(shape[axis + 1:]), math.prod(shape[:axis] + shape[axis + 1:]))


def _smoothing(label_smoothing: float, classes: _Classes) -> tuple[np.float64, np.float64]:
    """Label smoothing, and the share of each class in it."""
    return np.float64(label_smoothing), np.float64(label_smoothing / max(classes.C, 1))


def _blocks(count: int) -> int:
    """How many blocks sum up ``count`` numbers."""
    return 1 if count <= _ROUNDS * THREADS else min(-(-count // (WORK * THREADS)), BLOCKS)
