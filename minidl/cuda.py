"""Questions about GPUs, under PyTorch's names.  This version of minidl computes on the CPU: they are answered so."""


def is_available() -> bool:
    """Whether tensors can be put on ``device='cuda'``."""
    return False


def device_count() -> int:
    """How many GPUs tensors can be put on."""
    return 0
