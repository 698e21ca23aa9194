"""``explain.correlation_vs_convolution``: what a kernel does turned and not turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.explain.style import new_figure, plain_axes, signed_colours
from minidl.explain.text import Text, html_matrix, matrix, side_by_side
from minidl.nn import functional as F
from minidl.ops.creation import as_tensor


@dataclass(frozen=True, repr=False)
class TwoWays(Text):
    """A kernel over an image as deep learning applies it, and as mathematics does.

    ``correlation`` is ``F.conv2d(image, kernel)``, ``convolution`` the same with ``turned``, the kernel by 180 degrees;
    both (OH, OW), as large as the image in a frame of zeros.  ``same`` says whether they are equal, whatever the image:
    whether turning changes nothing in the kernel.
    """

    kernel: np.ndarray
    turned: np.ndarray
    image: np.ndarray
    correlation: np.ndarray
    convolution: np.ndarray

    @property
    def same(self) -> bool:
        """Whether turning the kernel changes nothing."""
        return bool(np.array_equal(self.kernel, self.turned))

    def lines(self) -> list[str]:
        return [*side_by_side(("image", matrix(self.image)), ("kernel", matrix(self.kernel)),
                              ("correlation, F.conv2d(image, kernel)", matrix(self.correlation))), "",
                *side_by_side(("image", matrix(self.image)), ("kernel turned", matrix(self.turned)),
                              ("convolution, F.conv2d(image, kernel turned)", matrix(self.convolution))), "",
                *self._meaning()]

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{name}</td>{''.join(f'<td>{html_matrix(part)}</td>' for part in parts)}</tr>"
                       for name, parts in (("correlation", (self.image, self.kernel, self.correlation)),
                                           ("convolution", (self.image, self.turned, self.convolution))))
        return (f"<table><tr><th></th><th>image</th><th>kernel</th><th>output</th></tr>{rows}</table>"
                f"<p>{'<br>'.join(self._meaning())}</p>")

    def figure(self) -> Any:
        """Both ways, drawn: a row each."""
        figure = new_figure("explain.correlation_vs_convolution", 8.4, 5.2,
                            "Turned by 180 degrees or not: convolution and cross-correlation")
        grid = figure.subplots(2, 3)
        parts = ((self.image, self.kernel, self.correlation), (self.image, self.turned, self.convolution))
        titles = (("image", "kernel", "cross-correlation\nF.conv2d(image, kernel)"),
                  ("image", "kernel, turned by 180°", "convolution\nF.conv2d(image, kernel turned)"))
        for row, arrays, names in zip(grid, parts, titles, strict=True):
            for axes, values, name in zip(row, arrays, names, strict=True):
                bound = np.abs(values).max(initial=0) or 1
                axes.imshow(values, cmap=signed_colours(), vmin=-bound, vmax=bound)
                axes.set_title(name, fontsize=9)
                plain_axes(axes)
                if values.size <= 121:
                    for (y, x), value in np.ndenumerate(values):
                        dark = abs(value) > 0.7 * bound
                        told = f"{value:g}" if abs(value - round(value)) < 1e-9 else f"{value:.2g}"
                        axes.text(x, y, told, ha="center", va="center", fontsize=8,
                                  color="white" if dark else "black")
        return figure

    def _meaning(self) -> list[str]:
        single = np.count_nonzero(self.image) == 1
        lines = ["A single 1 shows it: convolution prints the kernel where the 1 is, correlation prints it turned."
                 ] if single else []
        if self.same:
            return [*lines, "This kernel is the same when it is turned, so both are equal and nobody notices."]
        return [*lines, "Conv2d is a cross-correlation. For a convolution turn the kernel: weight.flip(2, 3). A layer "
                        "that",
                "learns its weights does not care: it learns them turned."]


def correlation_vs_convolution(kernel: Any, image: Any = None) -> TwoWays:
    """Apply a kernel (KH, KW) to an image (H, W) in both ways; the image is a single 1 in zeros if it is left out.

    The frame of zeros is as wide as the kernel allows with an output as large as the image (for an odd kernel).

    Raises ``ValueError`` for a kernel or an image that is no matrix.
    """
    laid = np.asarray(as_tensor(kernel).detach().numpy(), np.float64)
    if laid.ndim != 2 or laid.size == 0:
        raise ValueError(f"explain.correlation_vs_convolution: kernel must be a matrix (KH, KW), got shape "
                         f"{laid.shape}")
    KH, KW = laid.shape
    if image is None:
        seen = np.zeros((KH + 2, KW + 2))
        seen[(KH + 2) // 2, (KW + 2) // 2] = 1
    else:
        seen = np.asarray(as_tensor(image).detach().numpy(), np.float64)
    if seen.ndim != 2 or seen.size == 0:
        raise ValueError(f"explain.correlation_vs_convolution: image must be a matrix (H, W), got shape {seen.shape}")
    turned = laid[::-1, ::-1].copy()
    both = as_tensor(np.stack([laid, turned])[:, None])
    output = F.conv2d(as_tensor(seen[None, None]), both, padding=(KH // 2, KW // 2)).numpy()[0]
    return TwoWays(laid, turned, seen, output[0].copy(), output[1].copy())
