"""``pad``: an input inside a frame."""

from __future__ import annotations

from collections.abc import Sequence

from minidl._tensor import Tensor
from minidl.ops import shape

_MODES = ("constant", "reflect", "replicate", "circular")


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """``pad`` holds (before, after) pairs, the last dimension first: (left, right, top, bottom) for images.

    ``constant`` fills with ``value`` (0); negative amounts crop.  ``reflect`` mirrors without the edge, ``replicate``
    repeats the edge, ``circular`` goes on from the other side.

    Raises ``NotImplementedError`` for another mode, ``RuntimeError`` for amounts that the mode cannot give,
    ``ValueError`` for a value in a mode that takes none.
    """
    if mode not in _MODES:
        raise NotImplementedError(f"pad: unrecognised padding mode {mode!r}; known are {', '.join(_MODES)}")
    if mode != "constant" and value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    return shape.pad_nd(input, tuple(pad), mode, 0 if value is None else value)
