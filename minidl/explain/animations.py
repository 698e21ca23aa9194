"""``explain.animate``: the kernel slides over the input and the output fills up, as a film."""

from __future__ import annotations

import base64
import io
import os
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl.explain.style import BLUE, GREEN, GREY, ORANGE, SKY, YELLOW, need, new_figure, plain_axes
from minidl.explain.taps import Ground, Taps, need_conv, read
from minidl.explain.text import Text, by, side_by_side
from minidl.nn.conv import ConvNd
from minidl.serialization import write_whole

MOST_FRAMES = 400
_GROUP_COLOURS = (BLUE, ORANGE, GREEN, SKY, YELLOW)
_EMPTY = Ground(np.zeros(1, int), np.zeros(1, bool), np.zeros((1, 1), int))  # the missing side of a line


@dataclass(frozen=True)
class Frame:
    """One output number of the film: output channel ``oc`` of ``group`` at ``output``, which sees ``channels``.

    ``cells`` has, for every tap in the order of the kernel, the row and column of the ground that it lies on, and
    ``sources`` the row and column of the input that stands there, or None.
    """

    number: int
    group: int
    oc: int
    channels: tuple[int, ...]
    output: tuple[int, int]
    cells: tuple[tuple[int, int], ...]
    sources: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, repr=False)
