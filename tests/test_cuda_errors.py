"""What goes wrong on a GPU is an error that says what and where, and never the end of the process.

Each test is a process of its own over the emulated GPU, with two devices: forks, lost contexts and what happens at the
end of a process cannot be tried in this one.  PyCUDA and its stand-in clean up differently, so both are tried.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import cuda_device
import cuda_emulation
import pytest

pytestmark = pytest.mark.cuda

HERE = Path(__file__).resolve().parent
START = """
import contextlib, gc, multiprocessing, os, sys
sys.path.insert(0, {tests!r})
import cuda_emulation
gpu = cuda_emulation.load(devices={devices}, stand_in={stand_in})
import minidl
from minidl import nn

@contextlib.contextmanager
def error(*words, kind=RuntimeError):
    '''The block raises an exception of just this kind, with these words in its text.'''
    try:
        yield
    except Exception as raised:
        assert type(raised) is kind, repr(raised)
        assert all(word in str(raised) for word in words), str(raised)
    else:
        raise AssertionError("nothing was raised")
"""


@pytest.fixture(params=["pycuda", "stand-in"])
def run(request):
    """Runs code in a process of its own, which has to end well and say nothing on stderr but ``stderr``."""
    if cuda_device.REAL:
        pytest.skip("two devices, forks and lost contexts are tried on the emulated GPU")

    def run(code: str, devices: int = 2, stderr: str = "") -> None:
        start = START.format(tests=str(HERE), devices=devices, stand_in=request.param == "stand-in")
        done = subprocess.run([sys.executable, "-c", start + textwrap.dedent(code)], capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0 and re.fullmatch(stderr, done.stderr), done.stderr + done.stdout

    try:
        cuda_emulation.build.library()
    except cuda_emulation.CannotEmulateError as reason:
        pytest.skip(str(reason))
    return run


def test_tensors_of_two_devices(run):
    run("""
    a, b, c = minidl.ones(3, device="cuda:0"), minidl.full((3,), 2.0, device="cuda:1"), minidl.ones(3)
    assert minidl.cuda.device_count() == 2
    assert (b + b).device == minidl.device("cuda", 1) and (b * b).tolist() == [4.0] * 3
    assert (a.to("cuda:1") + b).tolist() == (b.cuda(0) + a).tolist() == [3.0] * 3
    for one, two in ((a, b), (b, a), (a, c), (c, b)):
        with error("add: expected all tensors to be on the same device, but found at least two devices, "
                   f"{one.device} and {two.device}"):
            one + two
    image, weight = minidl.ones(1, 1, 4, 4, device="cuda:1"), minidl.ones(1, 1, 3, 3, device="cuda:0")
    with error("conv2d: expected all tensors to be on the same device", "cuda:1 and cuda:0"):
        nn.functional.conv2d(image, weight)
    with error("linear: expected", "cuda:1 and cpu"):
        nn.functional.linear(image, minidl.ones(2, 4, device="cuda:1"), minidl.ones(2))
    with error("cross_entropy: expected", "cuda:0 and cpu"):
        nn.functional.cross_entropy(minidl.ones(2, 3, device="cuda:0"), minidl.tensor([0, 1]))
    with error("indices should be either on cpu or on the same device as the indexed tensor (cuda:1)", "one on cuda:0"):
        b[minidl.tensor([0], device="cuda:0")]
    with error("the output is on cuda:0, its gradient on cuda:1"):
        (a.requires_grad_() * 2).backward(b)
    assert b.copy_(a.detach()).tolist() == [1.0] * 3 and b.device.index == 1
    """)


def test_a_second_device_trains_beside_the_first(run):
    run("""
    x = minidl.ones(3, device="cuda:0", requires_grad=True)
    (x.to("cuda:1") * 3).sum().backward()
    assert x.grad.device.index == 0 and x.grad.tolist() == [3.0] * 3
    parameters = [minidl.ones(2, device=where, requires_grad=True) for where in ("cpu", "cuda:0", "cuda:1")]
    optimizer = minidl.optim.Adam(parameters, lr=0.5)
    for each in parameters:
        (each * 2).sum().backward()
    optimizer.step()
    assert all(each.tolist() == parameters[0].tolist() != [1.0, 1.0] for each in parameters)
    minidl.cuda.set_device(1)
    assert minidl.cuda.current_device() == 1 and minidl.ones(1, device="cuda").device.index == 1
    with minidl.cuda.device(0):
        assert minidl.rand(1, device="cuda").device.index == 0
    assert nn.Linear(2, 2).cuda().weight.device.index == 1 and minidl.ones(1).cuda().device.index == 1
    assert minidl.cuda.memory_allocated(0) > 0 and minidl.cuda.memory_allocated() > 0
    """)


def test_devices_that_are_not_there(run):
    run("""
    asked = "CUDA error: invalid device ordinal: cuda:7 was asked for, this machine has 1 CUDA device"
    x = minidl.ones(1)
    for call in (lambda: minidl.ones(1, device="cuda:7"), lambda: x.to("cuda:7"), lambda: x.cuda(7),
                 lambda: minidl.cuda.set_device(7), lambda: minidl.cuda.synchronize(7), lambda: minidl.cuda.Stream(7),
                 lambda: nn.Linear(1, 1).to("cuda:7"), lambda: x.pin_memory("cuda:7"),
                 lambda: minidl.cuda.get_device_name("cuda:7"), lambda: minidl.cuda.memory_allocated(7)):
        with error(asked):
            call()
    assert minidl.cuda.current_device() == 0
    for wrong in ("cuda:-1", "cuda:x", "cuda:", "cuda:1.5"):
        with error(f"Invalid device string: {wrong!r}"):
            minidl.ones(1, device=wrong)
    with error("Expected one of cpu, cuda device type at start of device string: gpu"):
        x.to("gpu")
    """, devices=1)


def test_a_machine_without_a_gpu(run):
    run("""
    assert not minidl.cuda.is_available() and minidl.cuda.device_count() == 0
    with error("device 'cuda' was asked for, but the NVIDIA driver does not start", "no CUDA-capable device"):
        minidl.ones(1, device="cuda")
    assert minidl.ones(1).tolist() == [1.0]
    """, devices=0)


@pytest.mark.parametrize("missing, told", [
    ("pycuda", ["PyCUDA cannot be imported; install it with pip install 'minidl[cuda]'"]),
    ("libcuda", ["Found no NVIDIA driver on your system", "libcuda.so.1: cannot open shared object file"]),
])
def test_a_machine_without_pycuda_or_driver(missing, told):
    """The driver's absence as PyCUDA's extension tells of it."""
    hide = "sys.modules['pycuda'] = None"
    if missing == "libcuda":
        hide = """
