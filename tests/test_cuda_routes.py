"""The GPU's tests once more by other ways, each in a process of its own (``MINIDL_TEST_GPU`` in ``cuda_device.py``).

All of them run in all ways in ``.ci/run emulation``; here are those that say most in seconds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cuda_emulation
import pytest

pytestmark = [
    pytest.mark.cuda, pytest.mark.slow,
    pytest.mark.skipif("MINIDL_TEST_GPU" in os.environ, reason="runs the tests in other ways than the usual one"),
]
HERE = Path(__file__).resolve().parent
OPS = ["test_cuda_ops.py", "test_cuda_lenet.py", "-k", "agrees_with_the_cpu or losses"]
HOST = ["test_cuda_host.py", "test_cuda_tensor.py", "test_cuda_lenet.py", "test_cuda_loader.py"]


def run(way: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """pytest on files of this folder, with a GPU reached in another way."""
    paths = [str(HERE / word) if word.endswith(".py") else word for word in words]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "cuda", *paths], cwd=HERE.parent,
        env=os.environ | {"MINIDL_TEST_GPU": way} | environment, capture_output=True, text=True)


def passed(done: subprocess.CompletedProcess) -> int:
    """How many tests passed, in a run in which none failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.search(r"(\d+) passed", done.stdout)[1])


def emulated_driver() -> Path:
    """The stand-in for libcuda.so.1, or the test is skipped."""
    try:
        return cuda_emulation.build.library()
    except cuda_emulation.CannotEmulateError as reason:
        pytest.skip(str(reason))


def test_nvccs_ptx_computes_what_the_cpu_does():
    """Every op's case and LeNet's losses from what NVIDIA's compiler makes, threads and streams in random order."""
    emulated_driver()
    if not cuda_emulation.real_nvcc():
        pytest.skip("nvcc, which makes the PTX, is not found")
    assert passed(run("ptx,order=2,lazy=2", *OPS)) > 300


def test_the_stand_in_for_pycuda_serves_the_host_code():
    emulated_driver()
    assert passed(run("stand-in,order=1,lazy=1", *HOST)) > 50


def test_a_real_gpu_is_reached_without_the_emulations_help():
    """What ``make gpu-test`` does, with the emulated driver where NVIDIA's would be."""
    if subprocess.run([sys.executable, "-c", "import pycuda"], capture_output=True).returncode:
        pytest.skip("PyCUDA is not installed, and its stand-in comes with the emulation")
    folder = str(emulated_driver().parent)
    found = {"LD_LIBRARY_PATH": folder, "MINIDL_NVCC": str(cuda_emulation.nvcc())}
    done = run("real", *HOST, **found)
    assert passed(done) > 50 and "counts what the emulated GPU does" not in done.stderr
    tool = [sys.executable, str(HERE.parent / "tools" / "find_gpu.py")]
    if Path(tool[1]).exists():
        assert subprocess.run(tool, env=os.environ | found).returncode == 0
        lost = subprocess.run(tool, env=os.environ | found | {"MINIDL_NVCC": "/nowhere/nvcc"}, capture_output=True,
                              text=True)
        assert lost.returncode == 1 and "'/nowhere/nvcc' is not found: install the CUDA toolkit" in lost.stderr


def test_tests_on_a_real_gpu_that_is_not_there_say_so():
    """They do not skip, one by one, and pass."""
    done = run("real", "test_cuda_host.py", CUDA_VISIBLE_DEVICES="")
    if done.returncode == 0:
        pytest.skip("this machine has a GPU")
    assert done.returncode == 1 and "MINIDL_TEST_GPU=real asks for tests on a real GPU: " in done.stdout + done.stderr
    assert "passed" not in done.stdout and "skipped" not in done.stdout


def test_a_way_that_is_not_known_is_named():
    done = run("fast", "test_cuda_host.py")
    assert done.returncode == 1 and "MINIDL_TEST_GPU=fast: it knows real, ptx, stand-in, order=, lazy=" in done.stdout
