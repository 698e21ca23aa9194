"""Does an installed minidl work far from its source tree?  Imports it, looks for its files and trains a small net.

Run by CI with ``python -I``, so that neither this folder nor the working directory can be imported from.
"""

import importlib
import importlib.metadata
import sys
from pathlib import Path

import minidl


def check_files() -> None:
    """The package lies in this environment, says the right version and holds what it needs at run time."""
    package = Path(minidl.__file__).parent
    if not package.is_relative_to(sys.prefix):
        sys.exit(f"check_installed: minidl was imported from {package}, not from the environment {sys.prefix}")
    from minidl._version import __version__

    installed = importlib.metadata.version("minidl")
    if installed != __version__:
        sys.exit(f"check_installed: the package says {__version__}, its metadata {installed}")
    for name in ("py.typed", "_libs/LICENSE.openblas.txt"):
        if not (package / name).is_file():
            sys.exit(f"check_installed: {name} is missing from {package}")
    sources = [path.name for path in package.rglob("*") if path.suffix in (".pyx", ".pxd", ".c", ".h")]
    if sources:
        sys.exit(f"check_installed: sources were installed: {sources}")
    importlib.import_module("minidl._ext.blas")  # finds the vendored library through its rpath


def check_training() -> None:
    """A small convolutional net learns which half of an image is brighter."""
    from minidl import nn, optim

    minidl.manual_seed(0)
    images = minidl.randn(128, 1, 8, 8)
    labels = (images[:, :, :, :4].sum(dim=(1, 2, 3)) > images[:, :, :, 4:].sum(dim=(1, 2, 3))).long()
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 2))
    loss_function = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_function(net(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if not losses[-1] < 0.2 * losses[0]:
        sys.exit(f"check_installed: training does not learn: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    print(f"check_installed: loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")


if __name__ == "__main__":
    check_files()
    check_training()
    print(f"check_installed: minidl {importlib.metadata.version('minidl')} works on Python {sys.version.split()[0]}")
