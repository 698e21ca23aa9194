"""What the layers with a weight matrix or kernel share: Linear and the convolutions."""

from __future__ import annotations

import math
from typing import Any

from minidl._tensor import Parameter
from minidl.nn import init
from minidl.nn.module import Module
from minidl.ops.creation import empty


class Weighted(Module):
    """A layer with ``weight`` (outputs, inputs, ...) and, unless it is None, ``bias`` (outputs,).

    The weight of a transposed convolution is (inputs, outputs, ...); its fan_in is taken from the same places.
    """

    weight: Parameter
    bias: Parameter | None

    def _make_parameters(self, shape: tuple[int, ...], biases: int | None, device: Any, dtype: Any) -> None:
        """Register a weight of this shape and so many biases (None: no bias), and draw their numbers."""
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        bias = None if biases is None else Parameter(empty(biases, device=device, dtype=dtype))
        self.register_parameter("bias", bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights and biases, uniform in +-1/sqrt(fan_in): the numbers that each output sums."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
            init.uniform_(self.bias, -bound, bound)
