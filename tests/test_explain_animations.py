"""``explain.animate``: its frames are the sum that the layer computes, the same every time, and files are films."""

import re

import numpy as np
import pytest

import minidl
from minidl import explain, nn

LAYERS = [
    (nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 6, 5)),
    (nn.Conv2d(4, 4, (2, 3), dilation=2, groups=2, padding="same", padding_mode="circular"), (4, 5, 4)),
    (nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 3, 3)),
    (nn.ConvTranspose2d(1, 1, 2, padding=3), (1, 6, 7)),  # more padding than the kernel is wide
    (nn.Conv1d(1, 2, 3, padding=1), (1, 6)), (nn.ConvTranspose1d(2, 1, 3, stride=3, dilation=2), (2, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_the_frames_are_the_layers_sum(layer, shape):
    layer = layer.double()
    film, image = explain.animate(layer, shape), minidl.randn(*shape, dtype=minidl.float64)
    with minidl.no_grad():
        output = layer(image).numpy()
    planes, output = image.numpy().reshape(shape[0], -1, shape[-1]), output.reshape(len(output), -1, output.shape[-1])
    assert len(film.frames) == layer.groups * output[0].size
    for frame in film.frames:
        kernels = film.taps.kernels[frame.oc].reshape(len(frame.channels), -1)
        total = film.taps.bias[frame.oc]
        for c, kernel in zip(frame.channels, kernels, strict=True):
            total += sum(weight * planes[c][source] for weight, source in zip(kernel, frame.sources, strict=True)
                         if source is not None)
        assert total == pytest.approx(output[frame.oc][frame.output], abs=1e-12)


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_a_tap_lies_where_its_number_stands(layer, shape):
    film = explain.animate(layer, shape)
    rows, columns = film.grounds
    for frame in film.frames:
        for (row, column), source in zip(frame.cells, frame.sources, strict=True):
            here = rows.cells[row], columns.cells[column]
            assert source == (None if -1 in here else here)
    # Every number of the input stands somewhere.
    assert set(range(shape[-1])) <= set(columns.cells.tolist())


def test_the_list_of_frames():
    film = explain.animate(nn.Conv2d(1, 1, 2, stride=2, padding=1), (1, 2, 2))
    assert [frame.number for frame in film.frames] == [0, 1, 2, 3]
    assert [frame.output for frame in film.frames] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert film.frames[1].cells == ((0, 2), (0, 3), (1, 2), (1, 3))
    assert film.frames[1].sources == (None, None, (0, 1), None)
    assert film.frames == explain.animate(nn.Conv2d(1, 1, 2, stride=2, padding=1), (1, 2, 2)).frames
    assert film.text(1).splitlines() == ["input, channel 0   output, channel 0", " .  . [.][.]        # [#]",
                                         " .  o [o][.]        .  .", " .  o  o  .", " .  .  .  ."]
    assert "in 4 frames" in str(film)


def test_files(tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    film = explain.animate(nn.Conv2d(1, 1, 2), (1, 3, 3), tmp_path / "film.gif", fps=5)
    with image.open(tmp_path / "film.gif") as file:
        assert (file.n_frames, file.info["duration"]) == (4, 200)
        frames = []
        for number in range(4):
            file.seek(number)
            frames.append(np.asarray(file.convert("RGB")))
    assert all(not np.array_equal(frames[i], frames[i + 1]) for i in range(3))
    assert film.save(tmp_path / "again.gif", fps=5).read_bytes() == (tmp_path / "film.gif").read_bytes()
    assert film.save(tmp_path / "film.html").read_text().count("data:image/png;base64") == 4
    assert 'src="data:image/gif;base64,' in film._repr_html_()
    left, right = film.figure(2).axes
    assert "output" in right.get_title() and "input" in left.get_title()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.gif", "film.gif", "film.html"]


def test_mp4(tmp_path, monkeypatch):
    animation = pytest.importorskip("matplotlib.animation")
    pytest.importorskip("PIL")
    film = explain.animate(nn.Conv2d(1, 1, 2), (1, 3, 3))
    if animation.FFMpegWriter.isAvailable():
        assert b"ftyp" in film.save(tmp_path / "film.mp4").read_bytes()[:16]
    monkeypatch.setattr(animation.FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(RuntimeError, match=r"a \.mp4 needs the program ffmpeg"):
        film.save(tmp_path / "other.mp4")
    assert not (tmp_path / "other.mp4").exists()


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: explain.animate(nn.Linear(2, 2), (1, 2, 2)), TypeError, "explain.animate: needs a convolution layer"),
    (lambda: explain.animate(nn.Conv2d(2, 2, 3, groups=2), (2, 22, 22)), ValueError,
     "800 frames, one for each of 400 output pixels and 2 groups, are more than 400; give a smaller input_shape than "
     "22 x 22"),
    (lambda: explain.animate(nn.Conv2d(1, 1, 3), (1, 2, 2)), RuntimeError,
     "(2 + 0 + 0 - 1 * (3 - 1) - 1) // 1 + 1 = 0"),
    (lambda: explain.animate(nn.Conv2d(1, 1, 3), (1, 4, 4), "film.png"), ValueError, "film.png must end in .gif, .mp4"),
    (lambda: explain.animate(nn.Conv2d(1, 1, 3), (1, 4, 4), "film.gif", fps=0), ValueError,
     "fps must be above 0, got 0"),
])
def test_mistakes_are_explained(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call()
