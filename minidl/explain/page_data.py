"""What the page is given: a layer or a network, taken down while it computes, as plain lists and base64.

Here too every array has its batch first: ``N`` images, each with whatever shape a layer makes of it.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from minidl._tensor import Tensor
from minidl.autograd import no_grad
from minidl.nn import AvgPool2d, Conv2d, MaxPool2d, Module
from minidl.nn.conv import ConvNd
from minidl.nn.functional import softmax
from minidl.nn.sliding import per_side

MOST_BYTES = 1_300_000  # of all arrays together; base64 makes them a third larger, and a page stays below 2 MB
_MOST_IMAGES = 16
_LEAST_CHANNELS = 4     # a layer's maps are thinned out only when this many do not fit


class Arrays:
    """The arrays of a page, each stored once; what is kept in other places is its number."""

    def __init__(self) -> None:
        self.stored: list[np.ndarray] = []
        self.bytes = 0
        self._known: dict[tuple[Any, ...], int] = {}

    def add(self, array: np.ndarray) -> int:
        """The number of this array, float32 or float64."""
        array = np.ascontiguousarray(array)
        key = array.shape, array.dtype.char, hash(array.tobytes())
        if key not in self._known:
            self._known[key] = len(self.stored)
            self.stored.append(array)
            self.bytes += array.nbytes
        return self._known[key]

    def as_json(self) -> list[dict[str, Any]]:
        return [{
            "shape": list(array.shape),
            "type": "f8" if array.dtype == np.float64 else "f4",
            "data": base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode("ascii"),
        } for array in self.stored]


class Call:
    """One call of a layer without layers inside: its path, the layer, what it got and what it gave."""

    def __init__(self, path: str, layer: Module, taken: np.ndarray | None, given: np.ndarray) -> None:
        self.path, self.layer, self.taken, self.given = path, layer, taken, given


def layer_bytes(layer: Conv2d, images: np.ndarray, output: np.ndarray) -> int:
    """What a layer and its images take on a page."""
    return copied(layer.weight).nbytes + images.nbytes + output.nbytes


def layer_data(path: str, layer: Conv2d, images: np.ndarray, output: np.ndarray, arrays: Arrays) -> dict[str, Any]:
    """A convolution with its weights, its input (N, C, H, W) and what minidl made of it (N, OC, OH, OW)."""
    return {
        "path": path,
        "text": repr(layer),
        "settings": {
            "C": layer.in_channels, "OC": layer.out_channels, "groups": layer.groups, "bias": layer.bias is not None,
            "kernel": list(layer.kernel_size), "stride": list(layer.stride), "dilation": list(layer.dilation),
            "padding": layer.padding if isinstance(layer.padding, str) else list(layer.padding),
            "mode": layer.padding_mode, "size": list(images.shape[2:]),
        },
        "weight": arrays.add(copied(layer.weight)),
        "bias": None if layer.bias is None else arrays.add(copied(layer.bias)),
        "input": arrays.add(images),
        "output": arrays.add(output),
    }


def copied(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor as they are now."""
    return tensor.detach().cpu().numpy().copy()


