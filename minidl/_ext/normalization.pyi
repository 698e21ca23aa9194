"""Batch normalization and dropout (``normalization.pyx``); None: the kernel does not take these arguments."""

import numpy as np

def batch_norm(
    input: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None: ...
def batch_norm_backward(
    grad_output: np.ndarray,
    input: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None: ...
def dropout_apply(input: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray | None: ...
