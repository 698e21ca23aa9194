"""Losses in readable NumPy: the specification that faster devices are compared with.

Everywhere ``reduction`` is ``'none'``, ``'mean'`` or ``'sum'``; reduced losses are 0-d, and sums are made in float64.
"""

from typing import Any

import numpy as np

from minidl._devices.reference.softmax import SoftmaxReference

_softmax = SoftmaxReference()


class LossReference:
    """Losses of a batch of predictions and their derivatives.

    In the losses over classes ``input`` is (N, C), (N, C, d1, d2, ...) or (C,), ``target`` holds class indices and has
    the shape of ``input`` without C, ``weight`` is one number per class, (C,), or None.  A target equal to
    ``ignore_index`` adds nothing to the loss.  ``total_weight`` (0-d) is the sum of the weights of all other targets:
    what ``'mean'`` divides by.
    """

    @np.errstate(all="ignore")
    def cross_entropy(self, input: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int,
                      reduction: str, label_smoothing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """nll_loss of log_softmax(input), as ``(loss, log_probs, total_weight)``.

        With label smoothing s the loss is (1 - s) of that and s of the mean over the classes of -weight * log_probs
        (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7).
        """
        check_classes("cross_entropy", input, target, weight, ignore_index)
        axis = class_axis(input.ndim)
        log_probs = _softmax.log_softmax(input, axis)
        loss, total_weight = self.nll_loss(log_probs, target, weight, ignore_index, reduction)
        if label_smoothing > 0:
            terms = -(log_probs * _along_classes(weight, log_probs)).sum(axis=axis)
            smooth = _reduce(np.where(target == ignore_index, 0, terms), total_weight, reduction)
            loss = _fresh((1 - label_smoothing) * loss + label_smoothing / input.shape[axis] * smooth, input.dtype)
        return loss, log_probs, total_weight

    @np.errstate(all="ignore")
    def cross_entropy_backward(self, grad_output: np.ndarray, log_probs: np.ndarray, total_weight: np.ndarray,
                               target: np.ndarray, weight: np.ndarray | None, ignore_index: int, reduction: str,
                               label_smoothing: float) -> np.ndarray:
        """The gradient of cross_entropy with respect to its input, through that of the log-softmax."""
        axis = class_axis(log_probs.ndim)
        grad_log_probs = (1 - label_smoothing) * self.nll_loss_backward(
            grad_output, total_weight, target, weight, ignore_index, reduction, log_probs.shape)
        if label_smoothing > 0:
            scale = grad_output / total_weight if reduction == "mean" else grad_output
            scale = np.where(target == ignore_index, 0, scale * (label_smoothing / log_probs.shape[axis]))
            grad_log_probs = grad_log_probs - np.expand_dims(scale, axis) * _along_classes(weight, log_probs)
        return _softmax.log_softmax_backward(grad_log_probs.astype(log_probs.dtype, copy=False), log_probs, axis)

    @np.errstate(all="ignore")
    def nll_loss(self, input: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int,
                 reduction: str) -> tuple[np.ndarray, np.ndarray]:
        """-weight[target] * input[target]: the negative log-likelihood of the right class, and ``total_weight``."""
        check_classes("nll_loss", input, target, weight, ignore_index)
        axis = class_axis(input.ndim)
        kept = target != ignore_index
        index = np.where(kept, target, 0)
        picked = np.take_along_axis(input, np.expand_dims(index, axis), axis).squeeze(axis)
        weights = np.where(kept, 1 if weight is None else weight[index], 0).astype(input.dtype)
        total_weight = np.asarray(weights.sum(dtype=np.float64), input.dtype)
        terms = np.where(kept, -picked * weights, 0)
        return _fresh(_reduce(terms, total_weight, reduction), input.dtype), total_weight

    @np.errstate(all="ignore")
    def nll_loss_backward(self, grad_output: np.ndarray, total_weight: np.ndarray, target: np.ndarray,
                          weight: np.ndarray | None, ignore_index: int, reduction: str,
                          input_shape: tuple[int, ...]) -> np.ndarray:
        """-weight[target] * grad_output at the right class (over ``total_weight`` for 'mean'), zero elsewhere."""
        axis = class_axis(len(input_shape))
        grad_input = np.zeros(input_shape, grad_output.dtype)
        kept = target != ignore_index
        index = np.where(kept, target, 0)
        scale = grad_output / total_weight if reduction == "mean" else grad_output
        scale = np.where(kept, -scale if weight is None else -scale * weight[index], 0)
        np.put_along_axis(grad_input, np.expand_dims(index, axis), np.expand_dims(scale, axis), axis)
        return grad_input

    @np.errstate(all="ignore")
    def mse_loss(self, input: np.ndarray, target: np.ndarray, reduction: str) -> np.ndarray:
        """(input - target)**2; both of one shape"""
        terms = (input - target)**2
        return _fresh(_reduce(terms, terms.size, reduction), input.dtype)

    @np.errstate(all="ignore")
    def mse_loss_backward(self, grad_output: np.ndarray, input: np.ndarray, target: np.ndarray,
                          reduction: str) -> np.ndarray:
        """2 * (input - target) * grad_output, over the number of elements for 'mean'"""
        factor = 2 / max(input.size, 1) if reduction == "mean" else 2.0
        return _fresh(factor * (input - target) * grad_output, input.dtype)

    @np.errstate(all="ignore")
    def l1_loss(self, input: np.ndarray, target: np.ndarray, reduction: str) -> np.ndarray:
        """abs(input - target); both of one shape"""
        terms = np.abs(input - target)
        return _fresh(_reduce(terms, terms.size, reduction), input.dtype)

    @np.errstate(all="ignore")
    def l1_loss_backward(self, grad_output: np.ndarray, input: np.ndarray, target: np.ndarray,
                         reduction: str) -> np.ndarray:
        """sign(input - target) * grad_output, over the number of elements for 'mean'; zero and NaN have the sign 0"""
        factor = 1 / max(input.size, 1) if reduction == "mean" else 1.0
        return _fresh(np.sign(np.nan_to_num(input - target)) * (factor * grad_output), input.dtype)


def class_axis(ndim: int) -> int:
    """The dimension that counts the classes: C of (N, C, d1, ...) or of (C,)."""
    return 0 if ndim == 1 else 1


def check_classes(op: str, input: np.ndarray, target: np.ndarray, weight: np.ndarray | None,
                  ignore_index: int) -> None:
    """Whether targets and weights fit the classes of ``input``: ``check_shapes``, and every target looked at.

    Raises ``IndexError`` for a target that is no class: where and as PyTorch does.
    """
    check_shapes(op, input, target, weight)
    C = input.shape[class_axis(input.ndim)]
    wrong = (target != ignore_index) & ((target < 0) | (target >= C))
    if wrong.any():
        raise IndexError(f"Target {target[wrong][0]} is out of bounds. {op} of {C} classes takes targets "
                         f"0 to {C - 1}, and ignore_index={ignore_index} for a prediction that is not to count")


def check_shapes(op: str, input: Any, target: Any, weight: Any) -> None:
    """Whether the shapes and dtypes of targets and weights fit the classes of ``input``; arrays of any device.

    Raises ``ValueError`` or ``RuntimeError`` for shapes, ``RuntimeError`` for the dtype of ``target``: where and as
    PyTorch does.
    """
    if input.ndim == 0:
        raise ValueError(f"{op}: input is 0-d, expected (N, C), (N, C, d1, ...) or (C,) with C the number of classes")
    axis = class_axis(input.ndim)
    C = input.shape[axis]
    expected = input.shape[:axis] + input.shape[axis + 1:]
    if target.shape != expected:
        kind = ValueError if target.ndim == 0 or target.shape[:1] != expected[:1] else RuntimeError
        raise kind(f"{op}: input {input.shape} has {C} classes in dimension {axis}, so target must be {expected}, "
                   f"got {target.shape}; target holds one class index for each prediction, not one-hot rows")
    if target.dtype not in (np.int64, np.uint8):
        raise RuntimeError(f"{op}: expected target dtype to be int64 or uint8, but got {target.dtype}; "
                           "convert it with target.long()")
    if weight is not None and weight.shape != (C,):
        raise RuntimeError(f"{op}: weight tensor should be defined either for all {C} classes or no classes "
                           f"but got weight tensor of shape: {weight.shape}")


def _along_classes(weight: np.ndarray | None, log_probs: np.ndarray) -> np.ndarray:
    """One number per class, shaped to be multiplied with ``log_probs``; ones without weights."""
    axis = class_axis(log_probs.ndim)
    C = log_probs.shape[axis]
    weight = np.ones(C, log_probs.dtype) if weight is None else weight
    return weight.reshape(C, *[1] * (log_probs.ndim - 1 - axis))


def _fresh(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A result of a device: a C-contiguous array of ``dtype``, 0-d where NumPy has a scalar."""
    return np.asarray(values, dtype, order="C")


def _reduce(terms: np.ndarray, count: np.ndarray | int, reduction: str) -> np.ndarray:
    """The terms of a loss as they are, their sum, or their sum divided by ``count``."""
    if reduction == "none":
        return terms
    total = terms.sum(dtype=np.float64)
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / count
    raise reduction_error(reduction)


def reduction_error(reduction: str) -> ValueError:
    """What to raise for an unknown reduction."""
    return ValueError(f"{reduction} is not a valid value for reduction; use 'none', 'mean' or 'sum'")
