"""Optimizer steps in readable NumPy: the specification that faster devices are compared with.

A step takes lists of equally many arrays, one entry per parameter, and changes parameters and state in place.  The
order of the operations is that of PyTorch's optimizers, so that the same numbers come out.
"""

import math
from typing import Any

import numpy as np


class OptimizerReference:
    """One step of an optimizer over all parameters of a group."""

    @np.errstate(all="ignore")
    def sgd_step(self, parameters: list[np.ndarray], grads: list[np.ndarray],
                 momentum_buffers: list[Any], first: list[bool], lr: float, momentum: float,
                 dampening: float, weight_decay: float, nesterov: bool, maximize: bool) -> None:
        """Stochastic gradient descent with momentum (Sutskever et al. 2013) as PyTorch writes it.

        A buffer whose ``first`` is true is uninitialised and becomes the gradient; without momentum the buffers are
        not looked at and may be None.
        """
        for parameter, grad, buffer, is_first in zip(parameters, grads, momentum_buffers, first, strict=True):
            if maximize:
                grad = -grad
            if weight_decay != 0:
                grad = grad + weight_decay * parameter
            if momentum != 0:
                if is_first:
                    buffer[...] = grad
                else:
                    buffer *= momentum
                    buffer += (1 - dampening) * grad
                grad = grad + momentum * buffer if nesterov else buffer
            parameter -= lr * grad

    @np.errstate(all="ignore")
    def adam_step(self, parameters: list[np.ndarray], grads: list[np.ndarray],
                  exp_avgs: list[np.ndarray], exp_avg_sqs: list[np.ndarray],
                  max_exp_avg_sqs: list[np.ndarray] | None, steps: list[int], lr: float, beta1: float,
                  beta2: float, eps: float, weight_decay: float, amsgrad: bool, maximize: bool,
                  decoupled: bool) -> None:
        """Adam (Kingma and Ba 2015), with ``decoupled`` weight decay AdamW (Loshchilov and Hutter 2019).

        ``steps`` counts from 1: the number of each parameter's step that is being made.  ``amsgrad`` (Reddi et al.
        2018) keeps the largest second moments in ``max_exp_avg_sqs``, which else may be None.
        """
        largest: list[Any] = max_exp_avg_sqs if amsgrad and max_exp_avg_sqs else [None] * len(parameters)
        for parameter, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step in zip(
                parameters, grads, exp_avgs, exp_avg_sqs, largest, steps, strict=True):
            if maximize:
                grad = -grad
            if weight_decay != 0 and decoupled:
                parameter *= 1 - lr * weight_decay
            elif weight_decay != 0:
                grad = grad + weight_decay * parameter
            _lerp(exp_avg, grad, 1 - beta1)
            exp_avg_sq *= beta2
            exp_avg_sq += (1 - beta2) * grad * grad
            if amsgrad:
                np.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
            second = max_exp_avg_sq if amsgrad else exp_avg_sq
            denominator = np.sqrt(second) / math.sqrt(1 - beta2**step) + eps
            parameter -= lr / (1 - beta1**step) * exp_avg / denominator


def _lerp(start: np.ndarray, end: np.ndarray, weight: float) -> None:
    """start += weight * (end - start), from whichever end is nearer, so that weight 1 gives ``end`` exactly."""
    if weight < 0.5:
        start += weight * (end - start)
    else:
        start[...] = end - (end - start) * (1 - weight)
