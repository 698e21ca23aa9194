"""tools/check_kernels.py: what it reads from ptxas, what it objects to, and what it does without nvcc."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.source_tree

TOOL = Path(__file__).resolve().parents[1] / "tools" / "check_kernels.py"
REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'gemm_f32' for 'sm_90'
ptxas info    : Function properties for gemm_f32
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 8704 bytes smem
ptxas info    : Compile time = 30.1 ms
ptxas info    : Compiling entry function 'fill_f64' for 'sm_90'
ptxas info    : Function properties for fill_f64
    40 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers
"""
GOOD = 'extern "C" __global__ void __launch_bounds__(256) twice(float* x) { x[0] = DOUBLE(x[threadIdx.x]); }\n'


@pytest.fixture(scope="module")
def tool():
    return SimpleNamespace(**runpy.run_path(str(TOOL)))


def test_a_report_is_read(tool):
    assert tool.read_report(REPORT) == [
        tool.Kernel("gemm_f32", registers=48, shared=8704, stack=0, spill_stores=0, spill_loads=0),
        tool.Kernel("fill_f64", registers=255, shared=0, stack=40, spill_stores=8, spill_loads=16),
    ]


def test_spills_stack_and_what_does_not_fit_are_problems(tool):
    gemm, fill = tool.read_report(REPORT)
    assert tool.problems(gemm, 256) == []
    assert [problem.split(" ")[0] for problem in tool.problems(fill, None)] == ["spills", "uses"]
    assert "257 threads of 256 registers do not fit" in tool.problems(fill, 257)[-1]
    huge = tool.Kernel("huge", registers=16, shared=49153, stack=0, spill_stores=0, spill_loads=0)
    assert "more than 49152" in tool.problems(huge, 32)[0]


def test_launch_bounds_and_the_oldest_architecture_are_read_from_the_source(tool):
    source = ("// minidl-min-arch: 80\n__global__ void __launch_bounds__(128, 2) f(int n)\n"
              "__global__ __launch_bounds__(64) void g()")
    assert tool.launch_bounds(source) == {"f": 128, "g": 64}
    assert tool.oldest_architecture(source) == 80
    assert tool.oldest_architecture("") == 75


def test_stack_that_a_file_accounts_for_is_no_problem(tool):
    _, fill = tool.read_report(REPORT)
    assert tool.allowed_stack("// minidl-stack: 40 (why)") == 40 and tool.allowed_stack("") == 0
    assert [problem.split(" ")[0] for problem in tool.problems(fill, None, stack=40)] == ["spills"]
    assert [problem.split(" ")[0] for problem in tool.problems(fill, None, stack=39)] == ["spills", "uses"]


def test_without_nvcc_nothing_fails_unless_it_is_required(tool, monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda *arguments, **options: None)
    assert tool.main([]) == 0
    assert "nvcc is not found; nothing was checked" in capsys.readouterr().out
    assert tool.main(["--require"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("source, complaint", [
    (GOOD, None),
    ('extern "C" __global__ void f(int* x) { int unused; x[0] = 1; }\n', "broken.cu\\(1\\).*unused"),
    ('extern "C" __global__ void f(int* x) {\n    x[0] = missing;\n}\n', "broken.cu\\(2\\).*missing"),
    ('extern "C" __global__ void f(int* x) { int a[64] = {}; for (int i = 0; i < 99; ++i) a[x[i] & 63] += i;\n'
     "    x[0] = a[x[1] & 63]; }\n", "stack|local"),
])
def test_files_are_compiled_with_the_shared_text_before_them(tool, tmp_path, capsys, source, complaint):
    if tool.find_nvcc() is None:
        pytest.skip("nvcc is not found")
    (tmp_path / "common.cuh").write_text("#define DOUBLE(x) (2 * (x))\n")
    (tmp_path / "broken.cu").write_text(source + "// minidl-min-arch: 120\n")
    assert tool.main([str(tmp_path)]) == int(complaint is not None)
    said = capsys.readouterr().out
    if complaint is None:
        assert "1 builds of 1 files, 1 kernels, 0 problems" in said and "twice" in said
    else:
        assert re.search(complaint, said)
