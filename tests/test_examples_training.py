"""``examples/train_lenet.py``: learns, writes what it promises, stops and goes on to the same bits, explains errors."""

import csv
import importlib
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl

EXAMPLES = Path(__file__).parent.parent / "examples"
PROGRAM = EXAMPLES / "train_lenet.py"

pytestmark = pytest.mark.source_tree


@pytest.fixture(scope="module")
def digits():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        return importlib.import_module("digits").load_data("embedded")


@pytest.fixture
def program(monkeypatch, digits):
    """``main`` of the program, which learns from 320 digits, tests with 300 and draws nothing, in one thread."""
    monkeypatch.syspath_prepend(EXAMPLES)
    module = importlib.import_module("train_lenet")
    lenet_data = importlib.import_module("digits").load_data

    def few_digits(name, root, download):
        if name != "embedded":
            return lenet_data(name, root, download)
        for dataset, full, count in zip(few, digits, (320, 300), strict=True):
            dataset.data, dataset.targets = full.data[:count], full.targets[:count]
        return few

    few = [type(dataset).__new__(type(dataset)) for dataset in digits]
    for dataset, full in zip(few, digits, strict=True):
        dataset.__dict__.update(full.__dict__)
    threads = minidl.get_num_threads()
    monkeypatch.setattr(module, "load_data", few_digits)
    monkeypatch.setattr(module, "DEFAULTS", module.DEFAULTS | {"threads": 1, "batch_size": 60})
    monkeypatch.setattr(module, "draw", lambda run: "no pictures")
    yield module.main
    minidl.set_num_threads(threads)


def record(folder):
    with open(folder / "run.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(folder, other):
    """Equal to the bit in all that does not depend on the clock."""
    states = [minidl.load(each / "checkpoint.safetensors") for each in (folder, other)]
    for state in states:
        state["epoch_sums"].pop("seconds")
        for row in state["history"]:
            row.pop("seconds")
    assert_equal(*states, "state")
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal(minidl.load(folder / name), minidl.load(other / name), name)
    assert [{**row, "seconds": 0} for row in record(folder)] == [{**row, "seconds": 0} for row in record(other)]


def assert_equal(one, other, where):
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}.{i}")
    elif isinstance(one, minidl.Tensor):
        assert one.dtype == other.dtype, where
        assert one.numpy().tobytes() == other.numpy().tobytes(), where
    else:
        assert one == other, where


def test_writes_what_it_promises(program, tmp_path, capsys, digits):
    assert program(["--epochs", "2", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors", "checkpoint.safetensors", "last.safetensors", "run.csv"
    ]
    rows = record(tmp_path)
    assert [(row["epoch"], row["steps"]) for row in rows] == [("1", "6"), ("2", "12")]

    from lenet import lenet5

    net = lenet5(minidl.nn)
    net.load_state_dict(minidl.load(tmp_path / "last.safetensors"))
    net.eval()
    images, labels = digits[1].fetch(range(300))
    with minidl.no_grad():
        logits = net(minidl.as_tensor(images))
    right = (logits.argmax(1) == minidl.as_tensor(labels)).sum().item()
    assert float(rows[-1]["test_accuracy"]) == right / 300
    loss = minidl.nn.functional.cross_entropy(logits, minidl.as_tensor(labels)).item()
    assert float(rows[-1]["test_loss"]) == pytest.approx(loss, rel=1e-6)

    output = capsys.readouterr().out
    assert "training: loss" in output
    assert f"test: accuracy {100 * right / 300:.2f} %" in output
    summary = output.rstrip("\n").split("\n\n")[-1].splitlines()
    assert [line.split()[0] for line in summary] == ["accuracy", "time", "weights", "record", "next"]
    assert f"{100 * right / 300:.2f} % of 300 test images" in summary[0]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["relu", "classic"])
def test_learns(program, tmp_path, digits, variant, monkeypatch):
    """A cycle of two epochs, instead of the default run's ten."""
    monkeypatch.setattr(sys.modules["train_lenet"], "load_data", lambda *arguments: digits)
    assert program(["--epochs", "2", "--batch-size", "64", "--variant", variant, "--out", str(tmp_path)]) == 0
    rows = record(tmp_path)
    assert float(rows[-1]["test_accuracy"]) > {"relu": 0.96, "classic": 0.9}[variant]
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])


# 6 steps an epoch, the last of them with 20 of 60 images.
@pytest.mark.parametrize("threads, stops", [(1, (1,)), (2, (3,)), (1, (6,)), (1, (12,)), (1, (2, 4, 17))])
def test_resumed_run_has_the_same_bits(program, tmp_path, threads, stops):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--epochs", "3", "--seed", "7", "--threads", str(threads)]
    assert program([*options, "--out", str(whole)]) == 0
    assert program([*options, "--out", str(parts)], max_steps=stops[0]) == 130
    for stop in stops[1:]:
        minidl.manual_seed(123)  # what happens between two parts does not matter
        assert program(["--resume", str(parts)], max_steps=stop) == 130
        assert len(minidl.load(parts / "checkpoint.safetensors")["losses"]) == stop
    minidl.rand(5)
    assert program(["--resume", str(parts / "checkpoint.safetensors")]) == 0
    assert_same_run(whole, parts)


