"""The digits that training runs read: MNIST's files where a folder is given, else those inside minidl.

They are read here, in a few lines, and not by minidl: what PyTorch's processes take must not be minidl's time.
"""

from __future__ import annotations

import gzip
import importlib.util
import lzma
from pathlib import Path

import numpy as np

MEAN, STD = 0.1307, 0.3081


def _parsed(data: bytes) -> np.ndarray:
    """One IDX file of bytes: four bytes of magic, the last the number of dimensions; the sizes; the numbers."""
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _embedded(train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of the streams test images, test labels, training images, training labels those of the split."""
    spec = importlib.util.find_spec("minidl")  # found, not imported
    assert spec is not None and spec.origin is not None
    rest = (Path(spec.origin).parent / "datasets" / "_data" / "mnist_12000.idx.xz").read_bytes()
    arrays = []
    for _ in range(4 if train else 2):
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        arrays.append(_parsed(stream.decompress(rest)))
        rest = stream.unused_data
    return arrays[-2], arrays[-1]


def _of_folder(root: str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's own files somewhere below ``root``, packed or not."""
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        name = f"{'train' if train else 't10k'}-{kind}-ubyte"
        found = sorted(file for file in Path(root).rglob(f"{name}*") if file.name in (name, f"{name}.gz"))
        if not found:
            raise SystemExit(f"benchmarks: --mnist {root}: neither {name} nor {name}.gz is there")
        data = found[0].read_bytes()
        arrays.append(_parsed(gzip.decompress(data) if found[0].suffix == ".gz" else data))
    return arrays[0], arrays[1]


def arrays(root: str | None, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images (n, 1, 28, 28) float32 and labels (n,) int64."""
    images, labels = _embedded(train) if root is None else _of_folder(root, train)
    return (images[:, None] / np.float32(255) - np.float32(MEAN)) / np.float32(STD), labels.astype(np.int64)


def as_many_as_mnist(images: np.ndarray, labels: np.ndarray, count: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """The digits again and again, until there are ``count``."""
    places = np.arange(count) % len(images)
    return images[places], labels[places]
