"""2-d max and average pooling and their gradients (``pooling.pyx``); ``general`` leaves the fast 2x2 paths out."""

import numpy as np

from minidl.geometry import Pool2dGeometry

def max_pool2d_forward(
    input: np.ndarray, geometry: Pool2dGeometry, general: bool = False
) -> tuple[np.ndarray, np.ndarray]: ...
def max_pool2d_backward(
    grad_output: np.ndarray, indices: np.ndarray, geometry: Pool2dGeometry, general: bool = False
) -> np.ndarray: ...
def max_pool2d_gather(input: np.ndarray, indices: np.ndarray, geometry: Pool2dGeometry) -> np.ndarray: ...
def avg_pool2d_forward(
    input: np.ndarray,
    geometry: Pool2dGeometry,
    count_include_pad: bool,
    divisor_override: int,
    general: bool = False,
) -> np.ndarray: ...
def avg_pool2d_backward(
    grad_output: np.ndarray,
    geometry: Pool2dGeometry,
    count_include_pad: bool,
    divisor_override: int,
    general: bool = False,
) -> np.ndarray: ...
