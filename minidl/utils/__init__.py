"""What PyTorch keeps in ``torch.utils``: loading data in batches."""

from typing import TYPE_CHECKING

from minidl._on_first_use import on_first_use

if TYPE_CHECKING:
    from minidl.utils import data
else:
    __getattr__, __dir__ = on_first_use(__name__, {"data": "minidl.utils.data"})

__all__ = ["data"]
