"""``conv2d``: arguments checked and brought to the shapes that the op takes."""

from __future__ import annotations

from collections.abc import Sequence

from minidl import geometry
from minidl._tensor import Tensor
from minidl.ops import conv

IntOrPair = int | Sequence[int]


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrPair = 1,
           padding: IntOrPair | str = 0, dilation: IntOrPair = 1, groups: int = 1) -> Tensor:
    """2-d convolution (in the field's sense: cross-correlation, the kernel is not flipped).

    input (N, C, H, W) or (C, H, W), weight (OC, C/groups, KH, KW), bias (OC,) -> (N, OC, OH, OW) or (OC, OH, OW) with
    ``OH = (H + padding - dilation * (KH - 1) - 1) // stride + 1`` (https://arxiv.org/abs/1603.07285).  ``padding`` is
    in rows and columns on both sides, or ``'same'`` or ``'valid'``.

    Raises ``RuntimeError`` for shapes or dtypes that do not fit together, ``TypeError`` for what is not a tensor.
    """
    shape = conv_shapes(input, weight, bias)
    fit = geometry.conv2d_geometry(shape, tuple(weight.shape), stride, padding, dilation, groups)
    if input.ndim == 3:
        return conv.conv2d(input.unsqueeze(0), weight, bias, fit).squeeze(0)
    return conv.conv2d(input, weight, bias, fit)


def conv_shapes(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[int, ...]:
    """The input's shape with its batch; raises for what no geometry can tell: types, dtypes, and the bias."""
    for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, Tensor) and (tensor is not None or name != "bias"):
            raise TypeError(f"conv2d(): argument '{name}' must be Tensor, not {type(tensor).__name__}")
    if input.ndim not in (3, 4):
        raise RuntimeError("Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: "
                           f"{list(input.shape)}")
    if bias is not None and tuple(bias.shape) != tuple(weight.shape[:1]):
        raise RuntimeError(f"conv2d: bias {tuple(bias.shape)}, expected ({weight.shape[0]},) for weight "
                           f"{tuple(weight.shape)}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype is not input.dtype:
            raise RuntimeError(f"conv2d: input has dtype {input.dtype}, {name} has dtype {tensor.dtype}; convert one "
                               "with .to(...)")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"conv2d is not implemented for {input.dtype}; convert the tensors with .float()")
    return tuple(input.shape) if input.ndim == 4 else (1, *input.shape)
