"""Worker processes of the data loader end with the program that started them, however that ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

DEADLINE = 120  # seconds; a program takes one or two

PROGRAM = """
import os, sys, time
import minidl
from minidl.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 100
    def __getitem__(self, index):
        if index > 1:
            time.sleep(0.05)
        return os.getpid()

iterator = iter(DataLoader(Slow(), num_workers=2, {options}))
print(next(iterator).item(), next(iterator).item(), flush=True)
{end}
"""


def workers_after(end, options=""):
    """Run a program that has two workers and then ends in some way; True for each worker that is still there."""
    run = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM.format(end=end, options=options)],
                         capture_output=True, text=True, check=False, timeout=DEADLINE)
    deadline = time.monotonic() + 30
    workers = [int(pid) for pid in run.stdout.split()]
    assert len(workers) == 2
    while time.monotonic() < deadline and any(map(alive, workers)):
        time.sleep(0.2)
    return run, [alive(pid) for pid in workers]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "del iterator"])
@pytest.mark.parametrize("options", ["", "persistent_workers=True"])
def test_a_program_that_ends_takes_its_workers_along(end, options):
    run, left = workers_after(end, options)
    assert (run.returncode, run.stderr, left) == (0, "", [False, False])


def test_a_program_that_is_killed_takes_its_workers_along():
    run, left = workers_after("os.kill(os.getpid(), 9)")
    assert (run.returncode, left) == (-signal.SIGKILL, [False, False])


@pytest.mark.slow
def test_workers_see_that_the_parent_is_gone_also_when_another_process_holds_their_sockets():
    end = "\n".join([
        "child = os.fork()",
        "if child == 0:",
        "    os.closerange(1, 3)",
        "    time.sleep(300)",
        "print(child, flush=True)",
        "os.kill(os.getpid(), 9)",
    ])
    run = subprocess.run([sys.executable, "-c", PROGRAM.format(end=end, options="")], stdout=subprocess.PIPE,
                         text=True, check=False, timeout=DEADLINE)
    *workers, child = map(int, run.stdout.split())
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.2)
    try:
        assert alive(child)
        assert [alive(pid) for pid in workers] == [False, False]
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_interrupt_is_the_parents_alone():
    # A shell starts what runs in its background with SIGINT ignored, and Python leaves it so.
    end = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); os.killpg(0, signal.SIGINT); "
           "next(iterator)")
    run = subprocess.run([sys.executable, "-c", PROGRAM.format(end=end, options="")], capture_output=True, text=True,
                         check=False, timeout=DEADLINE, start_new_session=True)
    assert run.stderr.count("Traceback") == 1
    assert "KeyboardInterrupt" in run.stderr
