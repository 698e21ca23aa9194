"""The data sets that the examples learn from."""

from typing import Any

from minidl.datasets import MNIST, EmbeddedDigits, FashionMNIST

ROOT = "~/.cache/minidl"

# name: (class, mean and standard deviation of the training pixels)
DATASETS = {
    "embedded": (EmbeddedDigits, 0.1307, 0.3081),
    "mnist": (MNIST, 0.1307, 0.3081),
    "fashion-mnist": (FashionMNIST, 0.2860, 0.3530),
}


def load_data(name: str, root: str = ROOT, download: bool = False) -> tuple[Any, Any]:
    """The training and the test split of the data set ``name``, normalized.

    Raises ``RuntimeError`` or ``ValueError`` when its files are missing or damaged.
    """
    dataset, mean, std = DATASETS[name]
    if dataset is EmbeddedDigits:
        return dataset(train=True, mean=mean, std=std), dataset(train=False, mean=mean, std=std)
    return (
        dataset(root, train=True, download=download, mean=mean, std=std),
        dataset(root, train=False, mean=mean, std=std),
    )
