"""The backward engine (``engine.pyx``): what ``minidl.autograd.backward`` calls."""

from typing import Literal, final, overload

from minidl._ext.core import Tensor

@final
class Pending: ...

@final
class Queue: ...

class Run: ...

@overload
def run_backward(
    tensors: list[Tensor],
    grads: list[Tensor],
    retain_graph: bool,
    create_graph: bool,
    inputs: list[Tensor],
    allow_unused: bool,
    accumulate: bool,
) -> list[Tensor | None]: ...
@overload
def run_backward(
    tensors: list[Tensor],
    grads: list[Tensor],
    retain_graph: bool,
    create_graph: bool,
    inputs: None,
    allow_unused: bool,
    accumulate: Literal[True],
) -> None: ...
def run_from_number(loss: Tensor, retain_graph: bool) -> bool: ...