class Animation(Text):
    """The film of a layer: ``frames``, one after another, the same on every run.

    ``save`` writes it, ``figure`` draws one frame, ``text`` writes one out; a notebook plays it.  The ground is the
    input with its padding; of a transposed convolution it is the input spread by the stride, under a kernel that is
    turned.
    """

    layer: Any
    taps: Taps
    frames: tuple[Frame, ...]

    @property
    def grounds(self) -> tuple[Ground, Ground]:
        """The ground of the rows and of the columns."""
        return _two(self.taps.grounds)

    def lines(self) -> list[str]:
        case = self.taps.case
        head = f"input {case.input_shape} to output {case.output_shape} in {len(self.frames)} frames"
        return [f"{self.layer}", head, "",
                *self.text(0).splitlines()]

    def text(self, number: int) -> str:
        """One frame in letters: ``o`` an input number, ``.`` none (padding, or a gap), brackets under the kernel."""
        frame = self.frames[number]
        ground = [[f" {'o' if known else '.'} " for known in row] for row in self._known()]
        for row, column in frame.cells:
            ground[row][column] = f"[{ground[row][column][1]}]"
        output = [[" # " if at < self._at(frame) else "[#]" if at == self._at(frame) else " . " for at in row]
                  for row in np.arange(np.prod(self._output_size())).reshape(self._output_size())]
        seen = f"channel{'s' if len(frame.channels) > 1 else ''} {', '.join(map(str, frame.channels))}"
        return "\n".join(side_by_side((f"input, {seen}", ["".join(row) for row in ground]),
                                      (f"output, channel {frame.oc}", ["".join(row) for row in output])))

    def figure(self, number: int = 0) -> Any:
        """One frame as a matplotlib figure."""
        rows, columns = (len(ground.cells) for ground in self.grounds)
        OH, OW = self._output_size()
        cell = min(0.5, 8 / (columns + OW))
        height = max(rows, OH) * cell + 1.5
        figure = new_figure("explain.animate", max((columns + OW) * cell + 1.2, 6.4), max(height, 2.2),
                            "\n".join(textwrap.wrap(str(self.layer), 80)))
        need("matplotlib.backends.backend_agg", "explain.animate").FigureCanvasAgg(figure)
        figure.subplots(1, 2, width_ratios=(columns, OW))
        self._draw(figure, number)
        return figure

    def save(self, path: str | os.PathLike[str], fps: float = 4) -> Path:
        """Write the film with ``fps`` frames a second: ``.gif``, ``.mp4``, or ``.html`` with buttons to step.

        The file appears whole or not at all.  Raises ``ValueError`` for another ending, ``ImportError`` without
        matplotlib or Pillow, ``RuntimeError`` for a ``.mp4`` without the program ffmpeg.
        """
        target = Path(path)
        if target.suffix not in (".gif", ".mp4", ".html"):
            raise ValueError(f"explain.animate: {target.name} must end in .gif, .mp4 or .html")
        if not fps > 0:
            raise ValueError(f"explain.animate: fps must be above 0, got {fps}")
        if target.suffix == ".gif":
            data = self._gif(fps)
        elif target.suffix == ".html":
            data = self._film(fps).to_jshtml(fps=fps, default_mode="loop").encode("utf-8")
        else:
            data = self._mp4(fps)
        write_whole(str(target), data)
        return target

    def _repr_html_(self) -> str:
        try:
            data = base64.b64encode(self._gif(4)).decode("ascii")
        except ImportError as error:
            return f"{super()._repr_html_()}<p>{error}</p>"
        return f'<img alt="{self.lines()[1]}" src="data:image/gif;base64,{data}">'

    def _gif(self, fps: float) -> bytes:
        image = need("PIL.Image", "a GIF")
        figure, pictures = self._screen(), []
        for frame in self.frames:
            self._draw(figure, frame.number)
            figure.canvas.draw()
            pixels = np.asarray(figure.canvas.buffer_rgba())
            pictures.append(image.fromarray(pixels[..., :3].copy()))
        # One palette, that of the middle, which has all colours: then a frame holds only what has changed.
        palette = pictures[len(pictures) // 2].quantize(64, dither=image.Dither.NONE)
        pictures = [picture.quantize(palette=palette, dither=image.Dither.NONE) for picture in pictures]
        file = io.BytesIO()
        pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0,
                         disposal=1)
        return file.getvalue()

    def _screen(self) -> Any:
        """The first frame as a figure whose parts stay where they are: to arrange them anew takes long."""
        figure = self.figure(0)
        figure.canvas.draw()
        figure.set_layout_engine("none")
        return figure

    def _film(self, fps: float) -> Any:
        need("PIL.Image", "a film")  # with which matplotlib writes the frames
        figure = self._screen()
        return need("matplotlib.animation", "explain.animate").FuncAnimation(
            figure, lambda number: self._draw(figure, number), len(self.frames), init_func=lambda: None,
            interval=1000 / fps)

    def _mp4(self, fps: float) -> bytes:
        writer = need("matplotlib.animation", "explain.animate").FFMpegWriter
        if not writer.isAvailable():
            raise RuntimeError("explain.animate: a .mp4 needs the program ffmpeg: install the system's package ffmpeg, "
                               "or write a .gif or .html")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "film.mp4")
            self._film(fps).save(path, writer=writer(fps=fps, extra_args=["-pix_fmt", "yuv420p", "-vf",
                                                                         "pad=ceil(iw/2)*2:ceil(ih/2)*2"]))
            return path.read_bytes()

    def _known(self) -> np.ndarray:
        """(P, Q): whether a number of the input stands in a cell of the ground."""
        rows, columns = self.grounds
        return np.logical_and.outer(rows.cells >= 0, columns.cells >= 0)

    def _output_size(self) -> tuple[int, int]:
        return len(self.grounds[0].places), len(self.grounds[1].places)

    def _at(self, frame: Frame) -> int:
        return frame.output[0] * self._output_size()[1] + frame.output[1]

    def _draw(self, figure: Any, number: int) -> None:
        """Draw one frame into a figure, in place of what it shows."""
        frame, case = self.frames[number], self.taps.case
        OH, OW = self._output_size()
        colour = _GROUP_COLOURS[frame.group % len(_GROUP_COLOURS)]
        seen, made = figure.axes
        seen.clear()
        made.clear()
        transposed = case.family == "conv_transpose"
        what = "input, spread by its stride" if transposed else "input with its padding"
        of_groups = f", group {frame.group} of {case.groups}" if case.groups > 1 else ""
        self._draw_ground(seen, frame, colour)
        seen.set_title(f"{what}\n{_channels(frame.channels)}{of_groups}", fontsize=8)
        seen.set_xlabel(f"kernel{' turned' if transposed else ''}: the number of each tap (kh, kw)", fontsize=7)
        output = np.arange(OH * OW).reshape(OH, OW)
        _squares(made, np.where((output < self._at(frame))[..., None], _rgb(colour, 0.45),
                                np.where((output == self._at(frame))[..., None], _rgb(colour, 1), _rgb("#FFFFFF", 1))))
        made.set_title(f"output\nchannel {frame.oc}", fontsize=8)
        made.set_xlabel(f"pixel ({frame.output[0]}, {frame.output[1]})", fontsize=7)

    def _draw_ground(self, axes: Any, frame: Frame, colour: str) -> None:
        known = self._known()
        framed = np.logical_or.outer(self.grounds[0].frame, self.grounds[1].frame)
        paper = np.where(framed[..., None], _rgb(GREY, 0.3),
                         np.where(known[..., None], _rgb(SKY, 0.45), _rgb("#FFFFFF", 1)))
        _squares(axes, paper)
        patches = need("matplotlib.patches", "explain.animate")
        KW = self.grounds[1].places.shape[1]
        for i, (row, column) in enumerate(frame.cells):
            strength = 0.75 if known[row, column] else 0.25  # a tap that meets no number adds nothing
            axes.add_patch(patches.Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=_rgb(colour, strength),
                                             edgecolor="black", linewidth=1.2))
            if known.shape[1] <= 16:
                axes.text(column, row, f"{i // KW},{i % KW}", ha="center", va="center", fontsize=6.5, color="black")
        copied = [(row, column) for row, column in np.argwhere(framed & known)] if known.shape[1] <= 16 else []
        for row, column in copied:  # a padding that repeats the input: which number of it stands here
            if (row, column) not in frame.cells:
                source = self.grounds[0].cells[row], self.grounds[1].cells[column]
                axes.text(column, row, f"{source[0]},{source[1]}", ha="center", va="center", fontsize=6, color=GREY)


