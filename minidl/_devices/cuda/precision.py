"""Whether products of float32 may be computed on tensor cores in TF32: PyTorch's switches, and its defaults."""

from __future__ import annotations

allow_in_matmul = False         # minidl.backends.cuda.matmul.allow_tf32
allow_in_convolution = True     # minidl.backends.cudnn.allow_tf32
OLDEST_TENSOR_CORES = (8, 0)    # the compute capability from which on they know TF32
