"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl._ext.core import Tensor
from minidl.optim.optimizer import Optimizer, check_not_negative


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Sutskever et al. 2013, in PyTorch's form) and weight decay.

    With gradient g, parameter p and buffer v, per step:

        g = g + weight_decay * p
        v = momentum * v + (1 - dampening) * g         (the first time v = g)
        p = p - lr * v                                 (nesterov: p - lr * (g + momentum * v))

    and g is negated first with ``maximize``.  ``foreach`` and ``fused`` choose between equal loops in PyTorch; here the
    whole group is always one call, and they are accepted without effect.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, fused: bool | None = None) -> None:
        check_not_negative(**{"learning rate": lr, "momentum value": momentum, "weight_decay value": weight_decay})
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening,
                                  "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize})

    def _update(self, backend: Any, group: dict[str, Any], parameters: list[Tensor], raws: list[Any],
                grads: list[Any]) -> None:
        momentum = group["momentum"]
        if momentum != 0:
            buffers, first = self._kept(backend, parameters, "momentum_buffer", zeroed=False)
        else:
            buffers, first = [None] * len(parameters), [False] * len(parameters)
        backend.sgd_step(raws, grads, buffers, first, group["lr"], momentum, group["dampening"],
                         group["weight_decay"], group["nesterov"], group["maximize"])
