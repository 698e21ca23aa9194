"""The compiled base of ``nn.Module`` (``forwarding.pyx``)."""

from typing import Any

class Forwarding:
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
