"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import minidl


def pytest_sessionstart(session: pytest.Session) -> None:
    """Who asks for tests on a real GPU where there is none is told so: tests that skip or fail would hide it."""
    if os.environ.get("MINIDL_TEST_GPU") == "real":
        from minidl._devices.registry import cuda_backend

        try:
            cuda_backend(0)
        except RuntimeError as error:
            pytest.exit(f"MINIDL_TEST_GPU=real asks for tests on a real GPU: {error}", returncode=1)


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
