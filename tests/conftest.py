"""Fixtures for all tests."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def torch() -> Any:
    """PyTorch, or the test is skipped."""
    return pytest.importorskip("torch")
