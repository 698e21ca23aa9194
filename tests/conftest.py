"""Fixtures for all tests."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

import minidl
from minidl._ext import instruction_set


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


@pytest.fixture(params=[1, 2, 3], ids=["one thread", "two threads", "three threads"])
def thread_count(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads, and as many as before afterwards."""
    before = minidl.get_num_threads()
    minidl.set_num_threads(request.param)
    yield request.param
    minidl.set_num_threads(before)


@pytest.fixture(params=instruction_set.supported())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kernels of each instruction set that this machine runs."""
    before = instruction_set.use(request.param)
    yield request.param
    instruction_set.use(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, or the tests are skipped; with MINIDL_CHROMIUM=required they fail instead."""
    required = os.environ.get("MINIDL_CHROMIUM") == "required"
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None and not required:
        pytest.skip("no Chromium found (Debian/Ubuntu: sudo apt install chromium)")
    sync_api = importlib.import_module("playwright.sync_api") if required else pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def gpu() -> Any:
    """The operations of a GPU, the emulated one by default (see ``cuda_device``), or the test is skipped."""
    import cuda_device
    from cuda_emulation import CannotEmulateError

    try:
        return cuda_device.backend()
    except CannotEmulateError as error:
        pytest.skip(str(error))


@pytest.fixture
def strict() -> Iterator[None]:
    """Convolutions of float32 in float32 on a GPU, as the CPU has them."""
    before = minidl.backends.cudnn.allow_tf32
    minidl.backends.cudnn.allow_tf32 = False
    yield
    minidl.backends.cudnn.allow_tf32 = before


@pytest.fixture
def pooled(gpu: Any) -> Iterator[None]:
    """The GPU's pool as users have it, which keeps blocks."""
    from minidl._ext.device_pool import DevicePool

    before = gpu.runtime.pool
    gpu.runtime.pool = DevicePool(gpu.runtime._take)
    yield
    gpu.runtime.pool = before
