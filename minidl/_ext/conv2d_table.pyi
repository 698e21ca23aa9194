"""Which kernel computes a convolution (``conv2d_table.pyx``)."""

import enum

from minidl.geometry import Conv2dGeometry

class Kernel(enum.IntEnum):
    AUTO = 0
    IM2COL = 1
    POINTWISE = 2
    DEPTHWISE = 3
    DIRECT_ROWS = 4
    DIRECT_CHANNELS = 5
    DIRECT_BATCH = 6
    PACKED = 7
    WINOGRAD = 8
    WINOGRAD_F4 = 9

class Direction(enum.IntEnum):
    FORWARD = 0
    BACKWARD_INPUT = 1
    BACKWARD_WEIGHT = 2

def explain(geometry: Conv2dGeometry, direction: Direction, is_float32: bool = True) -> tuple[Kernel, str]: ...
def can_compute(
    kernel: Kernel, geometry: Conv2dGeometry, direction: Direction, is_float32: bool = True
) -> bool: ...
def use(direction: Direction, kernel: Kernel) -> Kernel: ...
def winograd_f4_allowed() -> bool: ...
def allow_winograd_f4(allowed: bool) -> None: ...
