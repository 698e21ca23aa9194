"""``backward`` and ``grad``: the two ways to start the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl._ext import core, engine
from minidl._ext.core import Tensor


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _inputs(value: Any) -> list[Tensor]:
    """The tensors to differentiate with respect to."""
    wanted = _as_list(value)
    for tensor in wanted:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"inputs can only be Tensors, but got {type(tensor).__name__}")
        if not tensor.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    return wanted


def _prepare(tensors: list[Tensor], gradients: Any) -> list[Tensor]:
    """One gradient per tensor: given, or one for a single number."""
    given = [None] * len(tensors) if gradients is None else _as_list(gradients)
    if len(given) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(given)} gradients")
    if not tensors:
        raise RuntimeError("grad and backward need at least one tensor to differentiate")
    prepared = []
    for i, (tensor, gradient) in enumerate(zip(tensors, given, strict=True)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"only Tensors can be differentiated, but element {i} is {type(tensor).__name__}")
        if not tensor.requires_grad:
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        if gradient is None:
            if tensor._raw.size != 1:
                raise RuntimeError(
                    f"grad can be implicitly created only for scalar outputs; this one has shape {list(tensor.shape)}: "
                    "reduce it with .sum() or .mean(), or pass gradient="
                )
            backend = tensor._backend
            gradient = core.from_raw(backend.full(tensor._raw.shape, 1, tensor._raw.dtype), backend)
        elif not isinstance(gradient, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
        elif gradient.shape != tensor.shape:
            raise RuntimeError(
                f"Mismatch in shape: grad_output has a shape of {list(gradient.shape)} and output has a shape of "
                f"{list(tensor.shape)}."
            )
        elif gradient.device != tensor.device:
            raise RuntimeError(f"the output is on {tensor.device}, its gradient on {gradient.device}")
        prepared.append(gradient.to(tensor.dtype))
    return prepared


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Sum the gradients of ``tensors`` into the ``.grad`` of the leaves (or of ``inputs`` only).

    ``grad_tensors`` has the shapes of ``tensors`` and may be left out for single numbers.  Raises ``RuntimeError``
    for a tensor without history, a missing gradient, a graph that was already freed, and a saved value that was
    changed in place.
    """
    outputs = _as_list(tensors)
    if inputs is not None and not _as_list(inputs):
        raise RuntimeError("'inputs' argument to backward cannot be empty.")
    engine.run_backward(
        outputs,
        _prepare(outputs, grad_tensors),
        create_graph if retain_graph is None else retain_graph,
        create_graph,
        None if inputs is None else _inputs(inputs),
        True,
        True,
    )


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, as a tuple; no ``.grad`` is touched.

    An input that the outputs do not depend on raises ``RuntimeError``, or gives None under ``allow_unused=True``
    (zeros under ``materialize_grads=True``).
    """
    if allow_unused is False and materialize_grads:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True")
    wanted = _inputs(inputs)
    heads = _as_list(outputs)
    results: list[Any] = engine.run_backward(
        heads,
        _prepare(heads, grad_outputs),
        create_graph if retain_graph is None else retain_graph,
        create_graph,
        wanted,
        bool(allow_unused) or materialize_grads,
        False,
    )
    if materialize_grads:
        for i, result in enumerate(results):
            if result is None:
                raw, backend = wanted[i]._raw, wanted[i]._backend
                results[i] = core.from_raw(backend.full(raw.shape, 0, raw.dtype), backend)
    return tuple(results)
