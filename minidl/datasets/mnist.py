"""MNIST and Fashion-MNIST from their published IDX files, each verified by its MD5.

This file knows which files there are, where to look for them and what their bytes must be; ``idx`` knows the format
and ``download`` how to get a file.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .idx import parse_idx, read_bytes
from .labelled_images import LabelledImages


@dataclass(frozen=True)
class IdxFile:
    """A published file: its name without ``.gz``, the shape of its uint8 array, the MD5 of the uncompressed file."""

    name: str
    shape: tuple[int, ...]
    md5: str


class MNIST(LabelledImages):
    """The 70,000 handwritten digits of LeCun, Cortes and Burges: 60,000 to train, 10,000 to test, 28x28, 10 classes.

    Arguments, attributes and folders are those of ``torchvision.datasets.MNIST``; for what a sample is, and for
    ``mean`` and ``std``, see ``LabelledImages``.

    The files, plain or gzip, are looked for in ``root/MNIST/raw``, ``root/raw`` and ``root``. With ``download=True``
    the files of both splits that are missing or damaged are fetched into ``root/MNIST/raw``.

    Raises ``RuntimeError`` when a file is not there (or cannot be downloaded) and ``ValueError`` when it is there but
    truncated, swapped with another one or otherwise not the published one.
    """

    # Keyed by `train`: the file of images, then the file of labels.
    files: ClassVar[dict[bool, tuple[IdxFile, IdxFile]]] = {
        True: (
            IdxFile("train-images-idx3-ubyte", (60000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
            IdxFile("train-labels-idx1-ubyte", (60000,), "a25bea736e30d166cdddb491f175f624"),
        ),
        False: (
            IdxFile("t10k-images-idx3-ubyte", (10000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
            IdxFile("t10k-labels-idx1-ubyte", (10000,), "27ae3e4e09519cfbb04c329615203637"),
        ),
    }
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    system_folders: ClassVar[tuple[Path, ...]] = ()
    classes = (
        "0 - zero", "1 - one", "2 - two", "3 - three", "4 - four",
        "5 - five", "6 - six", "7 - seven", "8 - eight", "9 - nine",
    )  # fmt: skip

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,
        *,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        self.root = Path(root).expanduser()
        self.train = train
        if download:
            self.download()
        images, labels = (self._read(file) for file in self.files[bool(train)])
        super().__init__(images, labels.astype(np.int64), transform, target_transform, mean=mean, std=std)

    @property
    def raw_folder(self) -> Path:
        """The folder that a download fills: ``root/<name of the class>/raw``."""
        return self.root / type(self).__name__ / "raw"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders where files are looked for, the first that holds a good one wins."""
        return (self.raw_folder, self.root / "raw", self.root, *self.system_folders)

    def download(self) -> None:
        """Fetch each file of both splits that is not there, or not intact, into ``raw_folder``."""
        from .download import download

        for file in (*self.files[True], *self.files[False]):
            try:
                self._read(file)
            except (RuntimeError, ValueError):
                download(
                    [f"{mirror}{file.name}.gz" for mirror in self.mirrors],
                    self.raw_folder / f"{file.name}.gz",
                    verify=partial(self._read_checked, file),
                )

    def extra_repr(self) -> list[str]:
        return [f"Root location: {self.root}", f"Split: {'Train' if self.train else 'Test'}"]

    def _read(self, file: IdxFile) -> np.ndarray:
        """The array of ``file``, from the first intact copy in ``folders``."""
        paths = [folder / name for folder in self.folders for name in (file.name, f"{file.name}.gz")]
        problems = []
        for path in filter(Path.is_file, paths):
            try:
                return self._read_checked(file, path)
            except ValueError as error:
                problems.append(str(error))
        name = type(self).__name__
        if problems:
            raise ValueError(f"{name}: {'; '.join(problems)}; delete it, or pass download=True for a good copy")
        raise RuntimeError(
            f"{name}: {file.name} not found, plain or .gz, in {', '.join(map(str, self.folders))}; "
            "pass download=True to fetch it, or set root to the folder that holds it"
        )

    def _read_checked(self, expected: IdxFile, path: Path) -> np.ndarray:
        """The array in ``path``, or ``ValueError`` that says what the file is and what it should have been."""
        content = read_bytes(path)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if md5 == expected.md5:
            return parse_idx(content, path)
        wanted = f"expected {expected.name} of {type(self).__name__}"
        for dataset, file in self._published():
            if file.md5 == md5:
                raise ValueError(f"{path} holds {file.name} of {dataset.__name__}, {wanted}")
        array = parse_idx(content, path)
        if array.shape != expected.shape or array.dtype != np.uint8:
            raise ValueError(f"{path} holds {array.dtype} {array.shape}, {wanted}, uint8 {expected.shape}")
        raise ValueError(f"{path} has the right shape but other content (MD5 {md5}), {wanted} (MD5 {expected.md5})")

    @classmethod
    def _published(cls) -> Iterator[tuple[type["MNIST"], IdxFile]]:
        """Every file that a wrong file could turn out to be."""
        for dataset in (cls, MNIST, FashionMNIST):
            for pair in dataset.files.values():
                for file in pair:
                    yield dataset, file


class FashionMNIST(MNIST):
    """Zalando's 70,000 pictures of clothes, in MNIST's form (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747; MIT).

    As ``MNIST``, with ``FashionMNIST`` in the place of ``MNIST`` in folder names; also found where Debian's package
    ``dataset-fashion-mnist`` puts it.
    """

    files: ClassVar[dict[bool, tuple[IdxFile, IdxFile]]] = {
        True: (
            IdxFile("train-images-idx3-ubyte", (60000, 28, 28), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
            IdxFile("train-labels-idx1-ubyte", (60000,), "9018921c3c673c538a1fc5bad174d6f9"),
        ),
        False: (
            IdxFile("t10k-images-idx3-ubyte", (10000, 28, 28), "8181f5470baa50b63fa0f6fddb340f0a"),
            IdxFile("t10k-labels-idx1-ubyte", (10000,), "15d484375f8d13e6eb1aabb0c3f46965"),
        ),
    }
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )
    system_folders = (Path("/usr/share/datasets/fashion-mnist"),)
    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
