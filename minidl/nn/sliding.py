"""What convolution and pooling layers share: a window that slides, and geometries that are worked out once."""

from __future__ import annotations

from typing import Any

from minidl.nn.module import Module

_MOST = 256  # geometries kept by a layer: an epoch of pictures of random sizes must not fill the memory


class SlidingWindow(Module):
    """Keeps one geometry per shape of input, until an attribute of the layer changes."""

    _geometries: dict[Any, Any]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.__dict__["_geometries"] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_geometries": {}}

    def _keep(self, key: Any, geometry: Any) -> None:
        if len(self._geometries) >= _MOST:
            self._geometries.clear()
        self._geometries[key] = geometry


def per_side(value: Any, sides: int) -> tuple[Any, ...]:
    """One number for all sides, or one for each (rows, columns), as a tuple."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * sides
