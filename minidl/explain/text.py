"""Tables and small matrices, as lines of text for a terminal and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np


class Text:
    """An explanation: ``lines()`` are its text, which ``print`` and the prompt show, and a notebook in a frame."""

    def lines(self) -> list[str]:
        """The text, line by line."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<pre style="line-height: 1.25">{escape(str(self))}</pre>'


def number(value: float) -> str:
    """A number in at most four digits, or whole."""
    value = float(value) + 0.0  # no -0
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"


def by(sizes: Sequence[Any]) -> str:
    """``5 x 3``"""
    return " x ".join(map(str, sizes))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> list[str]:
    """The rows under their head, the first ``left`` columns to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) if i < left else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in cells]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def html_table(head: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> str:
    """The same as HTML."""
    def row(cells: Sequence[Any], tag: str) -> str:
        sides = ["left" if i < left else "right" for i in range(len(cells))]
        return "<tr>" + "".join(f'<{tag} style="text-align: {side}">{escape(str(cell))}</{tag}>'
                                for side, cell in zip(sides, cells, strict=True)) + "</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f"<table><thead>{row(head, 'th')}</thead><tbody>{body}</tbody></table>"


def matrix(values: np.ndarray, framed: np.ndarray | None = None) -> list[str]:
    """A matrix, line by line; what lies in ``framed`` is in brackets."""
    values = np.atleast_2d(values)
    marks = np.zeros(values.shape, bool) if framed is None else np.atleast_2d(framed)
    cells = [[f"[{number(value)}]" if mark else f" {number(value)} " for value, mark in zip(row, marked, strict=True)]
             for row, marked in zip(values, marks, strict=True)]
    width = max((len(cell) for row in cells for cell in row), default=0)
    return [" ".join(cell.rjust(width) for cell in row).rstrip() for row in cells]


def side_by_side(*blocks: tuple[str, Sequence[str]], gap: int = 3) -> list[str]:
    """Titled blocks of lines beside each other."""
    columns = [[title, *lines] for title, lines in blocks]
    height = max(map(len, columns))
    widths = [max(map(len, column)) for column in columns]
    return [(" " * gap).join((column[i] if i < len(column) else "").ljust(width)
                             for column, width in zip(columns, widths, strict=True)).rstrip() for i in range(height)]


def html_matrix(values: np.ndarray, framed: np.ndarray | None = None) -> str:
    """A matrix as HTML; what lies in ``framed`` is grey with a dashed border."""
    values = np.atleast_2d(values)
    marks = np.zeros(values.shape, bool) if framed is None else np.atleast_2d(framed)
    plain = "padding: 2px 6px; text-align: right; border: 1px solid #8C8C8C"
    dashed = "padding: 2px 6px; text-align: right; border: 1px dashed #8C8C8C; color: #8C8C8C"
    rows = ("".join(f'<td style="{dashed if mark else plain}">{number(value)}</td>'
                    for value, mark in zip(row, marked, strict=True))
            for row, marked in zip(values, marks, strict=True))
    return f'<table style="display: inline-table">{"".join(f"<tr>{row}</tr>" for row in rows)}</table>'
