"""Pooling: the gradient of a maximum goes to its winner, that of an average to all of its window."""

from __future__ import annotations

from typing import Any

from minidl._ext.core import Op, Tensor, formulas
from minidl.geometry import Pool2dGeometry


def _max_pool2d_forward(F, input, geometry):
    output, indices = F.max_pool2d(input, geometry)
    return output, indices, indices


# input (N, C, H, W), geometry -> (N, C, OH, OW): the largest value of each window
max_pool2d = Op(
    "max_pool2d",
    "MaxPool2DWithIndicesBackward0",
    backward=formulas(lambda F, node, grad, indices: F.max_pool2d_backward(grad, indices, node.args[1])),
    joins={("conv2d", "relu"): ("conv2d_relu_max_pool2d", lambda geometry: geometry.halves)},
)
_max_pool2d_with_indices = Op(
    "max_pool2d_with_indices",
    "MaxPool2DWithIndicesBackward0",
    backward=lambda F, node, grad, _, indices: F.max_pool2d_backward(grad, indices, node.args[1]),
    forward=_max_pool2d_forward,
    outputs=2,
)
Op(
    "max_pool2d_backward",
    backward=lambda F, node, grad, indices: F.max_pool2d_gather(grad, indices, node.args[2]),
    saves={1: (0,)},
)
Op(
    "max_pool2d_gather",
    backward=lambda F, node, grad, indices: F.max_pool2d_backward(grad, indices, node.args[2]),
    saves={1: (0,)},
)
_avg_pool2d = Op(
    "avg_pool2d", "AvgPool2DBackward0", backward=lambda F, node, grad: F.avg_pool2d_backward(grad, *node.args[1:])
)
Op("avg_pool2d_backward", backward=lambda F, node, grad: F.avg_pool2d(grad, *node.args[1:]))
_adaptive_avg_pool2d = Op(
    "adaptive_avg_pool2d",
    "AdaptiveAvgPool2DBackward0",
    backward=lambda F, node, grad: F.adaptive_avg_pool2d_backward(grad, node.args[0]),
)
Op(
    "adaptive_avg_pool2d_backward",
    backward=lambda F, node, grad: F.adaptive_avg_pool2d(grad, node.args[0][-2:]),
)


def max_pool2d_with_indices(input: Tensor, geometry: Pool2dGeometry) -> Any:
    """``max_pool2d`` and the places of the winners (int64), counted along the plane of the input."""
    output, indices = _max_pool2d_with_indices(input, geometry)
    return output, indices.long()


def avg_pool2d(
    input: Tensor, geometry: Pool2dGeometry, count_include_pad: bool, divisor_override: int | None
) -> Tensor:
    """(N, C, H, W) -> (N, C, OH, OW): the average of each window."""
    return _avg_pool2d(input, geometry, count_include_pad, divisor_override)


def adaptive_avg_pool2d(input: Tensor, output_size: tuple[int, int]) -> Tensor:
    """(N, C, H, W) -> (N, C, *output_size): averages over windows that cover the plane evenly."""
    return _adaptive_avg_pool2d(input, output_size)
