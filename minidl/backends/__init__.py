"""PyTorch's public switches of its backends, as far as minidl has the thing behind them."""

from __future__ import annotations

from minidl.backends import cpu, cuda, cudnn

__all__ = ["cpu", "cuda", "cudnn", "mkldnn", "mps"]


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
