"""Calls of a recording that a device can do in one pass: convolution, ReLU and 2x2 max pooling, and the way back.

    conv2d -> relu -> max_pool2d                                     becomes  conv2d_relu_max_pool2d
    max_pool2d_backward -> relu_backward -> conv2d_backward_*        becomes  conv2d_relu_max_pool2d_backward
    conv2d -> relu                                                   becomes  conv2d_relu

What lies between is then never written to memory, and the pooling keeps one byte per window instead of an index.  A
recording tells who reads what, so that this is done only where nobody else reads what is left out, where nothing writes
to an argument meanwhile, and where the device says ``can_fuse_conv2d``; the bits are those of the single calls.

Where the device has it, the end of a classifier becomes one call too (``chains.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler.chains import Chain, found_chains
from minidl.compiler.recording import Place, Recorded, Recording
from minidl.compiler.use import Readers, Root, moved, places_in, root, tried_call, writes_to


@dataclasses.dataclass
class Block:
    """The calls around one convolution, by their numbers; -1 where there is none."""

    conv: int
    relu: int
    pool: int = -1
    unpool: int = -1
    unrelu: int = -1
    input: int = -1
    weight: int = -1
    bias: int = -1

    def forward(self) -> list[int]:
        """The calls of the forward pass."""
        return [number for number in (self.conv, self.relu, self.pool) if number >= 0]

    def backward(self) -> list[int]:
        """The calls of the backward pass."""
        return [number for number in (self.unpool, self.unrelu, self.input, self.weight, self.bias) if number >= 0]


def found_blocks(calls: list[Recorded], kept: list[Place], can_fuse: Callable[[Any, bool], bool]) -> list[Block]:
    """The convolutions whose surroundings allow it."""
    readers = Readers(calls, kept)
    blocks = []
    for number, call in enumerate(calls):
        if call.name != "conv2d" or not _float32(call.arguments[:3]):
            continue
        block = _block(number, calls, readers)
        if block is not None and can_fuse(call.arguments[3], block.input >= 0) and _undisturbed(block, calls):
            blocks.append(block)
    return blocks


def _float32(arguments: Any) -> bool:
    return all(isinstance(each, Place) and each.dtype == np.float32 for each in arguments)


def _block(number: int, calls: list[Recorded], readers: Readers) -> Block | None:
    follow = readers.only(calls[number].result, "relu")
    if not follow:
        return None
    block = Block(number, follow["relu"])
    activated = calls[block.relu].result
    after = readers.only(activated, "max_pool2d", "relu_backward")
    if after is None or "max_pool2d" not in after or not calls[after["max_pool2d"]].arguments[1].halves:
        return block
    block.pool = after["max_pool2d"]
    back = readers.only(calls[block.pool].result[1], "max_pool2d_backward")
    if back is None:
        return Block(number, block.relu)
    if not back and "relu_backward" not in after:
        return block
    return _with_backward(block, calls, readers, back.get("max_pool2d_backward", -1), after.get("relu_backward", -1))


def _with_backward(block: Block, calls: list[Recorded], readers: Readers, unpool: int, unrelu: int) -> Block:
    """The block with its way back; without the pooling where the way back is another one."""
    conv, without = calls[block.conv], Block(block.conv, block.relu)
    if unpool < 0 or unrelu < 0 or readers.only(calls[unpool].result, "relu_backward") != {"relu_backward": unrelu}:
        return without
    wanted = readers.only(calls[unrelu].result, "conv2d_backward_input", "conv2d_backward_weight",
                          "conv2d_backward_bias")
    if wanted is None or not {"conv2d_backward_weight", "conv2d_backward_bias"} <= set(wanted):
        return without
    block.unpool, block.unrelu = unpool, unrelu
    block.input = wanted.get("conv2d_backward_input", -1)
    block.weight, block.bias = wanted["conv2d_backward_weight"], wanted["conv2d_backward_bias"]
    if calls[block.weight].arguments[1:] != (conv.arguments[0], conv.arguments[3]):
        return without
    if block.input >= 0 and calls[block.input].arguments[1:] != (conv.arguments[1], conv.arguments[3]):
        return without
    return block


def _undisturbed(block: Block, calls: list[Recorded]) -> bool:
    """Whether nothing writes to the convolution's arguments before the last call that reads them."""
    arguments = {root(place) for place in places_in(calls[block.conv].arguments)}
    return not writes_to(calls[block.conv : max(block.forward() + block.backward()) + 1], arguments)


