"""Losses.  ``reduction`` is ``'mean'``, ``'sum'`` or ``'none'``; any other word raises ``ValueError``."""

from __future__ import annotations

import warnings

from minidl._tensor import Tensor
from minidl.ops import loss, pointwise
from minidl.ops.promotion import promote
from minidl.ops.shape import broadcast_to
from minidl.ops.softmax import log_softmax


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits ``input`` (N, C), (N, C, d1, ...) or (C,) with classes.

    ``target`` holds class indices, int64, in the shape of ``input`` without C, or class probabilities in the shape of
    ``input``.  ``weight`` (C,) weighs the classes, targets equal to ``ignore_index`` do not count, ``label_smoothing``
    mixes the target with the uniform distribution (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567).  The mean
    of index targets is taken over the weights.

    Raises ``RuntimeError`` or ``ValueError`` for shapes and dtypes that do not fit, ``IndexError`` for a target that
    is no class.
    """
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        _need_tensors("cross_entropy_loss", input, target)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if target.dtype.is_floating_point:
        return _cross_entropy_with_probabilities(input, target, weight, ignore_index, reduction, label_smoothing)
    return loss.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _cross_entropy_with_probabilities(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int,
                                      reduction: str, label_smoothing: float) -> Tensor:
    if target.shape != input.shape:
        raise RuntimeError("cross_entropy: a floating point target holds class probabilities and must have the shape "
                           f"of the input, {tuple(input.shape)}, got {tuple(target.shape)}; class indices must be "
                           "int64, convert them with target.long()")
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    classes = 0 if input.ndim == 1 else 1
    C = input.shape[classes]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / C
    terms = log_softmax(input, classes) * target
    if weight is not None:
        if tuple(weight.shape) != (C,):
            raise RuntimeError(f"cross_entropy: weight tensor should be defined either for all {C} classes or no "
                               f"classes but got weight tensor of shape: {tuple(weight.shape)}")
        terms = terms * weight.reshape((C, *(1,) * (input.ndim - 1 - classes)))
    # The mean is over predictions, not over numbers: the sum over the classes comes first.
    return _reduced(-terms.sum(classes), reduction)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
             reduction: str = "mean") -> Tensor:
    """Negative log-likelihood: ``-weight[target] * input[target]`` for log-probabilities ``input``.

    Shapes, options and errors are those of ``cross_entropy`` with class indices.
    """
    _need_tensors("nll_loss", input, target)
    return loss.nll_loss(input, target, weight, ignore_index, reduction)


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """``(input - target)**2``.  Shapes that differ are broadcast with a warning."""
    return loss.mse_loss(*_alike("mse_loss", input, target), reduction)


def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """``|input - target|``.  Shapes that differ are broadcast with a warning."""
    return loss.l1_loss(*_alike("l1_loss", input, target), reduction)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared error up to ``delta``, ``delta * (|error| - delta / 2)`` beyond (Huber 1964)."""
    if delta <= 0:
        raise ValueError("huber_loss does not support non-positive values for delta.")
    input, target = _alike("huber_loss", input, target)
    error = (input - target).abs()
    return _reduced(pointwise.where(error <= delta, 0.5 * error * error, delta * (error - 0.5 * delta)), reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """``error**2 / (2 * beta)`` up to ``beta``, ``|error| - beta / 2`` beyond (https://arxiv.org/abs/1504.08083)."""
    if beta < 0:
        raise ValueError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    input, target = _alike("smooth_l1_loss", input, target)
    error = (input - target).abs()
    return _reduced(pointwise.where(error < beta, 0.5 * error * error / beta, error - 0.5 * beta), reduction)


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *,
                         reduction: str = "mean") -> Tensor:
    """``-(y * log(x) + (1 - y) * log(1 - x))`` for probabilities ``input``; logarithms are kept above -100.

    Raises ``ValueError`` for a target of another shape, ``RuntimeError`` for an input outside [0, 1].
    """
    if target.shape != input.shape:
        raise ValueError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is "
                         "deprecated. Please ensure they have the same size.")
    probabilities = input.detach()
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise RuntimeError("binary_cross_entropy: all elements of input should be between 0 and 1; apply a sigmoid "
                           "first or use binary_cross_entropy_with_logits")
    terms = loss.binary_cross_entropy(*promote(1, (input, target)))
    return _reduced(terms if weight is None else terms * weight, reduction)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None, *,
                                     reduction: str = "mean", pos_weight: Tensor | None = None) -> Tensor:
    """``binary_cross_entropy`` of ``sigmoid(input)``, accurate for large logits; ``pos_weight`` weighs positives.

    Raises ``ValueError`` for a target of another shape.
    """
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    positive = pointwise.log_sigmoid(input)
    if pos_weight is not None:
        positive = positive * ((pos_weight - 1) * target + 1)
    terms = (1 - target) * input - positive
    return _reduced(terms if weight is None else terms * weight, reduction)


def _need_tensors(op: str, input: Tensor, target: Tensor) -> None:
    if not isinstance(input, Tensor) or not isinstance(target, Tensor):
        position, wrong = (1, input) if not isinstance(input, Tensor) else (2, target)
        raise TypeError(f"{op}(): argument '{('input', 'target')[position - 1]}' (position {position}) must be Tensor, "
                        f"not {type(wrong).__name__}")


def _alike(op: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Input and target in one shape and one dtype."""
    _need_tensors(op, input, target)
    if input.dtype is not target.dtype:
        input, target = promote(1, (input, target))
    if input.shape == target.shape:
        return input, target
    warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This "
                  "will likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
                  stacklevel=3)
    shape = (input.detach() + target.detach()).shape
    return broadcast_to(input, shape), broadcast_to(target, shape)


def _reduced(terms: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return terms.mean()
    if reduction == "sum":
        return terms.sum()
    if reduction == "none":
        return terms
    raise ValueError(f"{reduction} is not a valid value for reduction")
