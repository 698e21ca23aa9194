"""Cross entropy and negative log likelihood (``loss.pyx``); None: the kernel does not take these arguments."""

import numpy as np

def cross_entropy(
    input: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None: ...
def cross_entropy_backward(
    grad_output: np.ndarray,
    log_probs: np.ndarray,
    total_weight: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> np.ndarray | None: ...
def nll_loss(
    input: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int, reduction: str
) -> tuple[np.ndarray, np.ndarray] | None: ...
def nll_loss_backward(
    grad_output: np.ndarray,
    total_weight: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    input_shape: tuple[int, ...],
) -> np.ndarray | None: ...
