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
    names = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS"
    code = f"import os, minidl; print(*(os.environ.get(name) for name in {names}))"
    for mine in (["None", "None", "4"], ["7", "None", "1"], ["None", "passive", "3"]):
        set_by_me = {name: value for name, value in zip(names, mine, strict=True) if value != "None"}
        assert printed(code, **set_by_me) == mine
    without = f"import os; os.environ.pop('OPENBLAS_NUM_THREADS', None); {code}"
    assert printed(without) == ["None", "None", "None"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_import_starts_no_thread():
    code = """
import os, numpy
before = os.listdir("/proc/self/task")
import minidl
print(len(os.listdir("/proc/self/task")) - len(before))
"""
    assert printed(code) == ["0"]


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


TRAIN = """
import minidl, threading, sys
from minidl import nn

def train(seed, losses):
    generator = minidl.Generator().manual_seed(seed)
    images = minidl.rand(32, 1, 28, 28, generator=generator)
    labels = minidl.randint(0, 10, (32,), generator=generator)
    for step in range(20):
        optimizers[seed].zero_grad()
        loss = nn.functional.cross_entropy(nets[seed](images), labels)
        loss.backward()
        optimizers[seed].step()
        losses.append(loss.item())

def fresh():
    minidl.manual_seed(0)
    for seed in range(4):
        nets[seed] = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5),
                                   nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 10))
        optimizers[seed] = minidl.optim.Adam(nets[seed].parameters())

nets, optimizers, results = {}, {}, []
minidl.set_num_threads(2)
"""


def test_models_trained_in_threads_at_once_get_the_numbers_of_one_after_another():
    code = TRAIN + """
for at_once in (False, True, True):
    fresh()
    losses = [[] for _ in range(4)]
    threads = [threading.Thread(target=train, args=(seed, losses[seed])) for seed in range(4)]
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join()
    for thread in threads:
        thread.join()
    results.append(losses)
print(*(results[0] == other for other in results[1:]), len(set(map(tuple, results[0]))))
"""
    assert printed(code) == ["True", "True", "4"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_one_thread_means_one_thread():
    code = TRAIN.replace("minidl.set_num_threads(2)", "") + """
import os
fresh()
before = len(os.listdir("/proc/self/task"))
train(0, [])
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert printed(code, OMP_NUM_THREADS="1") == ["0"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_threads_of_an_idle_process_sleep():
    # NumPy's OpenBLAS has threads of its own, which spin for a tenth of a second when they begin
    code = "import os, numpy\nof_numpy = os.listdir('/proc/self/task')\n" + TRAIN + """
import time
fresh()
train(0, [])
a = minidl.rand(512, 512)
a @ a
others = [task for task in os.listdir("/proc/self/task") if task not in of_numpy]

def states():
    found = []
    for task in others:
        with open(f"/proc/self/task/{task}/stat") as file:
            found.append(file.read().rpartition(")")[2].split()[0])
    return found

# A thread that spins is seen running in some of the looks; one that sleeps is not in any.
patience = 200
while patience and not all(set(states()) == {"S"} and not time.sleep(0.002) for _ in range(20)):
    patience -= 1
    time.sleep(0.02)  # it may have something to finish, or wait for a processor
print(len(others) >= 1, patience > 0)
"""
    assert printed(code) == ["True", "True"]


def test_bits_depend_on_the_seed_and_the_number_of_threads_alone():
    code = TRAIN.replace("minidl.set_num_threads(2)", "minidl.set_num_threads(int(sys.argv[1]))") + """
for _ in range(2):
    fresh()
    train(0, losses := [])
    results.append(losses)
print(results[0] == results[1], *(loss.hex() for loss in results[0]))
"""
    for count in ("1", "2", "3"):
        one, two = (printed(code.replace("sys.argv[1]", count)) for _ in range(2))
        assert one == two
        assert one[0] == "True"
