"""``explain.channels``: what every kernel makes of every channel of the input, and how it adds up."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl.autograd import no_grad
from minidl.explain.style import new_figure, plain_axes, signed_colours
from minidl.explain.taps import as_batch, need_planes, output_of
from minidl.nn import functional as F

MOST_CELLS = 8  # input and output channels that the picture has room for
_COLOURS = ("red", "green", "blue")


class Channels(NamedTuple):
    """The picture, and the maps (N, OC, C, OH, OW) in it: channel c with the kernel of output channel oc.

    ``maps.sum(2)`` and the bias are the layer's output; a channel of another group has a map of zeros.
    """

    figure: Any
    maps: np.ndarray


def channels(layer: Any, input: Any, n: int = 0, image: Any = None) -> Channels:
    """Draw what each kernel K(c, k) makes of each input channel X(c): channels down, kernels across, sums on top.

    ``layer`` is a Conv2d or ConvTranspose2d, ``input`` (N, C, H, W) or (C, H, W), of which image ``n`` is drawn; three
    channels are shown in colour too.  ``image`` (H, W) or (H, W, 3) is shown instead, where the input was normalized.
    The picture has room for the first eight channels and kernels, the maps are of all.

    Raises ``TypeError`` for another layer, ``IndexError`` for an ``n`` that is not there, ``ImportError`` without
    matplotlib, and what the layer raises for an input that does not fit.
    """
    need_planes(layer, "channels")
    batch = as_batch(layer, input)
    output = output_of(layer, batch)
    if not 0 <= n < len(output):
        raise IndexError(f"explain.channels: there is no image {n}; the input {tuple(batch.shape)} has {len(output)}")
    maps = channel_maps(layer, batch)
    return Channels(_drawn(layer, batch.numpy()[n], maps[n], output[n], image), maps)


def channel_maps(layer: Any, batch: Any) -> np.ndarray:
    """The maps (N, OC, C, OH, OW), by the layer's own function, one channel at a time."""
    OC, C, groups = layer.out_channels, layer.in_channels, layer.groups
    kernels, seen = OC // groups, C // groups
    with no_grad():
        weight, padding = layer.weight.detach(), layer.padding
        if layer.padding_mode != "zeros":
            batch, padding = F.pad(batch, layer._frame(), layer.padding_mode), 0
        maps: np.ndarray | None = None
        for c in range(C):
            g, channel = divmod(c, seen)
            ocs = slice(g * kernels, (g + 1) * kernels)
            plane = batch[:, c:c + 1]
            if layer.transposed:
                made = F.conv_transpose2d(plane, weight[c:c + 1], None, layer.stride, padding, layer.output_padding, 1,
                                          layer.dilation)
            else:
                made = F.conv2d(plane, weight[ocs, channel:channel + 1], None, layer.stride, padding, layer.dilation)
            if maps is None:
                maps = np.zeros((len(batch), OC, C, *made.shape[2:]), made.numpy().dtype)
            maps[:, ocs, c] = made.numpy()
    assert maps is not None
    return maps


def _drawn(layer: Any, planes: np.ndarray, maps: np.ndarray, output: np.ndarray, image: Any) -> Any:
    """planes (C, H, W), maps (OC, C, OH, OW), output (OC, OH, OW): a row above for the sums, then one per channel."""
    OC, C = min(len(maps), MOST_CELLS), min(len(planes), MOST_CELLS)
    cell, aspect = 1.75, output.shape[1] / output.shape[2]
    cell_height = min(max(cell * aspect, 0.9), 2.6)
    left_out = "" if (len(maps), len(planes)) == (OC, C) else (
        f"; {len(planes) - C} of {len(planes)} channels and {len(maps) - OC} of {len(maps)} kernels have no room here")
    figure = new_figure("explain.channels", cell * (OC + 1) + 0.9, (cell_height + 0.32) * (C + 1) + 0.8,
                        f"{layer}\neach map is one channel with one kernel; a column and its bias add up to an output "
                        f"channel{left_out}")
    grid = figure.subplots(C + 1, OC + 1, squeeze=False)
    bound = max(np.abs(maps[:OC, :C]).max(initial=0), np.abs(output[:OC]).max(initial=0)) or 1
    kernel_bound = float(layer.weight.detach().abs().max().item()) or 1
    signed = {"cmap": signed_colours(), "interpolation": "nearest"}
    for axes in grid.flat:
        plain_axes(axes)
    _draw_input(grid[0, 0], planes, image)
    bias = None if layer.bias is None else layer.bias.detach().numpy()
    per_group = len(maps) // layer.groups
    seen = len(planes) // layer.groups
    drawn = None
    for oc in range(OC):
        drawn = grid[0, oc + 1].imshow(output[oc], vmin=-bound, vmax=bound, **signed)
        grid[0, oc + 1].set_title(f"output {oc}" + ("" if bias is None else f"\nsum {bias[oc]:+.3g} bias"), fontsize=8)
    names = [f"{_COLOURS[c]} " if len(planes) == 3 else "" for c in range(C)]
    for c in range(C):
        grid[c + 1, 0].imshow(planes[c], cmap="gray", interpolation="nearest")
        grid[c + 1, 0].set_title(f"{names[c]}channel {c}", fontsize=8)
        for oc in range(OC):
            axes = grid[c + 1, oc + 1]
            if c // seen != oc // per_group:
                axes.set_title("another group", fontsize=8, color="#8C8C8C")
                axes.set_axis_off()
                continue
            axes.imshow(maps[oc, c], vmin=-bound, vmax=bound, **signed)
            axes.set_title(f"X({c}) * K({c}, {oc})", fontsize=8)
            kernel = (layer.weight[c, oc % per_group] if layer.transposed else layer.weight[oc, c % seen]).detach()
            inset = axes.inset_axes((0.02, 0.68, 0.3, 0.3))
            inset.imshow(kernel.numpy(), vmin=-kernel_bound, vmax=kernel_bound, **signed)
            inset.set(xticks=[], yticks=[])
            for spine in inset.spines.values():
                spine.set(color="black", linewidth=0.8)
    if drawn is not None:
        figure.colorbar(drawn, ax=grid, fraction=0.025, pad=0.01).set_label("value of a map or output", fontsize=8)
    return figure


def _draw_input(axes: Any, planes: np.ndarray, image: Any) -> None:
    """The input as people see it: three channels in colour, one in grey, others not at all."""
    shown = np.asarray(image) if image is not None else np.moveaxis(planes, 0, -1) if len(planes) in (1, 3) else None
    if shown is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"{len(planes)} channels", ha="center", va="center", fontsize=9, transform=axes.transAxes)
        return
    low, high = float(shown.min()), float(shown.max())
    if shown.dtype != np.uint8 and (low < 0 or high > 1):
        shown = (shown - low) / ((high - low) or 1)  # normalized pixels: brought back to what can be shown
    axes.imshow(shown.squeeze(), cmap="gray", interpolation="nearest")
    axes.set_title("input", fontsize=8)
