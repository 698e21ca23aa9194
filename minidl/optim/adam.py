"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl._ext.core import Tensor
from minidl.optim.optimizer import Optimizer, check_not_negative


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): steps scaled by running means of the gradient and of its square.

    ``weight_decay`` is added to the gradient or, with ``decoupled_weight_decay``, shrinks the parameter itself (AdamW).
    ``amsgrad`` divides by the largest second moment so far (Reddi et al. 2018).  ``foreach`` and ``fused`` choose
    between equal loops in PyTorch and are accepted without effect.

    ``state[parameter]`` holds ``step`` (an int), ``exp_avg``, ``exp_avg_sq`` and perhaps ``max_exp_avg_sq``.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, fused: bool | None = None, decoupled_weight_decay: bool = False) -> None:
        check_not_negative(**{"learning rate": lr, "epsilon value": eps})
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        check_not_negative(**{"weight_decay value": weight_decay})
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize,
                                  "decoupled_weight_decay": decoupled_weight_decay})

    def _update(self, backend: Any, group: dict[str, Any], parameters: list[Tensor], raws: list[Any],
                grads: list[Any]) -> None:
        exp_avgs, _ = self._kept(backend, parameters, "exp_avg", zeroed=True)
        exp_avg_sqs, _ = self._kept(backend, parameters, "exp_avg_sq", zeroed=True)
        largest = None
        if group["amsgrad"]:
            largest, _ = self._kept(backend, parameters, "max_exp_avg_sq", zeroed=True)
        steps = []
        for parameter in parameters:
            state = self.state[parameter]
            state["step"] = step = state.get("step", 0) + 1
            steps.append(step)
        beta1, beta2 = group["betas"]
        backend.adam_step(raws, grads, exp_avgs, exp_avg_sqs, largest, steps, group["lr"], beta1, beta2, group["eps"],
                          group["weight_decay"], group["amsgrad"], group["maximize"], group["decoupled_weight_decay"])

    def _loaded(self, param: Tensor, name: str, value: Any) -> Any:
        # PyTorch keeps the number of steps as a float32 tensor.
        return int(value) if name == "step" else super()._loaded(param, name, value)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): first p = p * (1 - lr * weight_decay)."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach, fused=fused,
                         decoupled_weight_decay=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