class Fusion:
    """The calls of a recording with the blocks that a backend can fuse put together."""

    def __init__(self, record: Recording, calls: list[Recorded], kept: list[Place], backend: Any) -> None:
        self.record, self.backend = record, backend
        self.calls = list(calls)
        self.to: dict[Root, int] = {}
        gone: set[int] = set()
        if hasattr(backend, "can_fuse_conv2d"):
            for block in found_blocks(calls, kept, backend.can_fuse_conv2d):
                gone |= self._put_together(block, calls)
        if hasattr(backend, "can_fuse_perceptron"):
            for chain in found_chains(calls, kept, backend.can_fuse_perceptron):
                gone |= self._put_chain_together(chain, calls)
        self.calls = [
            dataclasses.replace(call, arguments=moved(call.arguments, self.to), keywords=moved(call.keywords, self.to),
                                result=moved(call.result, self.to))
            for number, call in enumerate(self.calls) if number not in gone]

    def moved(self, value: Any) -> Any:
        """``value`` with the places that results have now."""
        return moved(value, self.to)

    def _put_together(self, block: Block, calls: list[Recorded]) -> set[int]:
        """Let the last call of the forward pass and the first of the way back stand for all; returns the others."""
        input, weight, bias, geometry = calls[block.conv].arguments
        gone = set(block.forward() + block.backward())
        if block.pool < 0:
            made = self._call("conv2d_relu", (input, weight, bias, geometry), block.relu, calls)
            self._stands_for(made.result, calls[block.relu].result)
            return gone - {block.relu}
        made = self._call("conv2d_relu_max_pool2d", (input, weight, bias, geometry), block.pool, calls)
        output, codes = made.result
        self._stands_for(output, calls[block.pool].result[0])
        gone.discard(block.pool)
        if block.unpool >= 0:
            first = min(number for number in (block.input, block.weight, block.bias) if number >= 0)
            back = self._call("conv2d_relu_max_pool2d_backward", (
                calls[block.unpool].arguments[0], codes, input, weight, geometry, block.input >= 0), first, calls)
            for place, number in zip(back.result, (block.input, block.weight, block.bias), strict=True):
                if number >= 0:
                    self._stands_for(place, calls[number].result)
            gone.discard(first)
        return gone

    def _put_chain_together(self, chain: Chain, calls: list[Recorded]) -> set[int]:
        """Let the call of the loss stand for the chain; returns the others."""
        layers = [calls[step.linear].arguments for step in chain.steps]
        _, target, _, ignore_index, reduction, _ = calls[chain.loss].arguments
        first = chain.steps[0]
        made = self._call("perceptron", (
            layers[0][0], tuple(weight for _, weight, _ in layers), tuple(bias for *_, bias in layers), target,
            ignore_index, reduction, first.input >= 0), chain.loss, calls)
        loss, grad_input, *grads = made.result
        self._stands_for(loss, calls[chain.loss].result[0])
        numbers = [first.input, *(number for step in chain.steps for number in (step.weight, step.bias))]
        for place, number in zip((grad_input, *grads), numbers, strict=True):
            if number >= 0:
                self._stands_for(place, calls[number].result)
        return chain.gone()

    def _stands_for(self, place: Place, before: Place) -> None:
        self.to[root(before)] = place.number

    def _call(self, name: str, arguments: tuple[Any, ...], number: int, calls: list[Recorded]) -> Recorded:
        """Put a device function in place of a call."""
        self.calls[number] = tried_call(self.record, name, getattr(self.backend, name), arguments)
        return self.calls[number]
