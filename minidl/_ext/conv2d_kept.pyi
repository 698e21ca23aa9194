"""Convolutions whose weight stays packed (``conv2d_kept.pyx``)."""

import numpy as np

from minidl._ext.conv2d_table import Kernel
from minidl._ext.storage import Storage
from minidl.geometry import Conv2dGeometry

class KeptWeight:
    storage: Storage
    geometry: Conv2dGeometry
    kernel: Kernel
    def __init__(self, storage: Storage, weight: np.ndarray, geometry: Conv2dGeometry) -> None: ...

def can_keep(storage: Storage, weight: np.ndarray, geometry: Conv2dGeometry) -> bool: ...
def kept_weights(weights: list[tuple[Storage, np.ndarray, Conv2dGeometry]]) -> list[KeptWeight | None]: ...
def conv2d_kept_forward(input: np.ndarray, bias: np.ndarray | None, kept: KeptWeight) -> np.ndarray: ...
