"""What PyTorch keeps in ``torch.utils``: loading data in batches."""

from minidl.utils import data

__all__ = ["data"]