class NoDriver:
    def find_spec(self, name, *rest):
        if name.startswith('pycuda'):
            raise ImportError('libcuda.so.1: cannot open shared object file: No such file or directory')
sys.meta_path.insert(0, NoDriver())"""
    code = f"""
import sys
{hide}
import minidl
assert not minidl.cuda.is_available() and minidl.cuda.device_count() == 0
for call in (lambda: minidl.ones(1, device="cuda"), lambda: minidl.ones(1).cuda(), lambda: minidl.ones(1).pin_memory(),
             lambda: minidl.nn.Linear(1, 1).to("cuda:0"), lambda: minidl.cuda.synchronize()):
    try:
        call()
    except RuntimeError as error:
        assert all(word in str(error) for word in {told!r}), error
    else:
        raise AssertionError("nothing was raised")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_memory_that_does_not_suffice(run):
    run("""
    gpu.configure(total_memory=64 << 20)
    kept, cached = minidl.zeros(4 << 20, device="cuda"), minidl.zeros(8 << 20, device="cuda")
    del cached
    with error("CUDA out of memory. Tried to allocate 256.00 MiB. GPU 0 has a total capacity of 64.00 MiB of which "
               "48.00 MiB is free; minidl's tensors hold 16.00 MiB", kind=minidl.cuda.OutOfMemoryError):
        minidl.zeros(64 << 20, device="cuda")
    assert minidl.zeros(10 << 20, device="cuda").sum().item() == 0, "what was cached went back"
    assert kept.sum().item() == 0
    """)


# ---- forks


