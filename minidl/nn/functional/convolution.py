"""Convolutions: arguments checked and brought to the shapes that the ops take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minidl import geometry
from minidl._tensor import Tensor
from minidl.nn.functional.padding import pad
from minidl.ops import conv

IntOrPair = int | Sequence[int]


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
           padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Tensor:
    """1-d convolution of signals: ``conv2d`` of images of one row.

    input (N, C, L) or (C, L), weight (OC, C/groups, K), bias (OC,) -> (N, OC, OL) or (OC, OL) with
    ``OL = (L + padding - dilation * (K - 1) - 1) // stride + 1``.  ``padding`` is on both ends, or ``'same'`` or
    ``'valid'``.

    Raises ``RuntimeError`` for shapes or dtypes that do not fit together, ``TypeError`` for what is not a tensor.
    """
    shape = conv_shapes("conv1d", input, weight, bias)
    fit = geometry.conv1d_geometry(shape, tuple(weight.shape), stride, padding, dilation, groups)
    return batched(conv.conv1d, input, weight, bias, fit)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
           padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Tensor:
    """2-d convolution (in the field's sense: cross-correlation, the kernel is not flipped).

    input (N, C, H, W) or (C, H, W), weight (OC, C/groups, KH, KW), bias (OC,) -> (N, OC, OH, OW) or (OC, OH, OW) with
    ``OH = (H + padding - dilation * (KH - 1) - 1) // stride + 1`` (https://arxiv.org/abs/1603.07285).  ``padding`` is
    in rows and columns on both sides, or ``'same'`` or ``'valid'``.

    Raises ``RuntimeError`` for shapes or dtypes that do not fit together, ``TypeError`` for what is not a tensor.
    """
    shape = conv_shapes("conv2d", input, weight, bias)
    fit = geometry.conv2d_geometry(shape, tuple(weight.shape), stride, padding, dilation, groups)
    return batched(conv.conv2d, input, weight, bias, fit)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
                     padding: IntOrPair = 0, output_padding: IntOrPair = 0, groups: int = 1,
                     dilation: IntOrPair = 1) -> Tensor:
    """1-d transposed convolution of signals: ``conv_transpose2d`` of images of one row.

    input (N, C, L) or (C, L), weight (C, OC/groups, K), bias (OC,) -> (N, OC, OL) or (OC, OL) with
    ``OL = (L - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1``.

    Raises as ``conv_transpose2d`` does.
    """
    shape = conv_shapes("conv_transpose1d", input, weight, bias, groups)
    fit = geometry.conv_transpose1d_geometry(shape, tuple(weight.shape), stride, padding, output_padding, groups,
                                             dilation)
    return batched(conv.conv_transpose1d, grown(input, fit.OW), weight, bias, fit)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
                     padding: IntOrPair = 0, output_padding: IntOrPair = 0, groups: int = 1,
                     dilation: IntOrPair = 1) -> Tensor:
    """2-d transposed convolution: what the gradient of ``conv2d`` does to go from its output back to its input.

    input (N, C, H, W) or (C, H, W), weight (C, OC/groups, KH, KW), bias (OC,) -> (N, OC, OH, OW) or (OC, OH, OW) with
    ``OH = (H - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1``
    (https://arxiv.org/abs/1603.07285).  ``output_padding`` makes the output larger at the bottom and right: a
    convolution with a stride brings several sizes to the same one, and it says which of them is meant.

    Raises ``RuntimeError`` for shapes or dtypes that do not fit together and for an output without pixels,
    ``TypeError`` for what is not a tensor or not an integer.
    """
    shape = conv_shapes("conv_transpose2d", input, weight, bias, groups)
    fit = geometry.conv_transpose2d_geometry(shape, tuple(weight.shape), stride, padding, output_padding, groups,
                                             dilation)
    return batched(conv.conv_transpose2d, grown(input, fit.OH, fit.OW), weight, bias, fit)


def conv_shapes(op: str, input: Tensor, weight: Tensor, bias: Tensor | None, groups: Any = None) -> tuple[int, ...]:
    """The input's shape with its batch; raises for what no geometry can tell: types, dtypes, and the bias.

    ``groups`` is given for a transposed convolution, whose weight has its output channels per group, and second.
    """
    for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, Tensor) and (tensor is not None or name != "bias"):
            raise TypeError(f"{op}(): argument '{name}' must be Tensor, not {type(tensor).__name__}")
    batched = 3 if op.endswith("1d") else 4
    if input.ndim not in (batched - 1, batched):
        raise RuntimeError(f"Expected {batched - 1}D (unbatched) or {batched}D (batched) input to {op}, but got input "
                           f"of size: {list(input.shape)}")
    if bias is not None and weight.ndim > 1:
        wanted = weight.shape[0] if groups is None else weight.shape[1] * groups
        if tuple(bias.shape) != (wanted,):
            raise RuntimeError(f"{op}: bias {tuple(bias.shape)}, expected ({wanted},) for weight "
                               f"{tuple(weight.shape)}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype is not input.dtype:
            raise RuntimeError(f"{op}: input has dtype {input.dtype}, {name} has dtype {tensor.dtype}; convert one "
                               "with .to(...)")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"{op} is not implemented for {input.dtype}; convert the tensors with .float()")
    return tuple(input.shape) if input.ndim == batched else (1, *input.shape)


def batched(op: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None,
            fit: geometry.Conv2dGeometry) -> Tensor:
    """``op`` for an input with or without a batch."""
    if input.ndim < weight.ndim:
        return op(input.unsqueeze(0), weight, bias, fit).squeeze(0)
    return op(input, weight, bias, fit)


def grown(input: Tensor, *sizes: int) -> Tensor:
    """``input`` with zeros at the ends of its last dimensions: what a large ``output_padding`` asks for."""
    missing = [size - present for size, present in zip(sizes, input.shape[-len(sizes):], strict=True)]
    if not any(missing):
        return input
    return pad(input, [amount for size in reversed(missing) for amount in (0, size)])
