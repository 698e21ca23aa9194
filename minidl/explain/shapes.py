"""``explain.shape``: how large the output is, why, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minidl import geometry
from minidl.explain.kinds import Case, case
from minidl.explain.text import Text, by
from minidl.geometry import Window

_LETTERS = {"long": "L", "deep": "D", "high": "H", "wide": "W"}
_NOUNS = {"long": "position", "deep": "slice", "high": "row", "wide": "column"}


@dataclass(frozen=True)
class Side:
    """One side of the output.

    ``formula`` is the rule in words, ``numbers`` the same with the numbers put in, ``steps`` what follows from it line
    by line.  ``left_over`` pixels at the end of the padded input are seen by no window, because the stride does not
    divide.  ``receptive_field`` is how many pixels of the input, from the first to the last, one output number can see.
    """

    name: str
    size: int
    output: int
    formula: str
    numbers: str
    steps: tuple[str, ...]
    left_over: int
    receptive_field: int


@dataclass(frozen=True, repr=False)
class Shape(Text):
    """The derivation of an output's shape; it prints as such.

    ``parameters`` counts weights and biases, ``multiply_adds`` those of one forward pass over the whole batch (0 for
    pooling, which multiplies nothing), ``im2col_bytes`` the memory of the column matrices of the whole batch (0 where
    there are none).
    """

    title: str
    op: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    weight_shape: tuple[int, ...] | None
    sides: tuple[Side, ...]
    parameters: int
    multiply_adds: int
    im2col_bytes: int
    costs: tuple[tuple[str, str], ...]

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """Pixels of the input along each side that one output number can see."""
        return tuple(side.receptive_field for side in self.sides)

    def lines(self) -> list[str]:
        lines = [self.title, f"input   {self.input_shape}"]
        if self.weight_shape is not None:
            lines.append(f"weight  {self.weight_shape}")
        for side in self.sides:
            letter = _LETTERS[side.name]
            lines += ["", f"O{letter} = {side.formula}",
                      f"   = {side.numbers}" + ("" if side.numbers == str(side.output) else f" = {side.output}")]
            lines += [f"     {step}" for step in side.steps]
        lines += ["", f"output  {self.output_shape}", ""]
        width = max(len(name) for name, _ in self.costs)
        return lines + [f"{name.ljust(width)}  {text}" for name, text in self.costs]


def shape(layer_or_op: Any, input_shape: Sequence[int], **options: Any) -> Shape:
    """The shape that a convolution or pooling gives to its output, derived step by step with the numbers put in.

    ``layer_or_op`` is a layer (minidl's or PyTorch's), or a name with the layer's options by keyword:

        explain.shape(nn.Conv2d(3, 6, 5, padding=2), (1, 3, 32, 32))
        explain.shape("conv3d", (1, 3, 16, 32, 32), out_channels=6, kernel_size=5, stride=2)
        explain.shape("max_pool1d", (8, 100), kernel_size=3, ceil_mode=True)

    The names are conv1d, conv2d, conv3d, conv_transpose1d ..., max_pool1d ..., avg_pool1d ..., adaptive_avg_pool1d ...
    and adaptive_max_pool1d ...; ``input_shape`` is (N, C, L), (N, C, H, W) or (N, C, D, H, W), or without N.  Sizes:
    https://arxiv.org/abs/1603.07285.  The result has ``output_shape``, ``sides``, ``receptive_field``, ``parameters``,
    ``multiply_adds`` and ``im2col_bytes``.

    Raises ``RuntimeError`` for shapes that do not fit, with the formula and its numbers, ``ValueError`` for options
    that contradict each other or a name that is not known, ``TypeError`` for options that are missing or no integers.
    """
    found = case(layer_or_op, input_shape, options)
    sides = tuple(_adaptive_sides(found) if found.sliding is None else
                  [_transposed_side(window, size) for window, size in
                   zip(found.sliding.windows, found.input_shape[-found.sides:], strict=True)]
                  if found.family == "conv_transpose" else
                  [_side(window, found) for window in found.sliding.windows])
    itemsize = getattr(getattr(getattr(layer_or_op, "weight", None), "dtype", None), "itemsize", 4)
    title = layer_or_op if isinstance(layer_or_op, str) else str(layer_or_op)
    if options:
        title += f"({', '.join(f'{name}={value!r}' for name, value in options.items())})"
    parameters, multiply_adds, im2col_bytes, costs = _costs(found, sides, itemsize)
    return Shape(title, found.op, found.input_shape, found.output_shape, found.weight_shape, sides, parameters,
                 multiply_adds, im2col_bytes, tuple(costs))


def _side(window: Window, found: Case) -> Side:
    """One side of a convolution or pooling."""
    letter, (name, size, kernel, stride, before, after, dilation, output) = _LETTERS[window.side], window
    pooled = "pool" in found.op
    words = (letter, "padding", "padding", f"K{letter}", "stride", "dilation")
    if pooled:
        formula = geometry.pool_formula(letter, f"K{letter}", "stride", "padding", "dilation", found.ceil_mode)
        numbers = geometry.pool_formula(size, kernel, stride, before, dilation, found.ceil_mode)
    else:
        formula = geometry.conv_formula(*words)
        numbers = geometry.conv_formula(size, before, after, kernel, stride, dilation)
    span = geometry.kernel_span(kernel, dilation)
    padded = size + before + after
    steps = []
    if before or after:
        steps.append(f"the input with its padding is {before} + {size} + {after} = {padded} {name}")
    if dilation > 1:
        steps.append(f"dilation {dilation} spreads the {kernel} taps of the kernel over {span}")
    end = (output - 1) * stride + span
    left_over = max(padded - end, 0)
    room = padded - span
    if found.ceil_mode and room >= 0 and -(-room // stride) + 1 > output:
        numbers += " - 1"
        steps.append("the last window would begin behind the input, in the padding: it is left out")
    if end > padded:
        steps.append(f"the last window hangs over the end by {end - padded}")
    elif stride > 1 and left_over:
        unseen = max(left_over - after, 0)
        lost = f", {unseen} of the input itself" if after and unseen else ", all of it padding" if after else ""
        steps.append(f"stride {stride} does not divide {padded} - {span} = {room}: {room} = {room // stride} * "
                     f"{stride} + {left_over}, so the last {_counted(left_over, name)} seen by no window{lost}")
    elif stride > 1:
        steps.append(f"stride {stride} divides {padded} - {span} = {room}: nothing is left over at the end")
    if stride > span and output > 1:
        steps.append(f"stride {stride} is more than the {span} that a window covers: between two windows "
                     f"{_counted(stride - span, name)} skipped")
    return Side(name, size, output, formula, numbers, tuple(steps), left_over, span)


def _counted(number: int, side: str) -> str:
    return f"{number} {_NOUNS[side]} is" if number == 1 else f"{number} {_NOUNS[side]}s are"


def _transposed_side(window: Window, size: int) -> Side:
    """One side of a transposed convolution; ``window`` is that of the convolution whose transpose it is."""
    name, output, kernel, stride, padding, _, dilation, _ = window
    letter, span = _LETTERS[name], geometry.kernel_span(kernel, dilation)
    extra = output - geometry.conv_transpose_size(size, kernel, stride, padding, dilation)
    steps = [f"{size} kernels of {f'{kernel} taps over {span}' if dilation > 1 else kernel} are laid down, one every "
             f"{stride}: they cover ({size} - 1) * {stride} + {span} = {(size - 1) * stride + span}"]
    if padding:
        steps.append(f"padding {padding} cuts {padding} off at both ends")
    if extra:
        steps.append(f"output_padding adds {extra} at the end, reached by "
                     f"{'the last kernel where padding cut it off' if padding else 'no kernel'}")
    return Side(name, size, output,
                geometry.conv_transpose_formula(letter, f"K{letter}", "stride", "padding", "dilation",
                                                "output_padding"),
                geometry.conv_transpose_formula(size, kernel, stride, padding, dilation, extra), tuple(steps), 0,
                transposed_field(kernel, stride, dilation))


def transposed_field(kernel: int, stride: int, dilation: int) -> int:
    """Pixels of the input, from the first to the last, that one output of a transposed convolution can see.

    An output pixel is reached by every ``k`` whose place ``k * dilation`` has the pixel's remainder by the stride.
    """
    places = [k * dilation for k in range(kernel)]
    by_remainder = [[place for place in places if place % stride == remainder] for remainder in range(stride)]
    return max((seen[-1] - seen[0]) // stride + 1 for seen in by_remainder if seen)


def _adaptive_sides(found: Case) -> list[Side]:
    """The sides of an adaptive pooling."""
    sides = []
    names = ("deep", "high", "wide")[-found.sides:] if found.sides > 1 else ("long",)
    for name, size, output in zip(names, found.input_shape[-found.sides:], found.output_shape[-found.sides:],
                                  strict=True):
        letter = _LETTERS[name]
        windows = [geometry.adaptive_window(size, output, i) for i in range(output)]
        lengths = sorted({window.stop - window.start for window in windows})
        steps = [f"window i covers the pixels from floor(i * {size} / {output}) to ceil((i + 1) * {size} / {output}): "
                 f"{' or '.join(map(str, lengths))} of them"] if windows else []
        sides.append(Side(name, size, output, f"the size asked for, or {letter} for None", str(output), tuple(steps), 0,
                          max(lengths, default=0)))
    return sides


def _costs(found: Case, sides: tuple[Side, ...], itemsize: int) -> tuple[int, int, int, list[tuple[str, str]]]:
    """Parameters, multiply-adds, bytes of im2col, and the lines about them."""
    field = by([side.receptive_field for side in sides])
    costs = [("receptive field", f"{field} pixels of each channel that it sees" if sides[0].receptive_field
              else "none")]
    if found.weight_shape is None:
        costs.append(("parameters", "0: a pooling has none, and multiplies nothing"))
        return 0, 0, 0, costs
    assert found.sliding is not None
    _, second, *kernel = found.weight_shape
    biases = (found.sliding.C if found.family == "conv_transpose" else found.sliding.OC) if found.bias else 0
    weights = math.prod(found.weight_shape)
    costs.append(("parameters", f"{by(found.weight_shape)} = {weights:,} weights"
                  + (f" + {biases} biases = {weights + biases:,}" if biases else ", no bias")))
    # A tap of a kernel meets every pixel of the smaller end: of a convolution the output, else the input.
    transposed = found.family == "conv_transpose"
    pixels = math.prod(found.input_shape[-found.sides:] if transposed else found.output_shape[-found.sides:])
    multiply_adds = found.images * weights * pixels
    what = "input" if transposed else "output"
    costs.append(("multiply-adds", f"{found.images} * {weights:,} weights * {pixels:,} {what} pixels = "
                                   f"{multiply_adds:,}"))
    rows = found.groups * second * math.prod(kernel)
    im2col_bytes = found.images * rows * pixels * itemsize
    costs.append(("im2col", f"a column matrix of {rows:,} x {pixels:,} for each image: {im2col_bytes:,} bytes"))
    if found.groups > 1:
        inputs, outputs = (size[-found.sides - 1] // found.groups for size in (found.input_shape, found.output_shape))
        costs.append(("groups", f"{found.groups} groups of {inputs} input and {outputs} output channels, which "
                      "see nothing of each other"))
    if found.padding_mode != "zeros":
        costs.append(("padding", f"is filled in the mode {found.padding_mode!r}: it costs a copy of the input"))
    return weights + biases, multiply_adds, im2col_bytes, costs
