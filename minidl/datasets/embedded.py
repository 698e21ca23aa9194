"""The digits that come with the package: a small MNIST that needs no download.

``_data/mnist_12000.idx.xz`` holds 10,000 training and 2,000 test digits of MNIST, drawn in equal measure from every
class by ``tools/make_embedded_digits.py``; ``_data/ATTRIBUTION.txt`` names the authors and the licence.

The file is four xz streams one after another, each the bytes of one IDX file (see ``idx``):

    1. test images       uint8 (2000, 28, 28)
    2. test labels       uint8 (2000,)
    3. training images   uint8 (10000, 28, 28)
    4. training labels   uint8 (10000,)

The small split comes first, so that whoever wants it alone decodes little. The SHA-256 of the whole file is checked
before anything is decoded.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .idx import parse_idx
from .labelled_images import LabelledImages
from .mnist import MNIST

FILE = Path(__file__).parent / "_data" / "mnist_12000.idx.xz"
SHA256 = "600e921349e8b60e29d576ddb9a0880d274aeabe1e888ffb619c102f3e6bebe0"


def read_embedded(path: Path, sha256: str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28) and labels uint8 (N,) of one split of the embedded file ``path``.

    Raises ``RuntimeError`` when the file is missing or is not the one with this checksum.
    """
    import lzma

    try:
        rest = path.read_bytes()
    except FileNotFoundError:
        raise RuntimeError(f"EmbeddedDigits: {path} is missing from the installation; reinstall minidl") from None
    found = hashlib.sha256(rest).hexdigest()
    if found != sha256:
        raise RuntimeError(
            f"EmbeddedDigits: {path} is damaged: {len(rest)} bytes with SHA-256 {found}, expected {sha256}; "
            "reinstall minidl"
        )
    arrays = []
    for _ in range(4 if train else 2):
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        arrays.append(parse_idx(stream.decompress(rest), path))
        rest = stream.unused_data
    return arrays[-2], arrays[-1]


class EmbeddedDigits(LabelledImages):
    """12,000 handwritten digits out of MNIST, inside the package: 10,000 to train, 2,000 to test, 28x28, 10 classes.

    The class proportions are those of MNIST; training digits are training digits of MNIST and test digits its test
    digits, in random order. For what a sample is, and for ``mean`` and ``std``, see ``LabelledImages``.

    Raises ``RuntimeError`` when the package's data file is damaged.
    """

    classes = MNIST.classes

    def __init__(
        self,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        *,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        self.train = train
        images, labels = read_embedded(FILE, SHA256, train)
        super().__init__(images, labels.astype(np.int64), transform, target_transform, mean=mean, std=std)

    def extra_repr(self) -> list[str]:
        return [f"Split: {'Train' if self.train else 'Test'}"]
