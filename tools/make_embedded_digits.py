"""Make the digits that come with the package, out of the four IDX files of MNIST (plain or gzip):

    python tools/make_embedded_digits.py SOURCE_DIR

Draws 10,000 of the 60,000 training digits and 2,000 of the 10,000 test digits, every class in proportion to its
share of the full set, in random order, and writes them to ``minidl/datasets/_data`` in the layout that
``minidl/datasets/embedded.py`` describes, then prints the SHA-256 for that file. The same input gives the same bytes
(with another version of liblzma perhaps a differently packed file of the same content).
"""

import argparse
import hashlib
import lzma
import sys
from pathlib import Path

import numpy as np

# The minidl of this checkout, whatever is installed.
sys.path.insert(0, str(Path(__file__).parent.parent))

from minidl.datasets import MNIST
from minidl.datasets.embedded import FILE, SHA256
from minidl.datasets.idx import format_idx

SEED = 1998  # the year of LeNet-5
TRAIN, TEST = 10_000, 2_000
MAX_BYTES = 2_500_000

# lc=4 (four bits of the byte before as context) and no alignment packed these images best; the default lc=3 comes
# within 0.2 %. A dictionary of 8 MiB spans all of them.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 2**23, "lc": 4, "lp": 0, "pb": 0}]


def class_counts(labels: np.ndarray, total: int) -> np.ndarray:
    """How many digits of each class to take, so that they sum to ``total``: shares rounded by largest remainder."""
    shares = np.bincount(labels, minlength=10) * total / len(labels)
    counts = shares.astype(np.int64)
    largest = np.argsort(counts - shares, kind="stable")[: total - counts.sum()]
    counts[largest] += 1
    return counts


def stratified_subset(labels: np.ndarray, total: int, seed: int) -> np.ndarray:
    """Indices of ``total`` digits, each class in its share, in random order."""
    random = np.random.RandomState(seed)  # unlike default_rng, its numbers are promised never to change
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(class_counts(labels, total))
    ]
    return random.permutation(np.concatenate(chosen))


def check_disjoint(images: np.ndarray, others: np.ndarray) -> None:
    """Exit when an image is there twice, or is also one of ``others``."""
    ours = [image.tobytes() for image in images]
    if len(set(ours)) < len(ours) or not {image.tobytes() for image in others}.isdisjoint(ours):
        sys.exit("a chosen digit is there twice, or in both the training and the test set: choose another SEED")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE_DIR", help="folder with the IDX files of MNIST")
    parser.add_argument("--out", type=Path, default=FILE, help="file to write (default: the package's)")
    arguments = parser.parse_args()

    train, test = MNIST(arguments.source), MNIST(arguments.source, train=False)
    arrays = []
    for digits, others, total in ((test, train, TEST), (train, test, TRAIN)):
        images, labels = digits.data.numpy(), digits.targets.numpy()
        chosen = stratified_subset(labels, total, SEED)
        check_disjoint(images[chosen], others.data.numpy())
        arrays += [images[chosen], labels[chosen].astype(np.uint8)]

    # The SHA-256 of the whole file is the check, so the streams carry none of their own.
    packed = b"".join(
        lzma.compress(format_idx(array), lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=FILTERS) for array in arrays
    )
    if len(packed) > MAX_BYTES:
        sys.exit(f"{len(packed)} bytes are more than the {MAX_BYTES} allowed in the package")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(packed)
    digest = hashlib.sha256(packed).hexdigest()
    print(f"{arguments.out}: {len(packed)} bytes, SHA-256 {digest}")
    if digest != SHA256:
        print("put this SHA-256 into minidl/datasets/embedded.py")


if __name__ == "__main__":
    main()
