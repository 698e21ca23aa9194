"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import minidl


@pytest.fixture
def torch() -> Any:
    """PyTorch, or the test is skipped."""
    return pytest.importorskip("torch")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads, whatever the machine has; as many as before afterwards."""
    before = minidl.get_num_threads()
    minidl.set_num_threads(2)
    yield
    minidl.set_num_threads(before)


@pytest.fixture(scope="session")
def gpu() -> Any:
    """The operations of a GPU, the emulated one by default (see ``cuda_device``), or the test is skipped."""
    import cuda_device
    from cuda_emulation import CannotEmulateError

    try:
        return cuda_device.backend()
    except CannotEmulateError as error:
        pytest.skip(str(error))