def animate(layer: Any, input_shape: Sequence[int], out: str | os.PathLike[str] | None = None,
            fps: float = 4) -> Animation:
    """The sliding window of a convolution as a film: a frame for every pixel of the output.

    ``layer`` is a Conv1d, Conv2d, ConvTranspose1d or ConvTranspose2d, ``input_shape`` (C, H, W) or with N.  Padding is
    grey, a tap that meets no number pale, dilation shows as gaps in the kernel, and a layer with groups is shown group
    by group, by the first output channel of each.  ``out`` writes the film to a file as ``.save`` does: ``.gif``,
    ``.mp4`` or ``.html``.

    Raises ``TypeError`` for another layer, ``ValueError`` for more than 400 frames, and what ``explain.shape`` raises.
    """
    need_conv(layer, "animate")
    taps = read(layer, tuple(input_shape))
    pixels = int(np.prod(taps.case.output_shape[-taps.case.sides:]))
    if pixels * taps.case.groups > MOST_FRAMES:
        groups = f" and {taps.case.groups} groups" if taps.case.groups > 1 else ""
        raise ValueError(f"explain.animate: {pixels * taps.case.groups} frames, one for each of {pixels} output pixels"
                         f"{groups}, are more than {MOST_FRAMES}; give a smaller input_shape than "
                         f"{by(taps.case.input_shape[-taps.case.sides:])}")
    film = Animation(layer, taps, tuple(_frames(layer, taps)))
    if out is not None:
        film.save(out, fps)
    return film


def _frames(layer: ConvNd, taps: Taps) -> list[Frame]:
    rows, columns = _two(taps.grounds)
    per_group = layer.out_channels // layer.groups
    frames: list[Frame] = []
    for group in range(layer.groups):
        oc = group * per_group
        for oh, ow in np.ndindex(len(rows.places), len(columns.places)):
            cells = tuple((int(row), int(column)) for row in rows.places[oh] for column in columns.places[ow])
            sources = tuple((int(rows.cells[row]), int(columns.cells[column])) for row, column in cells)
            frames.append(Frame(len(frames), group, oc, tuple(map(int, taps.channels(oc))), (oh, ow), cells,
                                tuple(None if -1 in source else source for source in sources)))
    return frames


def _two(grounds: tuple[Ground, ...]) -> tuple[Ground, Ground]:
    """The grounds of rows and columns; a line is an image of one row."""
    first, *rest = grounds
    return (first, rest[0]) if rest else (_EMPTY, first)


def _channels(channels: tuple[int, ...]) -> str:
    if len(channels) == 1:
        return f"channel {channels[0]}"
    return f"channels {channels[0]} to {channels[-1]}, each with its kernel"


def _rgb(colour: str, strength: float) -> np.ndarray:
    """A colour, mixed with white."""
    parts = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return 1 - strength * (1 - parts)


def _squares(axes: Any, colours: np.ndarray) -> None:
    """Cells (P, Q, 3) with lines between them."""
    axes.imshow(colours, interpolation="nearest")
    plain_axes(axes)
    rows, columns = colours.shape[:2]
    axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color=GREY, linewidth=0.5)
    axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color=GREY, linewidth=0.5)
