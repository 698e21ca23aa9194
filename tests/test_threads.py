"""The thread limit, and what importing minidl does to the environment of OpenMP."""

import os
import subprocess
import sys

import pytest

import minidl


def printed(code, **environment):
    env = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env | environment, capture_output=True, text=True, check=True).stdout.split()


def test_the_environment_is_left_as_it_was():
    code = "import os, minidl; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    assert printed(code) == ["None", "None"]
    assert printed(code, GOMP_SPINCOUNT="7") == ["7", "None"]
    assert printed(code, OMP_WAIT_POLICY="passive") == ["None", "passive"]


def test_openmp_is_told_to_spin_briefly_unless_somebody_chose():
    # OMP_DISPLAY_ENV prints what GNU OpenMP read when it was loaded
    def spins(**environment):
        env = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        env |= {"OMP_DISPLAY_ENV": "VERBOSE", **environment}
        command = [sys.executable, "-c", "import minidl"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        lines = [line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
        if not lines:
            pytest.skip("this OpenMP does not print its settings")
        return lines[0].split("'")[1]

    assert spins() == "1000"
    assert spins(GOMP_SPINCOUNT="7") == "7"


def test_the_limit_of_threads():
    assert printed("import minidl; print(minidl.get_num_threads())", OMP_NUM_THREADS="1") == ["1"]
    before = minidl.get_num_threads()
    try:
        minidl.set_num_threads(3)
        assert minidl.get_num_threads() == 3
        with pytest.raises(RuntimeError, match="positive"):
            minidl.set_num_threads(0)
    finally:
        minidl.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_with_one_thread():
    code = """
import os, minidl
minidl.set_num_threads(2)
a = minidl.rand(400, 400)
a @ a
child = os.fork()
if child == 0:
    a @ a
    os._exit(minidl.get_num_threads())
print(os.waitpid(child, 0)[1] >> 8, minidl.get_num_threads())
"""
    assert printed(code) == ["1", "2"]
