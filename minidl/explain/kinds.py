"""What there is to explain: a layer, or the name of an op with options, over an input of some shape.

A layer is known by PyTorch's name of its class and by PyTorch's names of its attributes, so that PyTorch's own layers
can be explained too.  All sizes come from ``minidl.geometry``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minidl import geometry
from minidl.geometry import Sliding


@dataclass(frozen=True)
class Case:
    """One sliding op over one input.

    ``sliding`` has its sizes, of a transposed convolution those of the convolution that it is the transpose of; it is
    None for an adaptive pooling, whose windows have no fixed size.  Shapes are as the user has them, with or without N.
    """

    op: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    sliding: Sliding | None
    weight_shape: tuple[int, ...] | None = None
    groups: int = 1
    bias: bool = False
    ceil_mode: bool = False
    padding_mode: str = "zeros"

    @property
    def sides(self) -> int:
        return int(self.op[-2])

    @property
    def family(self) -> str:
        """``op`` without its number of sides: ``conv``, ``conv_transpose``, ``max_pool``, ..."""
        return self.op[:-2]

    @property
    def images(self) -> int:
        """N, or 1 where the input has none."""
        return self.input_shape[0] if len(self.input_shape) == self.sides + 2 else 1


def case(layer_or_op: Any, input_shape: Sequence[int], options: dict[str, Any]) -> Case:
    """The case of a layer, or of an op such as ``"conv3d"`` with the options of the layer, over ``input_shape``."""
    given = tuple(map(int, input_shape))
    if isinstance(layer_or_op, str):
        op = layer_or_op
        if op not in FAMILIES:
            raise ValueError(f"explain: nothing is known of {op!r}; there are {', '.join(FAMILIES)}")
    else:
        if options:
            raise TypeError(f"explain: a layer has its own options; {', '.join(options)} can only be given with a name")
        op = op_of(layer_or_op)
        options = options_of(layer_or_op, op)
    sides = int(op[-2])
    if len(given) not in (sides + 1, sides + 2):
        axes = ("N, C, L", "N, C, H, W", "N, C, D, H, W")[sides - 1]
        raise RuntimeError(f"{op}: input_shape must be ({axes}), with or without N, got {given}")
    batched = given if len(given) == sides + 2 else (1, *given)
    describe = FAMILIES[op]
    try:
        inspect.signature(describe).bind(op, batched, **options)
    except TypeError as error:
        names = ", ".join(str(parameter) for parameter in list(inspect.signature(describe).parameters.values())[2:])
        raise TypeError(f"explain, {op}: {error}; its options are {names}") from None
    facts = describe(op, batched, **options)
    output_shape = facts.pop("output_shape")
    return Case(op, given, output_shape if len(given) == sides + 2 else output_shape[1:], **facts)


def op_of(layer: Any) -> str:
    """``conv2d`` for a Conv2d.  Raises ``TypeError`` for what slides no window."""
    for kind in type(layer).__mro__:
        if kind.__name__ in CLASSES:
            return CLASSES[kind.__name__]
    raise TypeError(f"explain: {type(layer).__name__} slides no window; there are {', '.join(CLASSES)}")


def options_of(layer: Any, op: str) -> dict[str, Any]:
    """What a layer was made with."""
    names = list(inspect.signature(FAMILIES[op]).parameters)[2:]
    options = {name: getattr(layer, name) for name in names if hasattr(layer, name)}
    if "bias" in options:
        options["bias"] = options["bias"] is not None
    return options


def _conv(op, shape, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
          padding_mode="zeros", in_channels=None):
    weight_shape = (out_channels, _per_group(op, shape, in_channels, out_channels, groups), *_sizes(op, kernel_size))
    sliding = geometry.conv_windows(op, shape, weight_shape, stride, padding, dilation, groups)
    outputs = (window.output for window in sliding.windows)
    return {"sliding": sliding, "weight_shape": weight_shape, "groups": groups, "bias": bias,
            "padding_mode": padding_mode, "output_shape": (sliding.N, sliding.OC, *outputs)}


def _conv_transpose(op, shape, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True,
                    dilation=1, in_channels=None):
    _per_group(op, shape, in_channels, out_channels, groups)
    weight_shape = (shape[1] if in_channels is None else in_channels, out_channels // groups, *_sizes(op, kernel_size))
    sliding = geometry.conv_transpose_windows(op, shape, weight_shape, stride, padding, output_padding, groups,
                                              dilation)
    outputs = (window.size for window in sliding.windows)
    return {"sliding": sliding, "weight_shape": weight_shape, "groups": groups, "bias": bias,
            "output_shape": (sliding.N, sliding.C, *outputs)}


def _max_pool(op, shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    sliding = geometry.pool_windows(op, shape, kernel_size, stride, padding, dilation, ceil_mode)
    return {"sliding": sliding, "ceil_mode": ceil_mode,
            "output_shape": (*shape[:2], *(window.output for window in sliding.windows))}


def _avg_pool(op, shape, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
              divisor_override=None):
    return _max_pool(op, shape, kernel_size, stride, padding, 1, ceil_mode)


def _adaptive_pool(op, shape, output_size):
    return {"sliding": None, "output_shape": (*shape[:2], *geometry.adaptive_pool_size(op, shape, output_size))}


_BY_FAMILY: dict[str, Callable[..., dict[str, Any]]] = {
    "conv": _conv, "conv_transpose": _conv_transpose, "max_pool": _max_pool, "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_pool, "adaptive_max_pool": _adaptive_pool}
FAMILIES = {f"{family}{sides}d": describe for family, describe in _BY_FAMILY.items() for sides in (1, 2, 3)}
CLASSES = {"".join(word.capitalize() for word in op[:-2].split("_")) + op[-2:]: op for op in FAMILIES}


def _sizes(op: str, kernel_size: Any) -> tuple[int, ...]:
    sides = int(op[-2])
    sizes = tuple(kernel_size) if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * sides
    if len(sizes) != sides:
        raise ValueError(f"{op}: kernel_size must be one integer or {sides} of them, got {kernel_size!r}")
    return sizes


def _per_group(op: str, shape: tuple[int, ...], in_channels: int | None, out_channels: int, groups: int) -> int:
    """C / groups.  Raises ``ValueError``, as the layers do, where that is no whole number."""
    C = shape[1] if in_channels is None else in_channels
    if groups < 1:
        raise ValueError(f"{op}: groups must be at least 1, got {groups}")
    for what, channels in (("input", C), ("output", out_channels)):
        if channels % groups:
            fitting = [g for g in range(1, min(C, out_channels) + 1) if C % g == out_channels % g == 0]
            raise ValueError(f"{op}: {channels} {what} channels in {groups} groups would be {channels} / {groups} = "
                             f"{channels / groups:.3g} in each; groups must divide the {C} input and the "
                             f"{out_channels} output channels, as {', '.join(map(str, fitting))} would")
    return C // groups
