"""2-d convolution and its gradients (``conv2d.pyx``)."""

import numpy as np

from minidl._ext.conv2d_table import Kernel
from minidl.geometry import Conv2dGeometry

def conv2d_forward(
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    geometry: Conv2dGeometry,
    kernel: Kernel = Kernel.AUTO,
) -> np.ndarray: ...
def conv2d_backward_input(
    grad_output: np.ndarray, weight: np.ndarray, geometry: Conv2dGeometry, kernel: Kernel = Kernel.AUTO
) -> np.ndarray: ...
def conv2d_backward_weight(
    grad_output: np.ndarray, input: np.ndarray, geometry: Conv2dGeometry, kernel: Kernel = Kernel.AUTO
) -> np.ndarray: ...
def conv2d_backward_bias(grad_output: np.ndarray) -> np.ndarray: ...
