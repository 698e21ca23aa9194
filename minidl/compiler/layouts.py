"""Layouts that are kept: images that stay in the lanes of vectors from call to call, weights that stay packed from one
repetition of a plan to the next.

A convolution with ReLU and pooling that computes with an image per lane turns its images round, pixel by pixel, and its
results back.  Where nobody needs the way back (the codes are read by no one), and the result is read by nothing but
convolutions of the same kind, it stays turned round between them:

    conv2d_relu_max_pool2d -> conv2d_relu_max_pool2d -> linear   becomes   conv2d_relu_max_pool2d_lanes, twice

The first is given images as they lie, (N, C, H, W), the last gives them back so; between them lie (vectors, C, H, W,
lanes).  What is left alone is as it was: a result that is returned, used otherwise or changed in place, a shape for
which the device denies ``can_keep_conv2d_lanes``.  The bits are those of the calls that are replaced.

    conv2d    becomes    conv2d_kept

where no call of the plan writes to the weight: what a kernel makes of it is kept, and made again when the weight has
changed between two repetitions.  A transformed weight that need not be made lets Winograd's kernel win for fewer
pixels; else the bits are the same.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from minidl._ext.storage import Storage
from minidl.compiler.recording import Place, Recorded, Recording
from minidl.compiler.use import Readers, Root, moved, places_in, root, tried_call, writes_to

_NAME = "conv2d_relu_max_pool2d"


class Layouts:
    """The calls of a recording after fusion, with layouts kept between them where the backend can."""

    def __init__(self, record: Recording, calls: list[Recorded], kept: list[Place], backend: Any) -> None:
        self.to: dict[Root, int] = {}
        self.calls = list(calls)
        if hasattr(backend, "can_keep_conv2d_lanes"):
            self._keep_lanes(record, kept, backend)
        if hasattr(backend, "kept_conv2d_weights"):
            self._keep_weights(record, backend)
        self.calls = [dataclasses.replace(call, arguments=self.moved(call.arguments),
                                          keywords=self.moved(call.keywords)) for call in self.calls]

    def moved(self, value: Any) -> Any:
        """``value`` with the places that results have now."""
        return moved(value, self.to)

    def _keep_lanes(self, record: Recording, kept: list[Place], backend: Any) -> None:
        calls = list(self.calls)
        readers = Readers(calls, kept)
        chosen = [number for number, call in enumerate(calls) if _can_stay(call, readers, backend)]
        stays = {number for number in chosen if _only_read_by(number, chosen, calls, readers)}
        inside: dict[Place, Place] = {}  # result as it was -> as it is kept
        for number in chosen:
            input, weight, bias, geometry = calls[number].arguments
            made = tried_call(record, f"{_NAME}_lanes", getattr(backend, f"{_NAME}_lanes"), (
                inside.get(input, input), weight, bias, geometry, input in inside, number in stays))
            self.calls[number] = made
            output = calls[number].result[0]
            if number in stays:
                inside[output] = made.result
            else:
                self.to[root(output)] = made.result.number

    def _keep_weights(self, record: Recording, backend: Any) -> None:
        numbers = [number for number, call in enumerate(self.calls) if self._has_constant_weight(call, record)]
        weights = []
        for number in numbers:
            _, weight, _, geometry = self.calls[number].arguments
            weights.append((record.outside[weight.number], record.outside_arrays[weight], geometry))
        for number, kept in zip(numbers, backend.kept_conv2d_weights(weights), strict=True):
            if kept is not None:
                input, _, bias, _ = self.calls[number].arguments
                made = tried_call(record, "conv2d_kept", backend.conv2d_kept, (input, bias, kept))
                self.to[root(self.calls[number].result)] = made.result.number
                self.calls[number] = made

    def _has_constant_weight(self, call: Recorded, record: Recording) -> bool:
        if call.name != "conv2d" or call.keywords:
            return False
        input, weight = call.arguments[:2]
        return (input.dtype == np.float32 and isinstance(weight, Place) and weight.kind == "outside"
                and isinstance(record.outside[weight.number], Storage) and not writes_to(self.calls, {root(weight)}))


def _can_stay(call: Recorded, readers: Readers, backend: Any) -> bool:
    return (call.name == _NAME and readers.of(call.result[1]) == []
            and bool(backend.can_keep_conv2d_lanes(call.arguments[3])))


def _only_read_by(number: int, chosen: list[int], calls: list[Recorded], readers: Readers) -> bool:
    """Whether all that is done with the result is to convolve it, as images, in calls of the same kind."""
    output = calls[number].result[0]
    numbers = readers.of(output)
    return bool(numbers) and all(
        each in chosen and calls[each].arguments[0] == output and root(output) not in map(
            root, places_in((calls[each].arguments[1:], calls[each].keywords))) for each in numbers or [])
