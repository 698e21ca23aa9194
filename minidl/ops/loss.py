"""Losses that are one op on the tape.  ``nn.functional`` checks their arguments and documents them."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl._ext.core import Op, Tensor, from_raw, register
from minidl.ops.rules import recorded


def _cross_entropy_backward(F, node, grad, input, target, weight, log_probs, total_weight):
    if recorded(F):
        # The kept log-probabilities are bare numbers; a second derivative needs to know where they came from.
        log_probs = F.log_softmax(input, 1 if input.ndim > 1 else 0)
    return F.cross_entropy_backward(grad, log_probs, total_weight, target, weight, *node.args[3:])


def _recorded_cross_entropy_backward(grad: Tensor, log_probs: Tensor, total_weight: Tensor, target: Tensor,
                                     weight: Tensor | None, *options: Any) -> Tensor:
    """The loss is ``-sum(coefficient * log_probs)``, so its gradient is put together from plain ops.

    The device's own backward function gives the coefficients, all options included: with probabilities of zero
    it returns the gradient with respect to the log-probabilities.
    """
    backend = log_probs._backend
    nothing = backend.full(tuple(log_probs.shape), float("-inf"), log_probs._raw.dtype)
    ones = backend.full(tuple(grad.shape), 1, grad._raw.dtype)
    slope = from_raw(backend.cross_entropy_backward(
        ones, nothing, total_weight._raw, target._raw, None if weight is None else weight._raw, *options), backend)
    classes = 1 if log_probs.ndim > 1 else 0
    grad_log_probs = slope * (grad.unsqueeze(classes) if grad.ndim else grad)
    return grad_log_probs - log_probs.exp() * grad_log_probs.sum(classes, True)


def _nll_loss_backward(F, node, grad, target, weight, total_weight):
    return F.nll_loss_backward(grad, total_weight, target, weight, *node.args[3:], node.args[0])


def _nll_loss_backward_backward(F, node, grad, target, weight):
    """nll_loss is linear in its input, so the derivative of its gradient is the loss itself."""
    value = F.nll_loss(grad, target, weight, node.args[4], node.args[5])
    return value if recorded(F) else value[0]


# input, target, weight, ignore_index, reduction, label_smoothing: log-softmax over the classes and negative
# log-likelihood of the class indices ``target``, in one step
cross_entropy = Op("cross_entropy", "NllLossBackward0", backward=_cross_entropy_backward,
                   saves={0: (0,), 1: (0,), 2: (0,)})
_nll_loss = Op("nll_loss", backward=_nll_loss_backward, saves={1: (0,), 2: (0,)})
Op("nll_loss_backward", backward=_nll_loss_backward_backward, saves={2: (0,), 3: (0,)})
register("cross_entropy_backward", _recorded_cross_entropy_backward)


def _pair_backward(name):
    def backward(F, node, grad, input, target):
        grad_input = getattr(F, name)(grad, input, target, node.args[2])
        return grad_input if node.needs(0) else None, F.neg(grad_input) if node.needs(1) else None

    return backward


def _averaged(grad: Tensor, numbers: int, reduction: str) -> Tensor:
    return grad / numbers if reduction == "mean" else grad


_BOTH = {0: (0, 1), 1: (0, 1)}
_mse_loss = Op("mse_loss", backward=_pair_backward("mse_loss_backward"), saves=_BOTH)
_l1_loss = Op("l1_loss", "MeanBackward0", backward=_pair_backward("l1_loss_backward"), saves=_BOTH)
register("mse_loss_backward", lambda grad, input, target, reduction: (input - target) * 2.0 * _averaged(
    grad, input._raw.size, reduction))
register("l1_loss_backward", lambda grad, input, target, reduction: (input - target).sign() * _averaged(
    grad, input._raw.size, reduction))


# PyTorch's (the second in float32): they keep the loss and its gradient finite at 0 and 1
_SMALLEST_LOG, _SMALLEST_VARIANCE = -100.0, float(np.float32(1e-12))


def _binary_cross_entropy_forward(F, input, target):
    """-(y * log(x) + (1 - y) * log(1 - x))"""
    log_yes = F.clamp(F.log(input), _SMALLEST_LOG, None)
    log_no = F.clamp(F.log1p(F.neg(input)), _SMALLEST_LOG, None)
    return F.neg(F.add(F.mul(target, log_yes), F.mul(F.sub(1.0, target), log_no)))


def _binary_cross_entropy_backward(F, node, grad, input, target):
    grad_input = grad_target = None
    if node.needs(0):
        variance = F.clamp(F.mul(input, F.sub(1.0, input)), _SMALLEST_VARIANCE, None)
        grad_input = F.mul(grad, F.div(F.sub(input, target), variance))
    if node.needs(1):
        grad_target = F.mul(grad, F.sub(F.log1p(F.neg(input)), F.log(input)))
    return grad_input, grad_target


_binary_cross_entropy = Op("binary_cross_entropy", backward=_binary_cross_entropy_backward, saves={
    0: (0, 1), 1: (0,)}, forward=_binary_cross_entropy_forward)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
    """Negative log-likelihood of the class indices ``target`` under the log-probabilities ``input``."""
    return _nll_loss(input, target, weight, ignore_index, reduction)


def mse_loss(input: Tensor, target: Tensor, reduction: str) -> Tensor:
    """Squared differences of two tensors of one shape."""
    return _mse_loss(input, target, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str) -> Tensor:
    """Absolute differences of two tensors of one shape."""
    return _l1_loss(input, target, reduction)


def binary_cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each probability ``input`` with ``target``, both of one shape, not reduced."""
    return _binary_cross_entropy(input, target)
