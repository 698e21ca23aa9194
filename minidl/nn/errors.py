"""Errors that name the layer: where it stands in the network that was called, and what would make it fit.

A layer that finds its input wrong raises ``ShapeError`` or ``InputError``.  Every ``Module`` on the way out puts the
layer's path, as seen from itself, in front of the message, so that the outermost one has the last word:

    Net.features.3 (Linear): input (2, 3456), expected (..., 400); set in_features=3456

Any other exception passes through a network untouched.
"""

from __future__ import annotations

from typing import Any


class LayerError(Exception):
    """What a layer has to say about its input.  ``text`` is the message without the path."""

    def __init__(self, text: str, layer: Any = None) -> None:
        super().__init__(text if layer is None else f"{type(layer).__name__}: {text}")
        self.text, self.layer = text, layer

    def seen_from(self, root: Any) -> None:
        """Name the layer by its path below ``root``; nothing changes where ``root`` does not hold it."""
        for path, module in root.named_modules():
            if module is self.layer and path:
                self.args = (f"{type(root).__name__}.{path} ({type(module).__name__}): {self.text}",)
                return


class ShapeError(LayerError, RuntimeError):
    """A ``RuntimeError`` of a layer: shapes or dtypes do not fit."""


class InputError(LayerError, ValueError):
    """A ``ValueError`` of a layer: an input that it cannot work with."""


def explained(error: Exception, layer: Any, cure: str = "") -> LayerError:
    """``error`` of an op as the error of ``layer``, with the traceback that it has; raise it ``from None``."""
    kind = InputError if isinstance(error, ValueError) else ShapeError
    text = f"{error}; {cure}" if cure else str(error)
    return kind(text, layer).with_traceback(error.__traceback__)
