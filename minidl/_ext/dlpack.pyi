from typing import Any

import numpy as np

from minidl._ext.device_array import DeviceArray

CUDA: int

class Taken: ...

def to_capsule(x: DeviceArray, device_id: int) -> Any: ...
def from_capsule(capsule: Any) -> tuple[int, tuple[int, ...], tuple[int, ...] | None, np.dtype, int, Any]: ...
