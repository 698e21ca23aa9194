"""``examples/compare_pytorch.py``: same seed, same script, and the numbers lie on PyTorch's."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = [pytest.mark.source_tree, pytest.mark.torch]


@pytest.fixture(scope="module")
def comparison():
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads(), minidl.get_num_threads()
    torch.set_num_threads(1)
    minidl.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("comparison")
    torch.set_num_threads(threads[0])
    minidl.set_num_threads(threads[1])


@pytest.fixture(scope="module")
def data(comparison):
    train, _ = importlib.import_module("digits").load_data("embedded")
    images, labels = train.fetch(np.arange(2000))
    return np.asarray(images), np.asarray(labels)


SETTINGS = {"lr": 0.05, "seed": 0}


def test_weights_and_batches_are_the_same(comparison, data):
    scripts = [comparison.Script(framework, data, 64, steps=40, **SETTINGS) for framework in comparison.FRAMEWORKS]
    for theirs, ours in zip(*(script.net.state_dict().items() for script in scripts), strict=True):
        assert theirs[0] == ours[0]
        assert np.array_equal(theirs[1].numpy(), ours[1].numpy())
    for theirs, ours in zip(*(script.batches() for script in scripts), strict=True):  # 32 batches an epoch
        assert np.array_equal(theirs[0].numpy(), ours[0].numpy())
        assert np.array_equal(theirs[1].numpy(), ours[1].numpy())


def test_layers_at_step_0(comparison, data):
    rows = comparison.layers_at_step_0(data, batch_size=64, **SETTINGS)
    assert [row["layer"] for row in rows] == ["conv1", "act1", "pool1", "conv2", "act2", "pool2", "flatten", "fc1",
                                              "act3", "fc2", "act4", "fc3"]
    assert rows[0]["shape"] == (64, 6, 28, 28)
    for row in rows:
        # Sums of up to 400 products of numbers around one, in another order; gradients are averages over the batch.
        assert row["output"] < 4e-6, row
        assert row["grad_output"] < 1e-8, row
        assert row.get("grad_weight", 0) < 2e-7, row
        assert row.get("grad_bias", 0) < 2e-7, row
    assert sum("grad_weight" in row for row in rows) == 5


@pytest.mark.parametrize("seed", [0, 3])
def test_first_losses_float32(comparison, data, seed):
    settings = {"batch_size": 64, "lr": 0.05, "seed": seed, "steps": 10}
    theirs, ours = (comparison.Script(framework, data, **settings).losses() for framework in comparison.FRAMEWORKS)
    assert abs(theirs[0] - ours[0]) <= 1e-6
    assert abs(theirs - ours).max() <= 1e-5
    assert theirs[0] == pytest.approx(np.log(10), abs=0.1)


@pytest.mark.slow
def test_200_losses_float64(comparison, data):
    settings = {"batch_size": 16, "lr": 0.1, "seed": 0, "steps": 200, "double": True}
    theirs, ours = (comparison.Script(framework, data, **settings).losses() for framework in comparison.FRAMEWORKS)
    assert abs(theirs - ours).max() <= 1e-7
    assert np.mean(theirs[-20:]) < 1.2  # the curve goes through the part where rounding is amplified


@pytest.mark.slow
def test_program_prints_and_draws_everything(comparison, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    program = importlib.import_module("compare_pytorch")
    data = program.load_data("embedded")
    for dataset in data:
        dataset.data, dataset.targets = dataset.data[:200], dataset.targets[:200]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "load_data", lambda name, root: data)
        patch.setattr(comparison, "STEPS_AT_ONCE", 2)
        patch.setenv("PYTHONPATH", str(Path(minidl.__file__).parent.parent))
        options = ["--steps", "3", "--epochs", "1", "--rounds", "1", "--threads", "1"]
        assert program.main([*options, "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for words in ("largest difference at step 0", "conv2    (64, 16, 10, 10)", "loss, float32", "loss, float64",
                  "test accuracy (epochs: 1)", "step, batch 1 (ms)", "step, batch 64 (ms)", "peak memory (MB)",
                  "import (ms)"):
        assert words in text
    memory = next(line for line in text.splitlines() if line.startswith("peak memory")).split()
    assert 10 < float(memory[4]) < float(memory[3]) < 2000  # minidl's below PyTorch's
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_without_torch_one_sentence(monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    program = importlib.import_module("compare_pytorch")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "comparison", raising=False)
    assert program.main([]) == 1
    message = capsys.readouterr().err
    assert "pip install torch==2.13.0" in message
    assert message.count("\n") == 1
