"""``docs/conv2d.md`` and the notebook say what is so: their code runs and prints what stands under it."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

import minidl

pytestmark = pytest.mark.source_tree

ROOT = Path(__file__).resolve().parents[1]
STORY = ROOT / "docs" / "conv2d.md"
NOTEBOOK = ROOT / "examples" / "understanding_conv2d.ipynb"


def run_story():
    """The names that the blocks of the story define, and for each block (code, what it printed, what stands under
    it)."""
    names, found = {}, []
    for code, printed in re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", STORY.read_text(), re.DOTALL):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, str(STORY), "exec"), names)
        found.append((code, output.getvalue(), printed))
    return names, found


def test_every_block_runs_and_prints_what_stands_under_it():
    pytest.importorskip("matplotlib")
    _, blocks = run_story()
    assert len(blocks) > 15
    for code, output, printed in blocks:
        assert output.rstrip() == printed.rstrip(), code


def test_pictures_and_files_it_names_are_there():
    text = STORY.read_text()
    named = re.findall(r"\]\((images/[^)]+)\)", text)
    assert len(named) >= 5
    for name in named + [f"../{name}" for name in re.findall(r"`(?:python )?((?:docs|tests|tools)/[\w./]+)", text)]:
        assert (STORY.parent / name).exists(), name


def test_the_tensorflow_part_is_xlas_convolution():
    """XLA computes TensorFlow's convolutions; JAX calls it with the same axes and the same SAME."""
    pytest.importorskip("matplotlib")
    jax = pytest.importorskip("jax")
    names, _ = run_story()
    minidl.manual_seed(1)
    for H, W, K, stride, dilation in ((8, 8, 3, 2, 1), (7, 10, 5, 3, 1), (9, 8, 2, 2, 1), (11, 6, 3, 1, 2),
                                      (5, 5, 1, 2, 1)):
        images, kernel = minidl.randn(2, H, W, 3), minidl.randn(K, K, 3, 4)
        expected = jax.lax.conv_general_dilated(
            images.numpy(), kernel.numpy(), (stride, stride), "SAME", rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"))
        found = names["conv2d_tensorflow"](images, kernel, stride, dilation)
        np.testing.assert_allclose(found.numpy(), np.asarray(expected), atol=1e-4)  # float32, sums in another order
    depthwise = minidl.randn(3, 3, 2, 3)
    images = minidl.randn(1, 6, 6, 2)
    expected = jax.lax.conv_general_dilated(
        images.numpy(), depthwise.reshape(3, 3, 1, 6).numpy(), (1, 1), "VALID", feature_group_count=2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"))
    found = minidl.nn.functional.conv2d(images.permute(0, 3, 1, 2), names["depthwise_from_tensorflow"](depthwise),
                                        groups=2)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), np.asarray(expected), atol=1e-4)


def test_weights_of_the_dense_layer_behind_a_flatten():
    pytest.importorskip("matplotlib")
    names, _ = run_story()
    maps, kernel = minidl.randn(2, 3, 4, 5), minidl.randn(60, 7)  # (N, C, H, W), (H*W*C, OUT)
    tensorflow = maps.permute(0, 2, 3, 1).reshape(2, -1) @ kernel
    ours = maps.reshape(2, -1) @ names["linear_from_tensorflow"](kernel, 3, 4, 5).transpose(0, 1)
    np.testing.assert_allclose(ours.numpy(), tensorflow.numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_notebook_runs_and_its_outputs_are_kept(monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    kept = [cell.copy() for cell in notebook.cells if cell.cell_type == "code"]
    monkeypatch.setenv("PYTHONPATH", str(Path(minidl.__file__).parents[1]))  # what the kernel imports is what is tested
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3",
                            resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    made = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for old, new in zip(kept, made, strict=True):
        assert [output.output_type for output in old.outputs] == [output.output_type for output in new.outputs]
        for before, after in zip(old.outputs, new.outputs, strict=True):
            assert before.get("name") == after.get("name") != "stderr"
            if "varies" not in old.metadata.get("tags", []):  # times, and the last digits of a rounding
                assert before.get("text") == after.get("text"), old.source
