"""Losses on the CPU: the compiled kernels, the reference for what they do not take and for what is wrong."""

import numpy as np

from minidl._devices.reference.loss import LossReference
from minidl._ext import error_loss
from minidl._ext import loss as kernels


class LossCPU(LossReference):
    """A kernel returns None for what it does not take."""

    def cross_entropy(self, input: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int,
                      reduction: str, label_smoothing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        result = kernels.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
        if result is None:
            return super().cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
        return result

    def cross_entropy_backward(self, grad_output: np.ndarray, log_probs: np.ndarray, total_weight: np.ndarray,
                               target: np.ndarray, weight: np.ndarray | None, ignore_index: int, reduction: str,
                               label_smoothing: float) -> np.ndarray:
        grad_input = kernels.cross_entropy_backward(grad_output, log_probs, total_weight, target, weight, ignore_index,
                                                    reduction, label_smoothing)
        if grad_input is None:
            return super().cross_entropy_backward(grad_output, log_probs, total_weight, target, weight, ignore_index,
                                                  reduction, label_smoothing)
        return grad_input

    def nll_loss(self, input: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int,
                 reduction: str) -> tuple[np.ndarray, np.ndarray]:
        result = kernels.nll_loss(input, target, weight, ignore_index, reduction)
        return super().nll_loss(input, target, weight, ignore_index, reduction) if result is None else result

    def nll_loss_backward(self, grad_output: np.ndarray, total_weight: np.ndarray, target: np.ndarray,
                          weight: np.ndarray | None, ignore_index: int, reduction: str,
                          input_shape: tuple[int, ...]) -> np.ndarray:
        grad_input = kernels.nll_loss_backward(grad_output, total_weight, target, weight, ignore_index, reduction,
                                               input_shape)
        if grad_input is None:
            return super().nll_loss_backward(grad_output, total_weight, target, weight, ignore_index, reduction,
                                             input_shape)
        return grad_input

    def mse_loss(self, input: np.ndarray, target: np.ndarray, reduction: str) -> np.ndarray:
        loss = error_loss.mse_loss(input, target, reduction)
        return super().mse_loss(input, target, reduction) if loss is None else loss

    def mse_loss_backward(self, grad_output: np.ndarray, input: np.ndarray, target: np.ndarray,
                          reduction: str) -> np.ndarray:
        grad_input = error_loss.mse_loss_backward(grad_output, input, target, reduction)
        return super().mse_loss_backward(grad_output, input, target, reduction) if grad_input is None else grad_input

    def l1_loss(self, input: np.ndarray, target: np.ndarray, reduction: str) -> np.ndarray:
        loss = error_loss.l1_loss(input, target, reduction)
        return super().l1_loss(input, target, reduction) if loss is None else loss

    def l1_loss_backward(self, grad_output: np.ndarray, input: np.ndarray, target: np.ndarray,
                         reduction: str) -> np.ndarray:
        grad_input = error_loss.l1_loss_backward(grad_output, input, target, reduction)
        return super().l1_loss_backward(grad_output, input, target, reduction) if grad_input is None else grad_input
