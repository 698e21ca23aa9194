"""How a convolution works, shown on the user's own layer and data."""

from typing import TYPE_CHECKING

from minidl._on_first_use import on_first_use

if TYPE_CHECKING:
    from minidl.explain.html_page import page
else:
    __getattr__, __dir__ = on_first_use(__name__, {"page": "minidl.explain.html_page"})

__all__ = ["page"]
