"""The benchmarks work, at the smallest sizes, and refuse to time libraries that compute different things."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl.compiler.recording import recording
from minidl.datasets import EmbeddedDigits

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not installed with the package", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    FAMILIES,
    convolution,
    digits,
    mnist_accuracy,
    networks,
    plot,
    report,
    techniques,
    time_to_accuracy,
)
from benchmarks.case import Library, Options, Result, disagreement  # noqa: E402
from benchmarks.peers import KINDS, Local  # noqa: E402
from benchmarks.timing import DisagreementError, Row, geometric_mean, measure  # noqa: E402

pytestmark = pytest.mark.source_tree
TINY = Options(quick=True, tiny=True)


def cases_of(family):
    return importlib.import_module(f"benchmarks.{FAMILIES[family]}").cases(family, TINY)


@pytest.fixture
def peers():
    """minidl and PyTorch in this process; both have the threads that they had when the test is over."""
    torch = pytest.importorskip("torch")
    before = [library.get_num_threads() for library in (minidl, torch)]
    yield {kind: Local(KINDS[kind].library) for kind in ("minidl", "torch", "torch-channels-last")}
    for library, threads in zip((minidl, torch), before, strict=True):
        library.set_num_threads(threads)


@pytest.mark.torch
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_beside_pytorch(peers, family):
    cases = cases_of(family)
    rows = [row for case in cases if (row := measure(family, case, peers, 1, TINY)) is not None]
    assert rows
    assert len({case.name for case in cases}) == len(cases), "a case is found by its name"
    for row in rows:
        assert {"minidl", "torch"} <= set(row.figures)
        assert all(min(figures) > 0 for figures in row.figures.values())
        assert json.loads(json.dumps(row.as_dict()))["ratios"]["torch"]["min"] == row.ratios("torch")[0]
    assert ("torch-channels-last" in rows[0].figures) == (family in ("step", "inference", "networks", "conv", "soumith",
                                                                     "conv-kinds"))


@pytest.mark.parametrize("family", ["step", "inference", "networks", "conv", "soumith", "conv-kinds"])
def test_jax_computes_the_same(peers, family):
    """In this process JAX takes all threads; what it computes is the same."""
    pytest.importorskip("jax")
    both = {"minidl": peers["minidl"], "jax": Local(KINDS["jax"].library)}
    for case in cases_of(family):
        row = measure(family, case, both, 1, TINY)
        assert row is None or "jax" in row.figures


class Wrong(Local):
    """A library that gets one number of each result wrong in turn, by a twentieth of the largest."""

    def __init__(self, library, which):
        super().__init__(library)
        self.which = which

    def prepare(self, *arguments):
        results = super().prepare(*arguments)
        if results is None:
            return None
        name, numbers, tolerance = results[self.which % len(results)]
        numbers = numbers.copy()
        numbers.flat[numbers.size // 2] += 0.05 * np.abs(numbers).max() + 1e-6
        results[self.which % len(results)] = Result(name, numbers, tolerance)
        return results


@pytest.mark.torch
@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_number_stops_every_family(peers, family, which):
    case = cases_of(family)[0]
    beside = {"minidl": peers["minidl"], "torch": Wrong(KINDS["torch"].library, which)}
    with pytest.raises(DisagreementError, match=r"minidl and PyTorch compute different things, so nothing is timed"):
        measure(family, case, beside, 1, TINY)


@pytest.mark.torch
def test_a_wrong_kernel_stops_the_convolutions(peers, monkeypatch):
    right = minidl.nn.functional.conv2d
    monkeypatch.setattr(minidl.nn.functional, "conv2d", lambda x, w, b, **options: right(x, w, b * 1.1, **options))
    with pytest.raises(DisagreementError, match="output: apart by"):
        measure("conv", cases_of("conv")[0], peers, 1, TINY)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_convolution_that_could_wait_for_a_relu_is_computed(gradients):
    job = convolution.job(Library("minidl"), convolution.LAYERS["conv"][0], gradients)
    with recording(minidl.ones(1)._backend, []) as record:
        job.call()
    assert [call.name for call in record.calls].count("conv2d") == 1


@pytest.mark.torch
@pytest.mark.parametrize("family", ["step", "networks"])
def test_a_wrong_gradient_stops_the_training_steps(peers, monkeypatch, family):
    """A weight gradient that is a tenth too small, in one layer of the network; three losses alone hide it."""
    right = minidl.optim.SGD.step

    def wrong(self, *arguments):
        first = self.param_groups[0]["params"][0]
        first.grad = first.grad * 0.9
        return right(self, *arguments)

    monkeypatch.setattr(minidl.optim.SGD, "step", wrong)
    with pytest.raises(DisagreementError, match=r"what the first weights moved by|losses"):
        measure(family, cases_of(family)[0], peers, 1, TINY)


def test_what_disagrees_is_said():
    one = [Result("output", np.array([1.0, 2.0]), 1e-3)]
    assert disagreement(one, [Result("output", np.array([1.0, 2.001]), 1e-3)]) == ""
    assert "apart by 0.01" in disagreement(one, [Result("output", np.array([1.0, 2.01]), 1e-3)])
    assert "apart by nan" in disagreement(one, [Result("output", np.array([1.0, np.nan]), 1e-3)])
    assert "shapes" in disagreement(one, [Result("output", np.array([1.0]), 1e-3)])
    assert "called" in disagreement(one, [Result("loss", np.array([1.0, 2.0]), 1e-3)])


def test_the_networks_are_the_usual_ones():
    """The parameters of ResNet-18 for CIFAR are the 11.17 million that everybody finds."""
    counts = {make: sum(p.numel() for p in make(minidl).parameters())
              for make in (networks.LeNet, networks.ResNet8, networks.ResNet18)}
    assert counts == {networks.LeNet: 61_706, networks.ResNet8: 78_042, networks.ResNet18: 11_173_962}
    assert networks.VGG(minidl, 4)(minidl.zeros(2, 3, 32, 32)).shape == (2, 10)


# ---- figures that are not timed in turns -----------------------------------------------------------------------------


def test_the_digits_are_those_of_the_package():
    images, labels = digits.arrays(None, False)
    expected = EmbeddedDigits(train=False)
    np.testing.assert_array_equal(labels, np.asarray(expected.targets))
    again = np.rint((images[:, 0] * digits.STD + digits.MEAN) * 255).astype(np.uint8)
    np.testing.assert_array_equal(again, np.asarray(expected.data))
    assert len(digits.as_many_as_mnist(images, labels, 2500)[0]) == 2500


@pytest.fixture
def small_mnist(tmp_path):
    """The files of MNIST with the first of the embedded digits in them, one of them packed."""
    expected = EmbeddedDigits(train=False)
    images, labels = np.asarray(expected.data)[:640], np.asarray(expected.targets)[:640].astype(np.uint8)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{split}-{kind}-ubyte").write_bytes(head + array.tobytes())
    packed = folder / "train-images-idx3-ubyte"
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    return str(tmp_path)


@pytest.mark.torch
def test_accuracy_on_files_of_mnist(small_mnist):
    pytest.importorskip("torch")
    row, = mnist_accuracy.rows(Options(quick=True, mnist=small_mnist), ["minidl", "torch", "jax"])
    assert set(row.figures) == {"minidl", "torch"}
    assert row.figures["minidl"][0] > 15, "ten steps are enough to be better than guessing"
    better = Row("mnist", "accuracy", 0, "%", {"minidl": [90.0], "torch": [45.0]}, larger_is_better=True)
    assert better.ratios("torch") == (2.0, 2.0)
    with pytest.raises(SystemExit, match="neither train-images-idx3-ubyte nor"):
        digits.arrays(str(Path(small_mnist) / "nothing"), True)


def test_time_to_an_accuracy(small_mnist):
    row, = time_to_accuracy.rows(Options(quick=True, mnist=small_mnist), ["minidl"], goal=15.0)
    assert row.case == "process start to 15 % on MNIST"
    assert row.figures["minidl"][0] > 0
    assert time_to_accuracy.rows_of({"minidl": [], "torch": [1.0]}, 99.0, "MNIST") == []
    assert time_to_accuracy.rows_of({"minidl": [1.0], "torch": []}, 99.0, "MNIST")[0].peers == []


@pytest.mark.torch
def test_footprint():
    pytest.importorskip("torch")
    from benchmarks import footprint

    rows = footprint.rows(TINY, ["minidl", "torch"])
    assert [row.unit for row in rows] == ["MB", "s", "MB"]
    assert all(figure > 0 for row in rows for figures in row.figures.values() for figure in figures)


# ---- the command -----------------------------------------------------------------------------------------------------


def run(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
                          timeout=300, **options)


@pytest.mark.torch
def test_the_command_prints_tables_and_writes_json(tmp_path):
    """Every library in a process of its own, through the pipes."""
    pytest.importorskip("torch")
    file = tmp_path / "report.json"
    done = run("benchmarks", "--tiny", "--quick", "--threads", "1", "--only", "conv", "optimizer", "--peers", "torch",
               "torch-malloc", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "geometric mean, forward+backward" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(("noise: spread", "       "))
    written = json.loads(file.read_text())
    assert {row["family"] for row in written["rows"]} == {"conv", "optimizer"}
    assert all(set(row["ratios"]) == {"torch", "torch-malloc"} for row in written["rows"])
    pytest.importorskip("matplotlib")
    picture = tmp_path / "ratios.png"
    plot.draw(written, str(picture), None, ["conv", "optimizer"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="no rows of tape with any threads; it has"):
        plot.draw(written, str(picture), None, ["tape"])


@pytest.mark.parametrize(("arguments", "message"), [
    (["--only", "mnist"], "--only mnist needs --mnist ROOT"), (["--only", "nothing"], "invalid choice: 'nothing'")])
def test_what_cannot_be_done_is_said(arguments, message):
    done = run("benchmarks", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_columns_without_figures_and_noise():
    calm = Row("step", "calm", 2, "ms", {"minidl": [1.0, 1.0, 1.1], "torch": [4.0, 3.2, 5.0]}, "steps")
    busy = Row("step", "busy", 2, "ms", {"minidl": [1.0, 2.0, 3.0], "torch": [12.0, 13.0, 14.0]}, "steps")
    assert calm.ratios("torch") == (3.2, 4.0)
    assert calm.spread == 1.25, "a peer that was disturbed counts like minidl"
    assert "3.20 /  4.00" in report.line(calm, ["minidl", "torch"])
    assert "6.20 /  5.10" in report.means([calm, busy], ["minidl", "torch"])[0]
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert "1 of 2 rows above 1.3" in "".join(report.verdict([calm, busy]))
    assert "setsid bash -c 'echo -15 > /proc/self/autogroup" in "".join(report.verdict([busy]))
    assert Library("jax").is_jax and "jax" not in calm.figures
    told = report.line(calm, ["minidl", "torch", "jax"])
    assert told.split("|")[2].strip() in ("-", "no JAX")


def test_techniques_are_left_out_one_at_a_time(monkeypatch, capsys):
    monkeypatch.setattr(techniques, "LAYERS", {"small": (2, 6, 14, 16, 5, 1, 0)})
    monkeypatch.setattr(techniques, "POOLED", ("small",))
    monkeypatch.setattr(techniques, "BATCHES", (1,))
    lenet, shape, _ = techniques.INFERENCES["LeNet"]
    monkeypatch.setattr(techniques, "INFERENCES", {"LeNet": (lenet, shape, (16,))})
    monkeypatch.setattr(sys, "argv", ["techniques", "--seconds", "0.001"])
    threads, isa = minidl.get_num_threads(), minidl.backends.cpu.get_cpu_capability()
    try:
        techniques.main()
    finally:
        minidl.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert "1 thread " in lines[0] and any("small, forward: direct_channels" in line for line in lines)
    assert all(float(line.split()[-1]) > 0 for line in lines[1:]) and len(lines) >= 10
    assert "LeNet inference, batch 16, compiled: layouts kept" in lines[-1]
    assert minidl.backends.cpu.get_cpu_capability() == isa
