"""The examples that take a convolution apart: known numbers, and the same text from PyTorch when the imports change."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.source_tree


def as_written_for_torch(name):
    text = (EXAMPLES / name).read_text()
    assert "import minidl as torch" in text
    return text.replace("import minidl as torch", "import torch").replace("from minidl", "from torch")


def rows(text, title):
    """The matrix of ints printed under ``title``."""
    lines = iter(text.splitlines())
    next(line for line in lines if line == f"{title}:")
    matrix = []
    for line in lines:
        if not line.startswith("    "):
            break
        matrix.append([int(word) for word in line.split()])
    return matrix


def test_convolution_vs_correlation(capsys):
    runpy.run_path(str(EXAMPLES / "convolution_vs_correlation.py"), run_name="__main__")
    text = capsys.readouterr().out
    assert rows(text, "F.conv2d(image, kernel)") == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]
    assert rows(text, "F.conv2d(image, kernel, padding=1)") == [[9, 6, -9], [20, 8, -20], [21, 6, -21]]
    turned = rows(text, "F.conv2d(image, kernel turned by 180 degrees, padding=1)")
    assert turned == [[-9, -6, 9], [-20, -8, 20], [-21, -6, 21]]
    assert "1*1 + 1*0 + 1*1 + 0*0 + 1*1 + 1*0 + 0*1 + 0*0 + 1*1 = 4" in text
    said = [line.split()[-1] for line in text.splitlines() if line.split()[-1:] in (["True"], ["False"])]
    assert said == ["True"] * 3
    assert "turned by 180 degrees: True (the kernel is symmetric)" in text


def test_channels(capsys):
    example = runpy.run_path(str(EXAMPLES / "channels.py"))
    assert example["main"]() < 1e-6
    text = capsys.readouterr().out
    shapes = [line.rpartition("  ")[2] for line in text.splitlines() if line.endswith(")") and "  (" in line]
    assert shapes == ["(24, 32, 3)", "(3, 24, 32)", "(4, 3, 5, 5)", "(4,)", "(1, 3, 24, 32)", "(1, 4, 20, 28)",
                      "(20, 28)", "(4, 20, 28)"]
    image = example["colour_image"](24, 32)
    assert image.min().item() >= 0
    assert image.max().item() <= 1
    assert image.std(dim=(0, 1)).min().item() > 0.1  # a picture, not a plain colour


@pytest.mark.torch
@pytest.mark.parametrize("name", ["convolution_vs_correlation.py", "channels.py"])
def test_torch_prints_the_same(name, capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    ours = capsys.readouterr().out
    (tmp_path / name).write_text(as_written_for_torch(name))
    runpy.run_path(str(tmp_path / name), run_name="__main__")
    theirs = capsys.readouterr().out
    # The rounding error of the loops is the one figure that may differ.
    different = [line for line, other in zip(ours.splitlines(), theirs.splitlines(), strict=True) if line != other]
    assert all(line.startswith("mean absolute difference") for line in different)
