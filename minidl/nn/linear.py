"""``Linear`` and ``Identity``."""

from __future__ import annotations

from typing import Any

from minidl._tensor import Tensor
from minidl.nn.errors import ShapeError, explained
from minidl.nn.module import Module
from minidl.nn.weighted import Weighted
from minidl.ops.matmul import linear


class Identity(Module):
    """Gives back its input, whatever the arguments it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Weighted):
    """``y = x @ weight.T + bias``: (..., in_features) -> (..., out_features).

    ``weight`` (out_features, in_features) and ``bias`` (out_features,) start uniform in +-1/sqrt(in_features).
    A call raises ``RuntimeError`` for an input of another width or dtype.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self._make_parameters((out_features, in_features), out_features if bias else None, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        try:
            return linear(input, self.weight, self.bias)
        except RuntimeError as error:
            raise self._explained(input, error) from None

    def _explained(self, input: Tensor, error: RuntimeError) -> Exception:
        wanted = self.weight.shape[1]
        if input.ndim == 0 or input.shape[-1] == wanted:
            return explained(error, self)
        text = f"input {tuple(input.shape)}, expected (..., {wanted}); set in_features={input.shape[-1]}"
        return ShapeError(text, self).with_traceback(error.__traceback__)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
