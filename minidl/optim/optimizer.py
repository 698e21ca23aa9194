"""What all optimizers share: parameter groups, the state of each parameter, saving and loading it.

A subclass writes ``_update(backend, group, parameters, raws, grads)``: it makes one call of a device
function, which changes parameters and state in place.  Nothing of that is on the tape.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from minidl._ext.core import Tensor, bump_versions, forget_gradients, from_raw, kept_raws, with_gradients
from minidl.autograd.grad_mode import enable_grad


class Optimizer:
    """Base of all optimizers.

    ``params`` is an iterable of leaf tensors, of ``(name, tensor)`` pairs, or of dicts: each dict is a parameter group,
    with the tensors under ``"params"`` and hyperparameters of its own; ``defaults`` fills in what a group leaves out.

    ``param_groups`` is the list of groups and ``state`` maps a parameter to a dict of what is kept for it.

    Raises ``TypeError`` for parameters that are not tensors, ``ValueError`` for an empty list, for a tensor that is not
    a leaf and for one that is in two groups.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                            "a single Tensor; put it in a list")
        self.defaults = defaults
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._stepped = False
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with hyperparameters of its own, for example to train layers so far frozen."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of "
                            "tensors in sets will change between runs. Please use a list instead.")
        params = [params] if isinstance(params, Tensor) else list(params)
        named = [param for param in params if isinstance(param, tuple)]
        if named:
            if len(named) != len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            param_group["param_names"] = [name for name, _ in named]
            params = [param for _, param in named]
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(param).__name__}")
            if not param.is_leaf and not param.retains_grad:
                raise ValueError("can't optimize a non-leaf Tensor")
        param_group["params"] = params
        if any(("param_names" in group) != ("param_names" in param_group) for group in self.param_groups):
            raise ValueError("all optimizer param groups should be with/without names; the new group is "
                             f"{'with' if named else 'without'} names, those before are not")
        if len(set(params)) != len(params):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; each of them is updated "
                          "once per occurrence", stacklevel=3)
        for name, default in self.defaults.items():
            param_group.setdefault(name, default)
        known = {param for group in self.param_groups for param in group["params"]}
        if not known.isdisjoint(params):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with ``set_to_none=False`` fill them with zeros."""
        for group in self.param_groups:
            if set_to_none:
                forget_gradients(group["params"])
                continue
            for param in group["params"]:
                if param.grad is not None:
                    param.grad = param.grad.detach()
                    param.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step with the gradients in ``.grad``; a parameter without one stays as it is.

        ``closure`` computes the loss and its gradients anew; its loss is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            for backend, (parameters, raws, grads) in with_gradients(group["params"]).items():
                self._update(backend, group, parameters, raws, grads)
                # What a backward pass still to come has saved of these is no longer what it was.
                bump_versions(parameters)
        self._stepped = True
        return loss

    def _update(self, backend: Any, group: dict[str, Any], parameters: list[Tensor], raws: list[Any],
                grads: list[Any]) -> None:
        """Change ``parameters``, all of ``backend``, by the rule of this optimizer; ``raws`` and ``grads`` are the raw
        arrays of them and of their gradients.
        """
        raise NotImplementedError

    def _kept(self, backend: Any, parameters: list[Tensor], key: str, zeroed: bool) -> tuple[list[Any], list[bool]]:
        """The raw arrays kept as ``state[parameter][key]``, and which of them were made only now.

        A new one has the parameter's shape and dtype and holds zeros or, if not ``zeroed``, nothing yet.
        """
        kept, missing = kept_raws(self.state, parameters, key)
        if not missing:
            return kept, [False] * len(kept)
        new = [raw is None for raw in kept]
        make = backend.zeros if zeroed else backend.empty
        for i, param in enumerate(parameters):
            if new[i]:
                kept[i] = make(param._raw.shape, param._raw.dtype)
                self.state[param][key] = from_raw(kept[i], backend)
        return kept, new

    def state_dict(self) -> dict[str, Any]:
        """The state and the hyperparameters, in PyTorch's form.

        ``{"state": {number: {name: value}}, "param_groups": [{name: value, "params": [number, ...]}]}``; the numbers
        count the parameters through all groups.  Tensors are not copied.
        """
        number: dict[Any, int] = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                number.setdefault(param, len(number))
            packed = {name: value for name, value in group.items() if name != "params"}
            packed["params"] = [number[param] for param in group["params"]]
            groups.append(packed)
        state = {number.get(param, param): values for param, values in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` (or PyTorch's) gave; tensors are copied to the parameters' dtype and device.

        Raises ``ValueError`` when the groups are not as many or not as large as here.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups: "
                             f"{len(saved)}, and the optimizer has {len(self.param_groups)}")
        for i, (theirs, ours) in enumerate(zip(saved, self.param_groups, strict=True)):
            if len(theirs["params"]) != len(ours["params"]):
                raise ValueError("loaded state dict contains a parameter group that doesn't match the size of "
                                 f"optimizer's group: group {i} has {len(theirs['params'])} parameters, and the "
                                 f"optimizer's has {len(ours['params'])}")
        of_number = {number: param for theirs, ours in zip(saved, self.param_groups, strict=True)
                     for number, param in zip(theirs["params"], ours["params"], strict=True)}
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for number, values in state_dict["state"].items():
            if number in of_number:
                param = of_number[number]
                state[param] = {name: self._loaded(param, name, value) for name, value in values.items()}
            else:
                state[number] = copy.deepcopy(values)
        for i, (theirs, ours) in enumerate(zip(saved, self.param_groups, strict=True)):
            group = {name: copy.deepcopy(value) for name, value in theirs.items() if name != "params"}
            if "param_names" in ours:
                group.setdefault("param_names", ours["param_names"])
            self.param_groups[i] = {**self.defaults, **group, "params": ours["params"]}
        self.state = state

    def _loaded(self, param: Tensor, name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return copy.deepcopy(value)
        return value.detach().to(param.device, param.dtype, copy=True)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])


def check_not_negative(**values: Any) -> None:
    """Raise ``ValueError`` for a hyperparameter below zero; underscores in the name become spaces."""
    for name, value in values.items():
        if not value >= 0.0:
            raise ValueError(f"Invalid {name}: {value}")
