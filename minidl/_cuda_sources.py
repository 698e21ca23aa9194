"""Where the CUDA C sources lie: ``minidl/_cuda`` in an installed package, ``cuda/`` in the source tree."""

from pathlib import Path


def folder() -> Path:
    """The folder that holds the ``*.cu`` and ``*.cuh`` files.

    Raises ``FileNotFoundError`` where an installation has lost them.
    """
    package = Path(__file__).resolve().parent
    installed, source_tree = package / "_cuda", package.parent / "cuda"
    if installed.is_dir():
        return installed
    if source_tree.is_dir() and (package.parent / "setup.py").is_file():
        return source_tree
    raise FileNotFoundError(
        f"minidl's CUDA sources are neither in {installed} nor in {source_tree}: install minidl again from its wheel, "
        "or from the source tree with pip install -e ."
    )
