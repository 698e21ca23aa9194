"""What the README shows works as it stands."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.source_tree

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_example_runs_and_learns(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("tensor(")
    assert names["loss"].item() < 1.0  # ln 10 = 2.3 before training


def test_files_and_folders_it_names_are_there():
    named = re.findall(r"`((?:examples|docs|tests)/[\w./]+|[A-Z]+\.md)`", README.read_text())
    assert named
    for name in named + re.findall(r"\]\((docs/[^)]+)\)", README.read_text()):
        assert (README.parent / name).exists(), name
