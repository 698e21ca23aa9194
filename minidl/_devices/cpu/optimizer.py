"""Optimizer steps on the CPU: one compiled call for all parameters, the reference for those that it leaves."""

from typing import Any

import numpy as np

from minidl._devices.reference.optimizer import OptimizerReference
from minidl._ext import optimizer as kernels


class OptimizerCPU(OptimizerReference):
    """A kernel returns the indices of the parameters that it does not take."""

    def sgd_step(self, parameters: list[np.ndarray], grads: list[np.ndarray],
                 momentum_buffers: list[Any], first: list[bool], lr: float, momentum: float,
                 dampening: float, weight_decay: float, nesterov: bool, maximize: bool) -> None:
        left = kernels.sgd_step(parameters, grads, momentum_buffers, first, lr, momentum, dampening, weight_decay,
                                nesterov, maximize)
        if left:
            super().sgd_step(_at(left, parameters), _at(left, grads), _at(left, momentum_buffers), _at(left, first),
                             lr, momentum, dampening, weight_decay, nesterov, maximize)

    def adam_step(self, parameters: list[np.ndarray], grads: list[np.ndarray],
                  exp_avgs: list[np.ndarray], exp_avg_sqs: list[np.ndarray],
                  max_exp_avg_sqs: list[np.ndarray] | None, steps: list[int], lr: float, beta1: float,
                  beta2: float, eps: float, weight_decay: float, amsgrad: bool, maximize: bool,
                  decoupled: bool) -> None:
        left = kernels.adam_step(parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, lr, beta1, beta2,
                                 eps, weight_decay, amsgrad, maximize, decoupled)
        if left:
            largest = _at(left, max_exp_avg_sqs) if amsgrad and max_exp_avg_sqs else None
            super().adam_step(_at(left, parameters), _at(left, grads), _at(left, exp_avgs), _at(left, exp_avg_sqs),
                              largest, _at(left, steps), lr, beta1, beta2, eps, weight_decay, amsgrad, maximize,
                              decoupled)


def _at(indices: list[int], values: list[Any]) -> list[Any]:
    return [values[i] for i in indices]
