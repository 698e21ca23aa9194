"""Repeating a recorded step (``plan.pyx``)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl._ext.core import Tensor

class Call:
    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        place: int,
        takes: bool,
        copies: tuple[tuple[int, np.ndarray], ...],
        varies: bool,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def arguments(self) -> tuple[Any, ...]: ...
    @property
    def keywords(self) -> dict[str, Any] | None: ...
    @property
    def place(self) -> int: ...
    @property
    def takes(self) -> bool: ...
    @property
    def varies(self) -> bool: ...
    @property
    def copies(self) -> tuple[tuple[int, np.ndarray], ...]: ...

class Input:
    def __init__(self, tensor: Tensor, rest: Any, *more: Any) -> None: ...
    @property
    def rest(self) -> Any: ...

class InputInPlace(Input):
    def __init__(self, tensor: Tensor, rest: np.ndarray, views: list[np.ndarray], offsets: list[int]) -> None: ...

class Plan:
    def __init__(
        self,
        calls: list[Call],
        arrays: list[Any],
        repeater: Any,
        inputs: list[Any],
        fields: list[Any],
        tensors: list[Any],
        changed: list[Any],
        gradients: list[Any],
        outputs: Callable[[Any], Any],
    ) -> None: ...
    @property
    def names(self) -> list[str]: ...
    def takes(self, values: list[Any]) -> bool: ...
    def run(self, values: list[Any]) -> Any: ...

def copy_out(array: np.ndarray) -> np.ndarray: ...
