"""Loading a state dict: everything is checked before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minidl._tensor import Parameter, Tensor
from minidl._types import Size
from minidl.autograd import no_grad
from minidl.ops.creation import tensor


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class IncompatibleKeys(_Keys):
    """What ``load_state_dict`` returns: keys of the module that were not given, and given keys that it has not."""

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"

    __str__ = __repr__


def persistent_tensors(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """``(key, tensor)`` of the parameters and persistent buffers of a module and all below it, in PyTorch's order."""
    for path, child in module.named_modules(prefix="", remove_duplicate=False):
        start = f"{prefix}{path}." if path else prefix
        for name, parameter in child._parameters.items():
            if parameter is not None:
                yield start + name, parameter
        for name, buffer in child._buffers.items():
            if buffer is not None and name not in child._non_persistent:
                yield start + name, buffer


def load_state_dict(module: Any, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """See ``Module.load_state_dict``."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    targets = dict(persistent_tensors(module))
    missing = [key for key in targets if key not in state_dict]
    unexpected = [key for key in state_dict if key not in targets]
    errors = []
    if strict and missing:
        errors.append(f"Missing key(s) in state_dict: {_quoted(missing)}. ")
    if strict and unexpected:
        errors.append(f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
    values = {}
    for key, target in targets.items():
        if key not in state_dict:
            continue
        value = _as_tensor(state_dict[key])
        if value is None:
            errors.append(f'While copying the parameter named "{key}", expected a Tensor, a NumPy array or the like '
                          f"from checkpoint but received {type(state_dict[key])}")
        elif value.shape != target.shape:
            errors.append(f"size mismatch for {key}: copying a param with shape {Size(value.shape)} from checkpoint, "
                          f"the shape in current model is {Size(target.shape)}.")
        else:
            values[key] = value
    if errors:
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t" + "\n\t".join(errors))
    with no_grad():
        for key, value in values.items():
            if assign:
                _assign(module, key, targets[key], value)
            else:
                targets[key].copy_(value)
    return IncompatibleKeys(missing, unexpected)


def _assign(module: Any, key: str, target: Tensor, value: Tensor) -> None:
    """Put ``value`` itself in the place of ``target``, as a parameter where that is one."""
    path, _, name = key.rpartition(".")
    if isinstance(target, Parameter):
        value = value if isinstance(value, Parameter) else Parameter(value)
        value.requires_grad_(target.requires_grad)
    setattr(module.get_submodule(path), name, value)


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


def _as_tensor(value: Any) -> Tensor | None:
    """A tensor of what NumPy takes for an array of numbers; None for anything else."""
    if isinstance(value, Tensor):
        return value
    if hasattr(value, "detach"):  # a tensor of PyTorch
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
        return tensor(array) if array.dtype.kind in "biuf" else None
    except (TypeError, ValueError):
        return None
