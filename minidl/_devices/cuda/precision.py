"""How exactly products of float32 are computed on a GPU: PyTorch's switches, and its defaults.

TF32 on tensor cores rounds every factor to ten bits behind the point and adds up in float32.
"""

from __future__ import annotations

matmul = "highest"              # minidl.set_float32_matmul_precision; TF32 may be used if it is "high" or "medium"
tf32_in_convolution = True      # minidl.backends.cudnn.allow_tf32
_OLDEST = (8, 0)                # the compute capability from which on tensor cores know TF32


def tensor_cores_in_matmul(capability: tuple[int, int]) -> bool:
    """Whether matrix products of float32 may be computed on tensor cores on such a GPU."""
    return matmul != "highest" and capability >= _OLDEST


def tensor_cores_in_convolution(capability: tuple[int, int]) -> bool:
    """Whether convolutions of float32 may be."""
    return tf32_in_convolution and capability >= _OLDEST
