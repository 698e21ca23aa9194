"""The end of a classifier in a recording, which a device may do in one call: forward, loss, and all gradients.

    linear -> relu -> ... -> linear -> cross_entropy,
    and cross_entropy_backward -> linear_backward_* -> relu_backward -> ...           becomes  perceptron

From row to row of a batch all of it is independent but for the gradients of weights, so that nothing between has to be
written where others read it.  It is taken where a recording shows that nobody else does, that nothing writes to what is
read meanwhile, and that the gradient of the loss is 1; the device says with ``can_fuse_perceptron`` what it takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from minidl.compiler.recording import Place, Recorded
from minidl.compiler.use import Readers, places_in, root, writes_to

_BACKWARD = ("linear_backward_input", "linear_backward_weight", "linear_backward_bias")


@dataclasses.dataclass
class Step:
    """A Linear by the numbers of its calls, with the ReLU before it; -1 where there is none."""

    linear: int
    input: int
    weight: int
    bias: int
    relu: int = -1
    unrelu: int = -1


@dataclasses.dataclass
class Chain:
    """The calls of a chain, by their numbers: its layers from the first to the last."""

    loss: int
    backward: int
    one: int
    steps: list[Step]

    def gone(self) -> set[int]:
        """All calls but that of the loss."""
        numbers = {self.backward, self.one}
        for step in self.steps:
            numbers |= set(vars(step).values())
        return numbers - {-1}


def found_chains(calls: list[Recorded], kept: list[Place], can_fuse: Callable[..., bool]) -> list[Chain]:
    """The chains that end in a call of ``cross_entropy``."""
    readers = Readers(calls, kept)
    made = {root(place): number for number, call in enumerate(calls) for place in places_in(call.result)}
    chains = []
    for number, call in enumerate(calls):
        if call.name == "cross_entropy":
            chain = _chain(number, calls, readers, made)
            if chain is not None and _undisturbed(chain, calls) and can_fuse(*_sizes(chain, calls)):
                chains.append(chain)
    return chains


def _sizes(chain: Chain, calls: list[Recorded]) -> tuple[int, list[int], Any]:
    """Rows, widths and dtype."""
    first = calls[chain.steps[0].linear].arguments[0]
    widths = [first.shape[1], *(calls[step.linear].result.shape[1] for step in chain.steps)]
    return first.shape[0], widths, first.dtype


def _chain(number: int, calls: list[Recorded], readers: Readers, made: dict[Any, int]) -> Chain | None:
    """The longest chain that ends in this loss."""
    predictions, target, weight, _, reduction, smoothing = calls[number].arguments
    if weight is not None or smoothing or reduction == "none" or len(predictions.shape) != 2:
        return None
    if not isinstance(target, Place) or target.dtype.kind not in "iu":
        return None
    back: int | None = None
    for place in calls[number].result[1:]:
        found = readers.only(place, "cross_entropy_backward")
        if not found or back not in (None, found["cross_entropy_backward"]):
            return None
        back = found["cross_entropy_backward"]
    if back is None or calls[back].arguments[1:3] != calls[number].result[1:]:
        return None
    one = made.get(root(calls[back].arguments[0]), -1)
    if one < 0 or calls[one].name != "full" or calls[one].arguments[1] != 1:
        return None
    chain = Chain(number, back, one if readers.only(calls[one].result, "cross_entropy_backward") else -1, [])
    output, grad, reads = predictions, calls[back].result, {"cross_entropy"}
    while (step := _step(output, grad, reads, calls, readers, made)) is not None:
        chain.steps.insert(0, step)
        before = _relu(step, calls, readers, made)
        if before is None:
            break
        relu, unrelu = before
        output, grad, reads = calls[relu].arguments[0], calls[unrelu].result, {"relu"}
        if _step(output, grad, reads, calls, readers, made) is None:
            break
        step.relu, step.unrelu = relu, unrelu
    return chain if chain.steps else None


def _step(output: Any, grad: Any, reads: set[str], calls: list[Recorded], readers: Readers,
          made: dict[Any, int]) -> Step | None:
    """The Linear that made ``output``, if only ``reads`` reads that and only its own gradients read ``grad``."""
    number = made.get(root(output), -1)
    if number < 0 or calls[number].name != "linear" or calls[number].result != output:
        return None
    if set(readers.only(output, *reads) or {}) != reads:
        return None
    input, weight, bias = calls[number].arguments
    found = readers.only(grad, *_BACKWARD)
    if not found or len(input.shape) != 2 or ("linear_backward_bias" in found) != (bias is not None):
        return None
    wanted = {"linear_backward_input": (grad, weight), "linear_backward_weight": (grad, input),
              "linear_backward_bias": (grad,)}
    if "linear_backward_weight" not in found or any(calls[n].arguments != wanted[name] for name, n in found.items()):
        return None
    return Step(number, *(found.get(name, -1) for name in _BACKWARD))


def _relu(step: Step, calls: list[Recorded], readers: Readers, made: dict[Any, int]) -> tuple[int, int] | None:
    """The ReLU before a Linear and the call of its gradient, if nobody else reads what lies between."""
    input = calls[step.linear].arguments[0]
    relu = made.get(root(input), -1)
    if relu < 0 or calls[relu].name != "relu" or calls[relu].result != input or step.input < 0:
        return None
    found = readers.only(input, "linear", "linear_backward_weight", "relu_backward")
    unrelu = (readers.only(calls[step.input].result, "relu_backward") or {}).get("relu_backward", -1)
    if found is None or unrelu < 0 or found.get("relu_backward") != unrelu:
        return None
    return (relu, unrelu) if calls[unrelu].arguments == (calls[step.input].result, input) else None


def _undisturbed(chain: Chain, calls: list[Recorded]) -> bool:
    """Whether nothing writes to what the chain reads, from its first call to its last."""
    numbers = chain.gone() | {chain.loss}
    read = {root(place) for step in chain.steps for place in places_in(calls[step.linear].arguments)}
    read |= {root(place) for place in places_in(calls[chain.loss].arguments)}
    return not writes_to(calls[min(numbers) : max(numbers) + 1], read)
