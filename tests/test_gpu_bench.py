"""The benchmark of the GPU works, at the smallest sizes, where the GPU is the emulated one and PyTorch has none."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cuda_device
import numpy as np
import pytest

import minidl

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not installed with the package", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks.case import Job, Options, Result  # noqa: E402
from benchmarks.gpu import FAMILIES, lenet, libraries, report, timing  # noqa: E402
from benchmarks.gpu import __main__ as command  # noqa: E402
from benchmarks.gpu.__main__ import main  # noqa: E402
from benchmarks.gpu.case import GPUCase  # noqa: E402
from benchmarks.timing import DisagreementError, Row  # noqa: E402

pytestmark = [pytest.mark.cuda, pytest.mark.source_tree]
TINY = Options(quick=True, tiny=True)
PRESENT = ["minidl"]


def cases_of(family):
    return importlib.import_module(f"benchmarks.gpu.{FAMILIES[family]}").cases(family, TINY)


def test_the_command_runs_every_case(gpu, tmp_path, capsys):
    file = tmp_path / "results" / "gpu.json"
    before = minidl.backends.cudnn.allow_tf32, minidl.backends.cuda.matmul.allow_tf32
    main(["--tiny", "--quick", "--json", str(file)])
    assert (minidl.backends.cudnn.allow_tf32, minidl.backends.cuda.matmul.allow_tf32) == before
    said, written = capsys.readouterr().out, json.loads(file.read_text())
    assert list(file.parent.iterdir()) == [file] and written["wrong"] == []
    for name in ("date", "device", "capability", "cuda", "copy_gb_s", "command"):
        assert written["setting"][name], name
    assert minidl.cuda.get_device_name() in said and "LeNet, the first 2 losses, float64" in said
    assert all(check["met"] for check in written["losses"])
    assert [(row["family"], row["case"], row["precision"]) for row in written["rows"]] == [
        (family, case.name, case.precision) for family in FAMILIES for case in cases_of(family)]
    for row in written["rows"]:
        if "note" in row:
            assert "compiled" in row["case"] and "minidl.compile" in row["note"] and row["note"] in said
            continue
        assert row["apart"] < 1e-2 and row["compared_with"]
        for clock in ("events", "wall"):
            assert row[clock]["minidl"]["median"] >= row[clock]["minidl"]["min"] > 0


def test_the_sizes_are_those_that_count():
    """Each layer of the plan is there, in both precisions; nothing has a name twice."""
    full = {family: importlib.import_module(f"benchmarks.gpu.{module}").cases(family, Options())
            for family, module in FAMILIES.items()}
    for cases in full.values():
        assert len({(case.name, case.precision) for case in cases}) == len(cases)
    assert len(full["conv"]) == 36 and {case.precision for case in full["conv"]} == {"float32", "TF32"}
    by_name = {(case.name, case.precision): case for case in full["conv"]}
    first = by_name["64x1x28x28 -> 6 k5 p2, forward", "float32"]
    assert first.flops == 2 * 64 * 6 * 28 * 28 * 25 and first.goals == {"PyTorch": 1.0}
    large = by_name["64x512x7x7 -> 512 k3 p1, forward+backward", "TF32"]
    assert large.flops == 3 * 2 * 64 * 512 * 512 * 49 * 9 and large.goals == {"PyTorch": 0.5}
    assert by_name["64x64x56x56 -> 64 k3 p1 g64, forward", "float32"].goals == {"PyTorch": 1.0}
    assert [case.precision for case in full["matmul"] if "4096" in case.name] == ["float32", "TF32", "float64"]
    assert [case.goals for case in full["step"]] == [
        {}, {}, {"PyTorch": 1.0}, {"PyTorch": 5.0, "CUDA graph": 1.0}, {}, {"PyTorch": 3.0}]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_timed_is_computed(gpu, family):
    """Nothing is put off until somebody looks at a result: every call asks the GPU for work."""
    if cuda_device.REAL:
        pytest.skip("counts what the emulated GPU does")
    for case in cases_of(family):
        if "compiled" in case.name:
            continue
        job = case.make(libraries.KINDS["minidl"])
        cuda_device.emulation().reset_counters()
        job.call()
        counted = cuda_device.emulation().counters()
        passes = 1 if "backward" not in case.name else 2
        assert counted.launches + counted.copies_on_device >= passes, case.name


def test_a_wrong_number_is_not_timed(gpu):
    def make(library):
        numbers = np.array([1.0, 2.0 if library.device == "cuda" else 2.1])
        return Job(lambda: None, [Result("output", numbers, 1e-3)])

    with pytest.raises(DisagreementError, match="minidl and minidl on the CPU compute different things"):
        timing.measure("step", GPUCase("wrong", make), PRESENT, TINY)


def test_a_wrong_number_is_told_and_ends_the_command_with_an_error(gpu, monkeypatch, capsys):
    right = minidl.nn.functional.cross_entropy
    monkeypatch.setattr(minidl.nn.functional, "cross_entropy",
                        lambda scores, labels: right(scores, labels) * (1.1 if scores.is_cuda else 1.0))
    with pytest.raises(SystemExit, match="compute different things"):
        main(["--tiny", "--quick", "--only", "cross-entropy", "elementwise"])
    said = capsys.readouterr().out
    assert "loss: apart by" in said and "x.sum(0)" in said, "the others are timed"


def test_a_failing_kernel_costs_no_other_figures(gpu, monkeypatch, tmp_path):
    def fails(*arguments):
        raise RuntimeError("CUDA error in the kernel")

    monkeypatch.setattr(minidl.nn.functional, "cross_entropy", fails)
    file = tmp_path / "gpu.json"
    with pytest.raises(SystemExit, match="CUDA error in the kernel"):
        main(["--tiny", "--quick", "--only", "losses", "cross-entropy", "elementwise", "--json", str(file)])
    written = json.loads(file.read_text())
    assert len(written["wrong"]) == 2 and {row["family"] for row in written["rows"]} == {"elementwise"}


def test_wrong_losses_are_missed(gpu, monkeypatch):
    right = minidl.optim.SGD.step

    def wrong(self):
        first = self.param_groups[0]["params"][0]
        if first.is_cuda:
            first.grad = first.grad * 0.9
        return right(self)

    monkeypatch.setattr(minidl.optim.SGD, "step", wrong)
    assert not any(check.fine for check in lenet.checks(PRESENT, TINY))
    assert "MISSED" in report.check_line(lenet.Check("losses", "PyTorch", float("nan"), 1e-5))


def test_ratios_rates_and_goals():
    case = GPUCase("step", lambda library: None, beside=("PyTorch", "CUDA graph"), nbytes=8e5, share=0.8,
                   goals={"PyTorch": 5.0, "CUDA graph": 1.0})
    rows = [Row("step", "step", 0, "us", {"minidl": [10.0, 12.0, 20.0], "PyTorch": [50.0, 66.0, 70.0]})] * 2
    timed = timing.Timed(case, *rows)
    assert [(goal.what, goal.wanted, goal.met) for goal in report.goals(timed, 1e11)] == [
        ("of PyTorch's speed", 5.0, True), ("of a copy's bandwidth", 0.8, False)]
    told = report.line(timed, case.beside, 1e11)
    assert "67 GB/s" in told and "5.00 /  5.50" in told and "5.50 of PyTorch's speed (5 wanted): met" in told
    assert "0.67 of a copy's bandwidth (0.8 wanted): MISSED" in told
    assert "goals: 1 of 2" in "\n".join(report.verdict([timed], [], 1e11))
    written = report.as_dict(timed, 1e11)
    assert written["events"]["minidl"] == {"min": 10.0, "median": 12.0, "spread": 1.2, "blocks": 3}
    assert written["ratios"]["PyTorch"] == {"min": 5.0, "median": 5.5} and "CUDA graph" not in written["ratios"]


@pytest.mark.torch
def test_pytorchs_columns_are_filled(gpu, torch, monkeypatch, tmp_path, capsys):
    """PyTorch on the CPU in place of PyTorch on a GPU: what it computes agrees, and every row has its columns."""
    def block(library, job, calls):
        if library.name == "minidl":
            return right(library, job, calls)
        with library.switched():
            job.call()
        return 1e-3, 2e-3

    right = timing.block
    monkeypatch.setattr(timing, "block", block)
    for kind, library in libraries.KINDS.items():
        if library.name == "torch":
            monkeypatch.setitem(libraries.KINDS, kind, dataclasses.replace(library, device="cpu"))
    monkeypatch.setattr(lenet, "UnderGraph", lambda step: step)
    for module in (libraries, report, command):
        monkeypatch.setattr(module, "absent", lambda kind: "")
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    file = tmp_path / "gpu.json"
    main(["--tiny", "--quick", "--json", str(file)])
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == before
    written = json.loads(file.read_text())
    assert all(check["judge"] == "PyTorch" and check["met"] for check in written["losses"])
    for row, case in zip(written["rows"], [case for family in FAMILIES for case in cases_of(family)], strict=True):
        assert "note" in row or list(row["events"]) == list(row["wall"]) == ["minidl", *case.beside], row
    assert "1000.00" in capsys.readouterr().out


def test_time_that_is_over_is_told(gpu, capsys):
    with pytest.raises(SystemExit, match="elementwise: the time was over before 7 of its cases"):
        main(["--tiny", "--quick", "--only", "elementwise", "--minutes", "0"])


class FakeCUDA:
    """What ``UnderGraph`` asks of ``torch.cuda``, for a step that counts."""

    def __init__(self):
        self.done = []

    def Stream(self):  # noqa: N802
        return self

    def current_stream(self):
        return self

    def wait_stream(self, stream):
        self.done.append("wait")

    def stream(self, stream):
        return self

    def graph(self, graph):
        self.done.append("capture")
        return self

    def CUDAGraph(self):  # noqa: N802
        return self

    def replay(self):
        self.done.append("replay")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None


def test_a_step_is_warmed_up_captured_and_replayed(monkeypatch):
    cuda = FakeCUDA()
    monkeypatch.setitem(sys.modules, "torch", type("torch", (), {"cuda": cuda}))
    step = libraries.UnderGraph(lambda x: cuda.done.append("step") or "loss")
    assert [step(1), step(1), step(1)] == ["loss"] * 3
    assert cuda.done == ["wait", "step", "wait", "capture", "step", "replay", "replay"]


def test_without_a_gpu_it_says_so():
    code = "import sys; sys.modules['pycuda'] = None; from benchmarks.gpu.__main__ import main; main([])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("benchmarks.gpu: nothing to measure on: device 'cuda' was asked for, but PyCUDA")
    assert done.stdout == "" and "Traceback" not in done.stderr