FORK = """
def forked(work, leave):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            if code:
                import traceback
                traceback.print_exc()
            if leave is os._exit or code:
                os._exit(code)
        leave(0)
    return os.waitpid(child, 0)[1]
"""


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_a_forked_child_is_refused_and_the_parent_goes_on(run, leave):
    run(FORK + f"""
x, event, stream = minidl.ones(1000, device="cuda"), minidl.cuda.Event().record(), minidl.cuda.Stream()
other, pinned = minidl.ones(3, device="cuda:1"), minidl.ones(3).pin_memory()

def work():
    global event, stream, x
    for call in (lambda: x + 1, lambda: x[0].item(), lambda: repr(x), lambda: x.cpu(), lambda: other * 2,
                 lambda: x.zero_(), lambda: minidl.empty(3, device="cuda"), lambda: minidl.ones(3).cuda(),
                 lambda: minidl.ones(3).pin_memory(), lambda: minidl.cuda.synchronize(),
                 lambda: minidl.cuda.Stream(), lambda: event.query(), lambda: stream.synchronize(),
                 lambda: nn.Linear(2, 2).to("cuda:1")):
        with error("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
                   "'spawn' start method"):
            call()
    assert not minidl.cuda.is_available() and minidl.cuda.device_count() == 0
    assert (minidl.ones(3) + pinned).tolist() == [2.0] * 3 and nn.Linear(2, 2)(minidl.ones(1, 2)).shape == (1, 2)
    del x, event, stream
    gc.collect()

assert forked(work, {leave}) == 0
assert (x + 1).sum().item() == 2000 and (other * 2).tolist() == [2.0] * 3 and event.query()
stream.synchronize()
assert minidl.cuda.device_count() == 2
""")


def test_a_child_of_a_process_that_has_not_used_cuda_may(run):
    run(FORK + """
def work():
    assert (minidl.ones(3, device="cuda") * 2).tolist() == [2.0] * 3

assert forked(work, sys.exit) == 0
work()
""")


def test_workers_of_a_loader_read_while_the_parent_has_a_gpu(run):
    run("""
    from minidl.utils.data import DataLoader, Dataset, TensorDataset

    class OnGPU(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return x[index]

    x = minidl.arange(8.0, device="cuda")
    for persistent in (False, True):
        loader = DataLoader(TensorDataset(minidl.arange(8.0)), 2, num_workers=2, persistent_workers=persistent)
        for _ in range(2):
            assert sum((batch.cuda() * x[:2].sum()).sum().item() for batch, in loader) == 28.0
    with error("Caught RuntimeError in DataLoader worker process 0", "Cannot re-initialize CUDA in forked subprocess"):
        list(DataLoader(OnGPU(), num_workers=1))
    assert x.sum().item() == 28.0
    """)


# ---- lost contexts


GONE = {
    "reset by something else": "gpu.library.cuDevicePrimaryCtxReset_v2(0)",
    "given up by something else": "runtime.context.detach()",
    "popped by something else": "import pycuda.driver; pycuda.driver.Context.pop()",
}


@pytest.mark.parametrize("how", GONE)
def test_a_tensor_whose_context_is_gone(run, how):
    run(f"""
x, event, stream = minidl.ones(1000, device="cuda"), minidl.cuda.Event().record(), minidl.cuda.Stream()
y, pinned = x + 1, minidl.ones(3).pin_memory()
runtime = x._backend.runtime
{GONE[how]}
for call in (lambda: x + 1, lambda: x.add_(1), lambda: x.sum().item(), lambda: x.cpu(), lambda: minidl.ones(3).cuda(),
             lambda: minidl.empty(1 << 20, device="cuda"), lambda: minidl.ones(3).pin_memory(), lambda: repr(x),
             lambda: pinned.to("cuda", non_blocking=True), lambda: minidl.cuda.synchronize(), lambda: event.query(),
             lambda: stream.synchronize(), lambda: minidl.cuda.Stream(), lambda: minidl.cuda.Event().record()):
    with error("CUDA error", "The context of the GPU is gone"):
        call()
assert minidl.ones(3).sum().item() == 3 and pinned.sum().item() == 3
del x
gc.collect()
minidl.cuda.empty_cache()
""", stderr=r"(PyCUDA WARNING: a clean-up operation failed.*\n.*\n)*")


def test_after_a_fault_every_call_says_so_and_the_process_ends_well(run):
    run("""
    x, y = minidl.ones(4, 5, device="cuda"), minidl.ones(3)
    gpu.configure(fail_launch=0)
    with error("CUDA error in the kernel", "float32[4, 5]", "unspecified launch failure"):
        x.exp()
    for call in (lambda: x.exp(), lambda: x.cpu(), lambda: minidl.cuda.synchronize(), lambda: y.cuda()):
        with error("CUDA error", "unspecified launch failure"):
            call()
    assert y.tolist() == [1.0] * 3
    """)
