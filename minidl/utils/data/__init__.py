"""Datasets, samplers and the ``DataLoader``, with PyTorch's names and, for the same seed, its order of samples."""

from typing import TYPE_CHECKING

from minidl._on_first_use import on_first_use
from minidl.utils.data.collate import default_collate, default_convert
from minidl.utils.data.dataloader import DataLoader
from minidl.utils.data.dataset import (
    ConcatDataset,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
)
from minidl.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
)

if TYPE_CHECKING:
    from minidl.utils.data.worker import get_worker_info
else:
    __getattr__, __dir__ = on_first_use(__name__, {"get_worker_info": "minidl.utils.data.worker"})

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
]
