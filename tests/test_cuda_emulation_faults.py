"""The emulated GPU catches what it is there for: every planted fault becomes an error that names it.

Faults that a run in one order of the threads cannot show (races) must show as a difference between orders.  The kernels
are in ``cuda_faults.cu``.  They run as g++ compiles them and, where nvcc is there, as nvcc's PTX says; and once more
over the stand-in for PyCUDA, in a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cuda_emulation
import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
STAND_IN = "MINIDL_TEST_PYCUDA_STAND_IN"  # set in the process that uses it
NAN = np.float32("nan")


class Faults:
    """The planted kernels over PyCUDA, with the emulation to steer."""

    def __init__(self, emulation: Any, driver: Any, module: Any, route: str) -> None:
        self.emulation, self.driver, self.module, self.route = emulation, driver, module, route

    def run(self, kernel: str, *arguments: Any, grid: Any = (1, 1), block: Any = (32, 1, 1), shared: int = 0) -> None:
        self.module.get_function(kernel)(*arguments, grid=grid, block=block, shared=shared)

    def floats(self, count: int) -> Any:
        """Device memory for so many float32."""
        return self.driver.mem_alloc(4 * count)

    def read(self, memory: Any, count: int) -> np.ndarray:
        numbers = np.empty(count, np.float32)
        self.driver.memcpy_dtoh(numbers, memory)
        return numbers

    def in_orders(self, kernel: str, count: int, **launch: Any) -> list[np.ndarray]:
        """What a kernel leaves in its array with threads forward, backward and twice at random."""
        found, memory = [], self.floats(count)
        for order in (0, 1, 2, 2):
            with self.emulation.configured(order=order):
                self.run(kernel, memory, **launch)
            found.append(self.read(memory, count))
        return found


def load() -> Any:
    if os.environ.get("MINIDL_TEST_GPU") == "real":
        pytest.skip("the tests run on a real GPU")
    try:
        return cuda_emulation.load(stand_in=STAND_IN in os.environ)
    except cuda_emulation.CannotEmulateError as error:
        pytest.skip(str(error))


def leave(emulation: Any, context: Any) -> None:
    """Give a primary context up, which is current."""
    context.pop()
    context.detach()
    if "stand-in" not in sys.modules["pycuda"].VERSION_TEXT:
        emulation.library.cuCtxPopCurrent_v2(None)  # PyCUDA makes it current once more for this, and leaves it so


@pytest.fixture(scope="module", params=["source", "ptx"])
def compiled(request: Any, tmp_path_factory: Any) -> Iterator[tuple]:
    emulation = load()
    import pycuda.driver as driver

    if request.param == "ptx" and not cuda_emulation.real_nvcc():
        pytest.skip("nvcc, which makes the PTX, is not found")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    from pycuda.compiler import compile as compile_source

    image = compile_source(
        (HERE / "cuda_faults.cu").read_text(encoding="utf-8"),
        nvcc=str(cuda_emulation.nvcc(ptx=request.param == "ptx")),
        no_extern_c=True,
        cache_dir=str(tmp_path_factory.mktemp("kernels")),
    )
    yield emulation, driver, driver.module_from_buffer(image), request.param
    leave(emulation, context)


@pytest.fixture
def faults(compiled: tuple) -> Iterator[Faults]:
    found = Faults(*compiled)
    found.emulation.clear_error()
    found.emulation.take_reports()
    yield found
    found.emulation.clear_error()
    found.emulation.take_reports()


def use_after_free(faults: Faults) -> None:
    memory = faults.driver.mem_alloc(4096)
    pointer = int(memory)
    memory.free()
    faults.run("write_own_place", np.intp(pointer))


def copy_past_the_end(faults: Faults) -> None:
    faults.driver.memcpy_htod(faults.floats(64), np.zeros(65, np.float32))


def misaligned(faults: Faults) -> None:
    faults.run("misaligned_vector", faults.floats(1000), faults.floats(1), block=(1, 1, 1))


def capture(faults: Faults, work: Callable[[], None]) -> None:
    """Do something while a stream captures in the mode that forbids waiting and allocating."""
    library, stream, graph = faults.emulation.library, faults.driver.Stream(), ctypes.c_void_p()
    assert library.cuStreamBeginCapture_v2(ctypes.c_void_p(stream.handle), 0) == 0
    try:
        work()
    finally:
        library.cuStreamEndCapture(ctypes.c_void_p(stream.handle), ctypes.byref(graph))
        library.cuGraphDestroy(graph)


FAULTS: dict[str, tuple[str, Callable[[Faults], None]]] = {
    "write past the end": (
        r"write_own_place block \(3,0,0\) thread \(232,0,0\).*: 0 bytes past the end of allocation #\d+ of 4000 bytes",
        lambda f: f.run("write_own_place", f.floats(1000), grid=(4, 1), block=(256, 1, 1)),
    ),
    "write far away": (
        "65524 bytes past the end",
        lambda f: f.run("write_at", f.floats(4), np.int32(4 + 16381), block=(1, 1, 1)),
    ),
    "write before the start": (
        "4096 bytes before the start",
        lambda f: f.run("write_at", f.floats(1024), np.int32(-1024), block=(1, 1, 1)),
    ),
    "use after free": ("inside freed allocation", use_after_free),
    "shared array": ("a check failed|past the", lambda f: f.run("shared_array_overrun", f.floats(32), np.int32(8))),
    "dynamic shared memory": (
        "4 bytes past the 64 bytes of dynamic shared memory",
        lambda f: f.run("dynamic_shared_overrun", f.floats(1), np.int32(17), block=(1, 1, 1), shared=64),
    ),
    "divergent barrier": (
        r"divergent __syncthreads\(\): threads of the block wait in line \d+, others in line \d+",
        lambda f: f.run("divergent_barrier", f.floats(2), block=(64, 1, 1)),
    ),
    "shuffle without all lanes": ("deadlock", lambda f: f.run("shuffle_without_all_lanes", f.floats(32))),
    "misaligned float4": ("a check failed|misaligned", misaligned),
    "division by zero": (
        "an integer was divided by zero",
        lambda f: f.run("divide", f.floats(1), np.int32(0), block=(1, 1, 1)),
    ),
    "trap": (r"__trap\(\)", lambda f: f.run("failing_assertion", f.floats(1), np.int32(2), block=(1, 1, 1))),
    "block too large": (r"bad block \(2048,1,1\)", lambda f: f.run("write_own_place", f.floats(1), block=(2048, 1, 1))),
    "grid too large": (r"bad grid \(1,70000,1\)", lambda f: f.run("write_own_place", f.floats(1), grid=(1, 70000))),
    "launch bounds": (
        r"a block of 256 threads, but __launch_bounds__\(128\)",
        lambda f: f.run("at_most_128_threads", f.floats(1), block=(256, 1, 1)),
    ),
    "shared memory without asking": (
        "60000 bytes of dynamic shared memory, limit 49152",
        lambda f: f.run("write_own_place", f.floats(1), shared=60000),
    ),
    "too few arguments": (
        "8 bytes of arguments given, the kernel takes 12",
        lambda f: f.run("write_at", f.floats(1), block=(1, 1, 1)),
    ),
    "copy past the end": ("260 bytes reach outside any allocation", copy_past_the_end),
    "unknown kernel": ("no kernel named nope", lambda f: f.run("nope")),
    "default stream in a capture": (
        "work on the default stream while another stream captures",
        lambda f: capture(f, lambda: f.run("write_at", f.floats(1), np.int32(0))),
    ),
    "allocation in a capture": ("an allocation while a stream captures", lambda f: capture(f, lambda: f.floats(1))),
}
# nvcc sees what cannot work and makes something else of it.
OTHERWISE_IN_PTX = {"shared array"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_an_error_that_names_it(faults: Faults, fault: str) -> None:
    if faults.route == "ptx" and fault in OTHERWISE_IN_PTX:
        pytest.skip("PTX knows no bounds of arrays")
    message, cause = FAULTS[fault]
    if fault == "default stream in a capture":
        memory = faults.floats(1)
        cause = lambda f: capture(f, lambda: f.run("write_at", memory, np.int32(0)))  # noqa: E731
    with pytest.raises(faults.driver.Error, match=message):
        cause(faults)


def test_a_fault_names_the_line(faults: Faults) -> None:
    if faults.route == "ptx":
        pytest.skip("PTX has other lines")
    with pytest.raises(faults.driver.Error, match=r"at kernel\.cu:\d+"):
        faults.run("write_own_place", faults.floats(1))


def test_after_a_fault_the_context_is_lost_until_the_test_says_otherwise(faults: Faults) -> None:
    memory = faults.floats(1)
    with pytest.raises(faults.driver.Error, match="illegal address"):
        faults.run("write_own_place", memory)
    with pytest.raises(faults.driver.Error, match="illegal"):
        faults.floats(1)
    faults.emulation.clear_error()
    faults.run("write_at", memory, np.int32(0), block=(1, 1, 1))
    assert faults.read(memory, 1) == 1


def test_a_missing_barrier_shows_in_another_order(faults: Faults) -> None:
    first, *others = faults.in_orders("missing_barrier", 256, block=(256, 1, 1))
    assert np.isnan(first).any(), "read before it was written"
    assert not all(np.array_equal(first, other, equal_nan=True) for other in others)


def test_a_race_between_blocks_shows_in_another_order(faults: Faults) -> None:
    first, *others = faults.in_orders("block_race", 1, grid=(64, 1), block=(1, 1, 1))
    assert any(first != other for other in others)


def test_a_correct_kernel_gives_the_same_in_every_order(faults: Faults) -> None:
    first, *others = faults.in_orders("write_own_place", 64, grid=(2, 1))
    assert all(np.array_equal(first, other) for other in others)


def test_uninitialized_memory_is_nan(faults: Faults) -> None:
    memory = faults.floats(64)
    assert np.isnan(faults.read(memory, 64)).all()
    faults.run("uninitialized_shared", memory, block=(64, 1, 1))
    assert np.array_equal(faults.read(memory, 64), [*[1] * 63, NAN], equal_nan=True)


@pytest.mark.parametrize("place, message", [(9, "the byte 0 past its end"), (-3, "the byte 12 before its start")])
def test_bytes_written_beside_an_allocation_are_reported_when_it_is_freed(faults, place, message, capfd) -> None:
    # 36 bytes end 12 bytes before the guard page, since allocations begin at multiples of 16 bytes.
    memory = faults.floats(9)
    faults.run("write_at", memory, np.int32(place), block=(1, 1, 1))
    memory.free()
    assert [bool(re.search(message, report)) for report in faults.emulation.take_reports()] == [True]


def test_freeing_what_is_not_allocated_is_an_error(faults: Faults) -> None:
    assert faults.emulation.library.cuMemFree_v2(ctypes.c_uint64(12345)) == 1
    assert "is no allocation" in faults.emulation.last_message


def test_lazy_streams_show_pinned_memory_used_again_too_early(faults: Faults) -> None:
    driver, memory = faults.driver, faults.floats(16)
    with faults.emulation.configured(lazy=1):
        stream, host = driver.Stream(), driver.pagelocked_empty(16, np.float32)
        host[:] = 1
        driver.memcpy_htod_async(memory, host, stream)
        host[:] = 2
        stream.synchronize()
    assert (faults.read(memory, 16) == 2).all()


def test_lazy_streams_show_a_missing_wait(faults: Faults) -> None:
    driver, x, y = faults.driver, faults.floats(32), faults.floats(32)
    double = faults.module.get_function("copy_without_barrier")
    with faults.emulation.configured(lazy=1):
        first, second, event = driver.Stream(), driver.Stream(), driver.Event()
        driver.memset_d32(x, 0x3F800000, 32)
        host = driver.pagelocked_empty(32, np.float32)
        host[:] = 3
        for wait, expected in ((False, 2), (True, 6)):
            driver.memcpy_htod_async(x, host, first)
            event.record(first)
            if wait:
                second.wait_for_event(event)
            double(x, y, np.int32(32), block=(32, 1, 1), stream=second)
            second.synchronize()
            found = np.empty(32, np.float32)
            driver.memcpy_dtoh_async(found, y, second)
            assert (found == expected).all()
            first.synchronize()


@pytest.mark.skipif(STAND_IN in os.environ, reason="this is the process that uses it")
def test_the_stand_in_for_pycuda_catches_the_same() -> None:
    load()
    files = [__file__, str(HERE / "test_cuda_emulation.py")]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=HERE.parent, env={**os.environ, STAND_IN: "1"}, capture_output=True, text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
