"""Optimizers with PyTorch's names, defaults and numbers; ``lr_scheduler`` changes their learning rates."""

from typing import TYPE_CHECKING

from minidl._on_first_use import on_first_use
from minidl.optim.adam import Adam, AdamW
from minidl.optim.optimizer import Optimizer
from minidl.optim.sgd import SGD

if TYPE_CHECKING:
    from minidl.optim import lr_scheduler
else:
    __getattr__, __dir__ = on_first_use(__name__, {"lr_scheduler": "minidl.optim.lr_scheduler"})

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
