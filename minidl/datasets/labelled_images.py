"""Images with labels, held in memory as bytes: what every data set of this package is.

``LabelledImages`` gives samples one by one, as torchvision's data sets do, and whole batches with one gather.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minidl._ext.core import Tensor
from minidl._ext.pixels import gather_scaled
from minidl._ext.storage import empty
from minidl.ops.creation import from_numpy
from minidl.utils.data import Dataset


def _to_tensor(array: np.ndarray) -> Tensor:
    """The one place where an array of this package becomes what the user gets."""
    return from_numpy(array)


class Batch(Sequence):
    """A batch gathered in one go, which still looks like the list of its samples.

    ``images`` is (n, 1, H, W) float32 and ``labels`` is (n,) int64. A ``collate_fn`` written for a list of samples
    finds ``len``, indexing and iteration; the default collation asks for ``collated()`` and copies nothing.
    """

    def __init__(self, images: Any, labels: Any) -> None:
        self.images = images
        self.labels = labels

    def collated(self) -> list[Any]:
        """``[images, labels]``, which is what stacking the samples one by one would give."""
        return [self.images, self.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.images[index], int(self.labels[index])

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


class LabelledImages(Dataset[Any]):
    """Grey images with class labels.

    A sample is ``(image, label)``. Without a ``transform`` the image is what torchvision's ``ToTensor`` makes of it:
    float32, (1, H, W), pixels divided by 255; then ``(pixel - mean) / std`` where these are given. (torchvision's own
    data sets give a PIL image here; nothing in minidl needs PIL.) A ``transform`` gets a copy of the raw image, uint8
    (H, W), as ``ToTensor`` wants it, and its result is the image; ``mean`` and ``std`` cannot be combined with it.
    ``target_transform`` gets the label, an ``int``.

    ``data`` is a uint8 tensor (N, H, W) and ``targets`` an int64 tensor (N,). Both may be replaced, for example by a
    slice of themselves.
    """

    classes: Sequence[str] = ()

    def __init__(
        self,
        data: np.ndarray,
        targets: np.ndarray,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        *,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        name = type(self).__name__
        if std == 0:
            raise ValueError(f"{name}: std is 0, but pixels are divided by it")
        self._mean, self._std = np.float32(mean), np.float32(std)
        self._normalizes = (mean, std) != (0.0, 1.0)
        if self._normalizes and transform is not None:
            raise ValueError(f"{name}: a transform gets the raw image, which mean and std do not touch; "
                             "normalize inside the transform, or leave it out")
        self.data = _to_tensor(data)
        self.targets = _to_tensor(targets)
        self.transform = transform
        self.target_transform = target_transform

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class name."""
        return {name: label for label, name in enumerate(self.classes)}

    def _scaled(self, raw: np.ndarray) -> np.ndarray:
        """Fresh float32 pixels of a uint8 array, with the roundings of torchvision's ToTensor and Normalize."""
        images = empty(raw.shape, np.dtype(np.float32))
        np.copyto(images, raw)
        images /= np.float32(255)
        if self._normalizes:
            images -= self._mean
            images /= self._std
        return images

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Sample ``index``: ``(image, label)``. Raises ``IndexError`` when it is out of range."""
        i = operator.index(index)
        raw = np.asarray(self.data)[i]
        label = int(np.asarray(self.targets)[i])
        image = _to_tensor(self._scaled(raw[None])) if self.transform is None else self.transform(raw.copy())
        return image, label if self.target_transform is None else self.target_transform(label)

    def fetch(self, indices: Sequence[int] | np.ndarray) -> tuple[Any, Any]:
        """The samples ``indices``, gathered in one go: images (n, 1, H, W) float32 and labels (n,) int64.

        Bit for bit the samples that indexing gives, but for ``transform`` and ``target_transform``, which are left
        out. Raises ``IndexError`` for an index out of range and ``TypeError`` for indices that are not integers.
        """
        data, rows = np.asarray(self.data), np.asarray(indices)
        if rows.size == 0:
            rows = rows.astype(np.intp)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise TypeError(f"{type(self).__name__}.fetch: indices are {rows.dtype} {rows.shape}, "
                            "expected a flat list or array of integers")
        rows = rows.astype(np.int64, casting="safe", copy=False)
        images = gather_scaled(data, rows, float(self._mean), float(self._std))
        if images is None:
            images = self._scaled(data.take(rows, axis=0))
        return (_to_tensor(images.reshape(len(rows), 1, *data.shape[1:])),
                _to_tensor(np.asarray(self.targets).take(rows)))

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> Sequence[tuple[Any, Any]]:
        """PyTorch's protocol for batched fetching: the samples ``indices``, which the loader then collates.

        With a transform it is a list of samples made one by one, else a ``Batch`` made by ``fetch``.
        """
        if self.transform is None and self.target_transform is None:
            return Batch(*self.fetch(indices))
        return [self[i] for i in indices]

    def extra_repr(self) -> list[str]:
        """Lines for ``repr`` that only the subclass knows."""
        return []

    def __repr__(self) -> str:
        lines = [f"Number of datapoints: {len(self)}", *self.extra_repr()]
        if self._normalizes:
            lines.append(f"Normalized: mean={self._mean}, std={self._std}")
        if self.transform is not None:
            lines.append(f"Transform: {self.transform!r}")
        if self.target_transform is not None:
            lines.append(f"Target transform: {self.target_transform!r}")
        return "\n    ".join([f"Dataset {type(self).__name__}", *lines])