def computed(model: Module, input: Tensor) -> tuple[np.ndarray | None, list[Call]]:
    """The output of ``model``, as in evaluation, and the calls of its innermost layers in their order.

    The output is None where it is no tensor.  The model is left as it was: no hooks, every module in its mode.
    """
    calls: list[Call] = []
    counts: dict[str, int] = {}

    def take_down(path: str) -> Any:
        def hook(layer: Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                counts[path] = counts.get(path, 0) + 1
                name = path if counts[path] == 1 else f"{path} ({counts[path]})"
                calls.append(Call(name, layer, before.pop(path, None), copied(output)))

        return hook

    # What a layer got is copied before it runs: it may work in place.
    before: dict[str, np.ndarray] = {}

    def take_input(path: str) -> Any:
        def hook(layer: Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor):
                before[path] = copied(args[0])

        return hook

    modes = [(module, module.training) for module in model.modules()]
    handles = []
    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                path = name or type(module).__name__
                handles += [module.register_forward_pre_hook(take_input(path)),
                            module.register_forward_hook(take_down(path))]
        model.eval()
        with no_grad():
            output = model(input)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return (copied(output) if isinstance(output, Tensor) else None), calls


def network_data(model: Module, images: np.ndarray, output: np.ndarray | None, calls: list[Call], classes: Any,
                 arrays: Arrays) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """The network's steps, its convolutions that fit on the page too, and how many images do.

    Between two layers the network may compute in its own ``forward``: what it did shows as a step of its own.
    """
    found = _steps(images, output, calls)
    room = 3 * MOST_BYTES // 4
    most = max(room // (4 * len(found)), 1)  # values of one step, for one image
    thinned = [_thinned(step.pop("array"), most) for step in found]
    per_image = sum(array[:1].nbytes for array, _ in thinned)
    count = max(min(len(images), _MOST_IMAGES, room // per_image), 1)
    steps = []
    for step, (array, every) in zip(found, thinned, strict=True):
        kept = array.shape[1] if array.ndim == 4 else None
        step.update(values=arrays.add(array[:count]), every=every, kept=kept, note=_note(step["shape"], kept, every))
        steps.append(step)
    layers: list[dict[str, Any]] = []
    for step in steps:
        call = step.pop("call")
        step["layer"] = None
        if call is None or not isinstance(call.layer, Conv2d) or call.taken is None or call.taken.ndim != 4:
            continue
        got, made = call.taken[:count], call.given[:count]
        if arrays.bytes + layer_bytes(call.layer, got, made) <= MOST_BYTES:
            step["layer"] = len(layers)
            layers.append(layer_data(call.path, call.layer, got, made, arrays))
    probabilities = None
    if classes is not None and output is not None and output.shape[1:] == (len(classes),):
        from minidl.ops.creation import from_numpy

        probabilities = arrays.add(copied(softmax(from_numpy(output[:count]), 1)))
    names = None if classes is None else [str(name) for name in classes]
    return {"steps": steps, "probabilities": probabilities, "classes": names}, layers, count


def _steps(images: np.ndarray, output: np.ndarray | None, calls: list[Call]) -> list[dict[str, Any]]:
    """A step for the image, for every call, and for what was computed between them."""
    N = len(images)
    steps = [_step("input", "input", images, None, images)]
    seen = [images]

    def known(array: np.ndarray) -> bool:
        return any(array.shape == other.shape and np.array_equal(array, other, equal_nan=True) for other in seen)

    for call in calls:
        if call.given.ndim < 1 or len(call.given) != N:
            continue  # no batch: its numbers belong to no image
        taken = call.taken
        if taken is not None and len(taken) == N and not known(taken):
            steps.append(_step(f"before {call.path}", "between", taken, None, seen[-1]))
            seen.append(taken)
        follows = taken is not None and taken.shape == seen[-1].shape and np.array_equal(taken, seen[-1])
        step = _step(call.path, type(call.layer).__name__, call.given, call, call.given if taken is None else taken)
        step["window"] = _window(call) if follows else None
        steps.append(step)
        seen.append(call.given)
    if output is not None and output.ndim and len(output) == N and not known(output):
        steps.append(_step("output", "between", output, None, seen[-1]))
    return steps


def _step(path: str, kind: str, array: np.ndarray, call: Call | None, taken: np.ndarray) -> dict[str, Any]:
    parameters = 0 if call is None else sum(parameter.numel() for parameter in call.layer.parameters())
    text = {"input": "the image", "between": "forward"}.get(kind, "") if call is None else repr(call.layer)
    return {"path": path, "kind": kind, "text": " ".join(text.split()), "shape": list(array.shape[1:]),
            "from": list(taken.shape[1:]), "parameters": parameters, "window": None, "call": call,
            "array": array.astype(np.float32, copy=False)}


def _window(call: Call) -> dict[str, Any] | None:
    """Which pixels of its input a pixel of the output comes from, where a layer keeps its channels apart."""
    layer, taken = call.layer, call.taken
    if taken is None or taken.ndim != 4 or isinstance(layer, ConvNd):
        return None
    if isinstance(layer, (MaxPool2d, AvgPool2d)):
        options = {"kernel": layer.kernel_size, "stride": layer.stride, "padding": layer.padding,
                   "dilation": getattr(layer, "dilation", 1)}
    elif taken.shape == call.given.shape:
        options = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
    else:
        return None
    return {name: list(per_side(value, 2)) for name, value in options.items()}


def _thinned(array: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """``array`` with at most ``most`` numbers per image, and of how many pixels one is left in a row and a column.

    Channels go first, those at the end; then pixels, in rows and columns alike.
    """
    if array[0].size <= most:
        return array, 1
    if array.ndim != 4:
        return array.reshape(len(array), -1)[:, :most], 1
    C, H, W = array.shape[1:]
    least, every = min(C, _LEAST_CHANNELS), 1
    while least * -(-H // every) * -(-W // every) > most and every < max(H, W):
        every += 1
    array = array[:, :, ::every, ::every]
    return array[:, :max(most // array[0, 0].size, 1)], every


def _note(shape: list[int], kept: int | None, every: int) -> str:
    notes = []
    if kept is not None and kept < shape[0]:
        notes.append(f"The first {kept} of {shape[0]} channels are on this page.")
    if every > 1:
        notes.append(f"One pixel in {every} rows and {every} columns is shown.")
    return " ".join(notes)
