"""The text of a tensor, to the letter as PyTorch writes it, and the options that shape it.

Works on raw arrays: ``tensor_repr`` is told by words what an array does not know (its device, its gradient).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl import _types

PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


class _Options:
    precision: int
    threshold: float
    edgeitems: int
    linewidth: int
    sci_mode: bool | None


_options = _Options()


def set_printoptions(precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:
    """Set how tensors are printed; what is None stays as it is, except ``sci_mode``.

    Args:
        precision: digits after the point (4).
        threshold: tensors of more elements than this are summarised (1000).
        edgeitems: elements shown at either end of a summarised dimension (3).
        linewidth: characters per line (80).
        profile: 'default', 'short' or 'full', a set of the above, which then can be given to differ from it.
        sci_mode: True or False for scientific notation always or never, None (also where it is not given) to let the
            numbers decide: largest / smallest > 1000, or largest > 1e8, or smallest < 1e-4.
    """
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(f"set_printoptions: no profile {profile!r}; there are {', '.join(PROFILES)}")
        vars(_options).update(PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    vars(_options).update({name: value for name, value in given.items() if value is not None})
    _options.sci_mode = sci_mode


set_printoptions(profile="default")


def get_printoptions() -> dict[str, Any]:
    """The present options, as a dictionary that ``set_printoptions`` takes as keywords."""
    return dict(vars(_options))


@contextlib.contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Print with other options inside a ``with``; takes what ``set_printoptions`` takes."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


def tensor_repr(array: np.ndarray, device: str = "cpu", requires_grad: bool = False, grad_fn: str | None = None,
                prefix: str = "tensor(") -> str:
    """The text of a tensor.

    Args:
        array: its values, of any strides.
        device: where it lives, named unless it is the CPU.
        requires_grad: whether it is a leaf that wants a gradient.
        grad_fn: the name of the node that made it, if there is one (``MulBackward0``); goes before ``requires_grad``.
        prefix: what comes before the values; for a subclass its name and a parenthesis.
    """
    dtype = _types.from_numpy_dtype(array.dtype)
    default = _types.get_default_dtype()
    suffixes = []
    if device != "cpu":
        suffixes.append(f"device='{device}'")
    if (array.size == 0 and array.ndim != 1) or (array.size and not _options.edgeitems):
        suffixes.append(f"size={tuple(array.shape)}")
    # Without elements to tell it, the dtype of integers and bools is not plain either.
    if dtype is not default and (array.size == 0 or dtype not in (_types.int64, _types.bool_)):
        suffixes.append(f"dtype={dtype}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + _contents(array, len(prefix)), suffixes, len(prefix))


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    """``text`` and ``suffixes`` with commas between, a new line begun where the next suffix would be too long."""
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            length = indent + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"


def _contents(array: np.ndarray, indent: int) -> str:
    """The values in their brackets, the first one ``indent`` characters from the left."""
    if array.size == 0:
        return "[]"
    summarize = array.size > _options.threshold
    number, width = _number_format(_shown(array) if summarize else array)
    return _nested(array, indent, summarize, number, width)


def _shown(array: np.ndarray) -> np.ndarray:
    """The part of ``array`` that a summary shows: the edges of each dimension."""
    edge = _options.edgeitems
    for axis, size in enumerate(array.shape):
        if size > 2 * edge:
            array = np.take(array, [*range(edge), *range(size - edge, size)], axis)
    return array


def _number_format(shown: np.ndarray) -> tuple[Callable[[Any], str], int]:
    """How one number is written, and the width to which all are filled up from the left."""
    if shown.dtype.kind != "f":
        return str, max((len(str(value)) for value in shown.ravel().tolist()), default=1)
    values = shown.astype(np.float64).ravel()
    deciding = values[np.isfinite(values) & (values != 0)]
    if deciding.size == 0:
        return _whole, 1
    largest, smallest = float(np.abs(deciding).max()), float(np.abs(deciding).min())
    scientific = _options.sci_mode
    if scientific is None:
        scientific = largest / smallest > 1000.0 or largest > 1.0e8 or smallest < 1.0e-4
    if scientific:
        number: Callable[[Any], str] = f"{{:.{_options.precision}e}}".format
    elif (deciding == np.ceil(deciding)).all():
        number = _whole
    else:
        number = f"{{:.{_options.precision}f}}".format
    return number, max(len(number(value)) for value in deciding.tolist())


def _whole(value: float) -> str:
    """A whole floating number: digits and a point; without it, infinities and nan."""
    return f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"


def _nested(array: np.ndarray, indent: int, summarize: bool, number: Callable[[Any], str], width: int) -> str:
    if array.ndim == 0:
        return number(array.item()).rjust(width)
    edge = _options.edgeitems
    cut = summarize and len(array) > 2 * edge
    if array.ndim == 1:
        return _row(array, indent, cut, number, width)
    rows = [*range(edge), *range(len(array) - edge, len(array))] if cut else range(len(array))
    parts = [_nested(array[row], indent + 1, summarize, number, width) for row in rows]
    if cut:
        parts.insert(edge, "...")
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _row(row: np.ndarray, indent: int, cut: bool, number: Callable[[Any], str], width: int) -> str:
    edge = _options.edgeitems
    if cut and edge == 0:
        words = ["..."]
    else:
        shown = np.concatenate((row[:edge], row[-edge:])) if cut else row
        words = [number(value).rjust(width) for value in shown.tolist()]
        if cut:
            words.insert(edge, " ...")
    per_line = max(1, (_options.linewidth - indent) // (width + 2))
    lines = [", ".join(words[begin:begin + per_line]) for begin in range(0, len(words), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
