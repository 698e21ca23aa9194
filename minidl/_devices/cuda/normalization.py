"""Batch normalization and dropout on the GPU: cuda/normalization.cu."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minidl._devices.reference.normalization import check_batch_norm
from minidl._ext.device_array import DeviceArray, Layout

from .arrays import SUFFIX, ArraysCUDA
from .teams import Plan, plan

_FLOAT64 = np.dtype(np.float64)


class _Channels(NamedTuple):
    """An input (N, C, inner) as C channels of ``numbers`` each, and how threads are spread over them."""

    how: Plan
    arguments: tuple[Any, ...]  # lanes, columns, the layout of a channel's numbers, C, inner, count
    numbers: int


class NormalizationCUDA(ArraysCUDA):
    """Batch normalization and dropout, for float32 and float64."""

    def batch_norm(self, input: DeviceArray, weight: DeviceArray | None, bias: DeviceArray | None,
                   running_mean: DeviceArray | None, running_var: DeviceArray | None, training: bool, momentum: float,
                   eps: float) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
        check_batch_norm(input, weight, bias, running_mean, running_var, training)
        _same_dtypes(input, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
        input, C, suffix = self.dense(input), input.shape[1], SUFFIX[input.dtype]
        output = self.empty(input.shape, input.dtype)
        mean, rstd = self.empty((C,), input.dtype), self.empty((C,), input.dtype)
        if not C:
            return output, mean, rstd
        channels = _channels(input)
        statistics: list[DeviceArray | None] = [None, None]
        if training and channels.numbers:
            statistics = [self.empty((channels.how.splits, C), _FLOAT64) for _ in range(2)]
            self._launch(f"batch_norm_statistics_{suffix}", channels, *statistics, input)
        running = [self._dense_or_none(each) for each in (running_mean, running_var)]
        self._launch(f"batch_norm_{suffix}", channels, output, mean, rstd, *running, *statistics, input,
                     self._dense_or_none(weight), self._dense_or_none(bias), np.float64(momentum), np.float64(eps),
                     training, channels.how.splits if statistics[0] is not None else 0)
        for given, made in zip((running_mean, running_var), running, strict=True):
            if training and made is not given:
                self.copy_(given, made)
        return output, mean, rstd

    def batch_norm_backward(self, grad_output: DeviceArray, input: DeviceArray, weight: DeviceArray | None,
                            mean: DeviceArray, rstd: DeviceArray,
                            training: bool) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
        grad_output, input, suffix = self.dense(grad_output), self.dense(input), SUFFIX[input.dtype]
        mean, rstd, C = self.dense(mean), self.dense(rstd), input.shape[1]
        grad_input = self.empty(input.shape, input.dtype)
        grad_weight, grad_bias = self.empty((C,), input.dtype), self.empty((C,), input.dtype)
        if C:
            channels = _channels(input)
            sums = self.empty((2, channels.how.splits, C), _FLOAT64)
            self._launch(f"batch_norm_backward_sums_{suffix}", channels, sums, grad_output, input, mean, rstd)
            self._launch(f"batch_norm_backward_{suffix}", channels, grad_input, grad_weight, grad_bias, sums,
                         grad_output, input, self._dense_or_none(weight), mean, rstd, training, channels.how.splits)
        return grad_input, grad_weight, grad_bias

    def _launch(self, kernel: str, channels: _Channels, *arguments: Any) -> None:
        how = channels.how
        self.launch("normalization", kernel, (how.blocks, how.splits), (how.threads, 1, 1), *arguments,
                    *channels.arguments)

    def _dense_or_none(self, x: DeviceArray | None) -> DeviceArray | None:
        return None if x is None else self.dense(x)

    def dropout_apply(self, input: DeviceArray, mask: DeviceArray, scale: float) -> DeviceArray:
        input, mask = self.dense(input), self.dense(mask)
        output = self.empty(input.shape, input.dtype)
        self.launch_each("normalization", f"dropout_apply_{SUFFIX[input.dtype]}", input.size, output, input, mask,
                         input.dtype.type(scale), input.size)
        return output


def _channels(x: DeviceArray) -> _Channels:
    N, C, inner = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    size = x.itemsize
    numbers = Layout((N, inner), ((C * inner * size, size), size)) if N * inner else Layout((), ((), size))
    how = plan(C, N * inner, inner == 1)
    return _Channels(how, (how.lanes, how.columns, numbers, C, inner, N * inner), N * inner)


def _same_dtypes(input: DeviceArray, **others: DeviceArray | None) -> None:
    for name, array in others.items():
        if array is not None and array.dtype != input.dtype:
            raise RuntimeError(f"batch_norm: {name} is {array.dtype} and the input {input.dtype}; on a GPU both must "
                               f"be the same: convert the module, for example with .to(minidl.{input.dtype})")
