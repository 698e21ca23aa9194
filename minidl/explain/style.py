"""What all pictures have in common: colours, and the word about what is not installed."""

from __future__ import annotations

import importlib
from typing import Any

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart (https://jfly.uni-koeln.de/color).
BLUE, ORANGE, GREEN, YELLOW, SKY, PINK, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#F0E442", "#56B4E9", "#CC79A7", "#8C8C8C")

PACKAGES = {"matplotlib": "matplotlib", "PIL": "Pillow", "graphviz": "graphviz"}


def need(module: str, what: str) -> Any:
    """The imported ``module`` of the extra ``explain``.  Raises ``ImportError`` that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = PACKAGES[module.partition(".")[0]]
        raise ImportError(f"{what} needs {package}: pip install 'minidl[explain]', or pip install {package}",
                          name=error.name, path=error.path) from error


def new_figure(what: str, width: float, height: float, title: str = "") -> Any:
    """An empty matplotlib figure of so many inches for the function ``what``, outside of any window system."""
    figure = need("matplotlib.figure", what).Figure(figsize=(width, height), dpi=110, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def signed_colours() -> Any:
    """A colour map from negative (blue) over zero (white) to positive (orange)."""
    colors = need("matplotlib.colors", "a picture")
    return colors.LinearSegmentedColormap.from_list("minidl_signed", [BLUE, "#FFFFFF", ORANGE])


def plain_axes(axes: Any) -> None:
    """No ticks and a thin frame: for an image."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=GREY, linewidth=0.6)
