"""Which compiled variant of the kernels runs."""

import os
import subprocess
import sys

import pytest

import minidl
from minidl._ext import instruction_set


def capability(isa):
    code = "import minidl; print(minidl.backends.cpu.get_cpu_capability())"
    return subprocess.run([sys.executable, "-c", code], env=os.environ | {"MINIDL_ISA": isa}, capture_output=True,
                          text=True, check=False)


@pytest.mark.parametrize("isa", instruction_set.supported())
def test_the_environment_chooses(isa):
    expected = {"base": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}[isa]
    assert capability(isa).stdout.strip() == expected


def test_an_unknown_one_says_what_there_is():
    run = capability("mmx")
    assert run.returncode == 1
    assert "ImportError: MINIDL_ISA=mmx: instruction set 'mmx': this processor runs base" in run.stderr


def test_use_tells_what_was_used():
    before = instruction_set.use("base")
    assert minidl.backends.cpu.get_cpu_capability() == "DEFAULT"
    assert instruction_set.use(before) == "base"
    assert instruction_set.used() == before


def test_the_widest_is_what_pytorch_sees():
    torch = pytest.importorskip("torch")
    widest = {"base": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}[instruction_set.supported()[-1]]
    assert torch.backends.cpu.get_cpu_capability() == widest
