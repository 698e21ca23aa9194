"""Convolution with relu and max pooling in one pass (``conv2d_fused.pyx``)."""

import numpy as np

from minidl.geometry import Conv2dGeometry

def can_fuse(geometry: Conv2dGeometry, needs_input: bool = True) -> bool: ...
def conv2d_relu_forward(
    input: np.ndarray, weight: np.ndarray, bias: np.ndarray, geometry: Conv2dGeometry
) -> np.ndarray: ...
def conv2d_relu_pool_forward(
    input: np.ndarray, weight: np.ndarray, bias: np.ndarray, geometry: Conv2dGeometry
) -> tuple[np.ndarray, np.ndarray]: ...
def keeps_lanes(geometry: Conv2dGeometry) -> bool: ...
def conv2d_relu_pool_lanes(input: np.ndarray, weight: np.ndarray, bias: np.ndarray, geometry: Conv2dGeometry,
                           kept_in: bool, kept_out: bool) -> np.ndarray: ...
def conv2d_relu_pool_backward(
    grad_output: np.ndarray,
    codes: np.ndarray,
    input: np.ndarray,
    weight: np.ndarray | None,
    geometry: Conv2dGeometry,
    needs_input: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]: ...
