"""What the README shows works as it stands."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.source_tree

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_examples_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training, explaining = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    exec(compile(training, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("tensor(")
    assert names["loss"].item() < 1.0  # ln 10 = 2.3 before training

    exec(compile(explaining, "README.md", "exec"), names)
    told = capsys.readouterr().out
    assert "output  (1, 6, 14, 14)" in told
    assert "the layer itself says" in told
    assert "im2col" in told
    assert (tmp_path / "conv.html").stat().st_size < 2e6


def test_files_and_folders_it_names_are_there():
    named = re.findall(r"`((?:examples|docs|tests)/[\w./]+|[A-Z]+\.md)`", README.read_text())
    assert named
    for name in named + re.findall(r"\]\((docs/[^)]+)\)", README.read_text()):
        assert (README.parent / name).exists(), name
