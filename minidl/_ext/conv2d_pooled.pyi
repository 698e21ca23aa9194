import numpy as np

from minidl.geometry import Conv2dGeometry

def backward_weight(grad_output: np.ndarray, codes: np.ndarray, input: np.ndarray,
                    geometry: Conv2dGeometry) -> tuple[np.ndarray, np.ndarray]: ...
def backward_input(grad_output: np.ndarray, codes: np.ndarray, weight: np.ndarray,
                   geometry: Conv2dGeometry) -> np.ndarray: ...