def test_resume_of_a_finished_run_only_sums_up(program, tmp_path, capsys):
    assert program(["--epochs", "1", "--out", str(tmp_path)]) == 0
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    summary = capsys.readouterr().out.splitlines()[-5:]
    assert program(["--resume", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-5:] == summary
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_other_options_than_the_runs(program, tmp_path, capsys):
    assert program(["--epochs", "2", "--out", str(tmp_path)], max_steps=2) == 130
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        program(["--resume", str(tmp_path), "--batch-size", "32", "--variant", "classic", "--epochs", "2"])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "--batch-size 32 (the run has 60), --variant classic (the run has relu)" in message
    assert "--epochs" not in message
    with pytest.raises(SystemExit):
        program(["--resume", str(tmp_path), "--out", str(tmp_path / "other")])
    assert "a resumed run stays where it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, words",
    [
        ("--epochs 0", "argument --epochs: 0 is not above 0"),
        ("--epochs two", "argument --epochs: invalid int value: 'two'"),
        ("--batch-size -3", "-3 is not above 0"),
        ("--lr 0", "argument --lr: 0 is not above 0"),
        ("--lr nan", "nan is not above 0"),
        ("--threads 0", "0 is not above 0"),
        ("--data cifar", "invalid choice: 'cifar'"),
        ("--device tpu", "--device tpu: "),
        ("--device cuda", "finds no GPU"),
        ("--speed 3", "unrecognized arguments: --speed 3"),
    ],
)
def test_wrong_options(program, tmp_path, capsys, options, words):
    if options == "--device cuda" and minidl.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit) as stopped:
        program([*options.split(), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_data_and_checkpoints(program, tmp_path, capsys):
    def fails(arguments, *words):
        assert program(arguments) == 1
        message = capsys.readouterr().err
        assert message.startswith("train_lenet: ")
        assert message.count("\n") == 1
        for word in words:
            assert word in message

    fails(["--data", "mnist", "--root", str(tmp_path)], str(tmp_path), "train-images-idx3-ubyte", "download")
    fails(["--resume", str(tmp_path / "nowhere")], "nothing to resume", "nowhere/checkpoint.safetensors does not exist")
    program(["--epochs", "1", "--out", str(tmp_path)], max_steps=1)
    capsys.readouterr()
    fails(["--resume", str(tmp_path / "last.safetensors")], "holds no run", "checkpoint.safetensors")
    checkpoint = tmp_path / "checkpoint.safetensors"
    content = checkpoint.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no checkpoint at all"):
        checkpoint.write_bytes(damaged)
        fails(["--resume", str(tmp_path)], f"{checkpoint} cannot be read: ")


def test_a_file_where_the_folder_should_be(program, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert program(["--out", str(tmp_path / "out")]) == 1
    assert "File exists" in capsys.readouterr().err


def test_a_run_that_diverges_says_so(program, tmp_path, capsys):
    assert program(["--lr", "1e6", "--epochs", "1", "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "start again with a smaller --lr than 1e+06" in message
    assert message.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_that_goes_on(program, tmp_path, digits, monkeypatch):
    """In a process of its own, with the real digits: the second epoch is under way when Ctrl-C comes."""
    environment = os.environ | {"PYTHONPATH": str(Path(minidl.__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-u", PROGRAM, "--epochs", "1000", "--threads", "1", "--out", tmp_path],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )
    try:
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert lines[1].startswith("epoch  1/1000"), lines
    assert "Traceback" not in errors
    assert f"--resume {tmp_path}" in rest.splitlines()[-1]
    state = minidl.load(tmp_path / "checkpoint.safetensors")
    steps = len(state["losses"])
    assert steps >= 157
    assert f"stopped after step {steps:,} of 157,000" in rest
    assert all(math.isfinite(loss) for loss in state["losses"].tolist())
    weights = minidl.load(tmp_path / "last.safetensors")
    assert all(np.array_equal(weights[name].numpy(), state["net"][name].numpy()) for name in weights)
    monkeypatch.setattr(sys.modules["train_lenet"], "load_data", lambda *arguments: digits)
    assert program(["--resume", str(tmp_path)], max_steps=steps + 2) == 130
    assert len(minidl.load(tmp_path / "checkpoint.safetensors")["losses"]) == steps + 2


def test_says_where_matplotlib_is_missing(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    train_lenet = importlib.import_module("train_lenet")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert train_lenet.draw(None) == "no pictures: matplotlib is not installed (pip install matplotlib)"


def test_pictures(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(EXAMPLES)
    pictures, lenet = importlib.import_module("pictures"), importlib.import_module("lenet")
    keys = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    history = [{"epoch": epoch, **dict.fromkeys(keys, 0.5)} for epoch in (1, 2)]
    pictures.draw_curves(tmp_path / pictures.CURVES, "title", history, [2.0, 1.0, 0.5, 0.2], [0.1] * 4)
    labels = np.arange(30) % 10
    beliefs = np.full((30, 10), 0.01, np.float32)
    beliefs[np.arange(30), labels] = 0.91
    beliefs[:3] = np.roll(beliefs[:3], 1, axis=1)  # three are wrong
    images, classes = np.zeros((30, 28, 28), np.uint8), list("0123456789")
    pictures.draw_mistakes(tmp_path / pictures.MISTAKES, "title", images, labels, beliefs, classes)
    pictures.draw_confusion(tmp_path / pictures.CONFUSION, labels, beliefs, classes)
    pictures.draw_network(tmp_path, lenet.lenet5(minidl.nn), minidl.zeros(1, 1, 28, 28), classes)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pictures.PICTURES)
    for name in pictures.PICTURES:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_whole_file_keeps_the_old_one_when_writing_fails(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(EXAMPLES)
    whole_file = importlib.import_module("whole_file").whole_file
    path = tmp_path / "run.csv"
    path.write_text("old")

    def write_half():
        with whole_file(path) as part:
            part.write_text("new, but ha")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
