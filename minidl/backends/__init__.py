"""PyTorch's public switches of its backends, as far as minidl has the thing behind them."""

from __future__ import annotations

from types import SimpleNamespace

from minidl.backends import cpu


class _Absent:
    """A backend that minidl does not have."""

    def is_available(self) -> bool:
        """Always False."""
        return False

    def is_built(self) -> bool:
        """Always False."""
        return False


mps = _Absent()
mkldnn = _Absent()
cuda = SimpleNamespace(is_built=lambda: False)
