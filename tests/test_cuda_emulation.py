"""The emulated GPU computes what a GPU computes, and its driver answers as NVIDIA's does.

The kernels are in ``cuda_functions.cu`` and run as g++ compiles them and, where nvcc is there, as nvcc's PTX says.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cuda_emulation
import numpy as np
import pytest
from test_cuda_emulation_faults import STAND_IN, leave, load

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def emulation() -> Iterator[Any]:
    gpu = load()
    import pycuda.driver as driver

    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    yield gpu
    leave(gpu, context)


@pytest.fixture
def driver(emulation: Any) -> Iterator[Any]:
    import pycuda.driver

    emulation.clear_error()
    yield pycuda.driver
    emulation.clear_error()


@pytest.fixture(scope="module", params=["source", "ptx"])
def module(request: Any, emulation: Any, tmp_path_factory: Any) -> Any:
    if request.param == "ptx" and not cuda_emulation.real_nvcc():
        pytest.skip("nvcc, which makes the PTX, is not found")
    import pycuda.driver
    from pycuda.compiler import compile as compile_source

    image = compile_source(
        (HERE / "cuda_functions.cu").read_text(encoding="utf-8"),
        nvcc=str(cuda_emulation.nvcc(ptx=request.param == "ptx")), no_extern_c=True,
        cache_dir=str(tmp_path_factory.mktemp("kernels")),
    )
    return pycuda.driver.module_from_buffer(image)


def on_device(driver: Any, array: Any) -> Any:
    memory = driver.mem_alloc(np.asarray(array).nbytes)
    driver.memcpy_htod(memory, np.asarray(array))
    return memory


def numbers(driver: Any, memory: Any, shape: Any, dtype: Any) -> np.ndarray:
    array = np.empty(shape, dtype)
    driver.memcpy_dtoh(array, memory)
    return array


# ---- kernels


@pytest.mark.parametrize("kernel, dtype, tolerance", [("functions_f32", np.float32, 1e-6),
                                                      ("functions_f64", np.float64, 1e-14)])
def test_mathematics(driver, module, kernel, dtype, tolerance):
    x = np.linspace(-4, 4, 101).astype(dtype) + dtype(0.013)
    out = driver.mem_alloc(13 * x.nbytes)
    module.get_function(kernel)(out, on_device(driver, x), np.int32(len(x)), grid=(4, 1), block=(32, 1, 1))
    v = x.astype(np.float64)
    a = np.abs(v)
    expected = [np.exp(v), np.log(a), np.tanh(v), [math.erf(t) for t in v], np.expm1(v), np.log1p(a), np.rint(v),
                1 / np.sqrt(a), np.sin(v), v * v + 1, np.maximum(v, 0.5), np.floor(v), a**1.5]
    # relative to 1 and to the result: an approximate exponential on a GPU is as good
    np.testing.assert_allclose(numbers(driver, out, (13, len(x)), dtype), expected, rtol=3 * tolerance, atol=tolerance)


def test_integers(driver, module):
    a, b, c = 0xF0F1_2345, 0xFEDC_BA98_7654_3210, 12345
    out = driver.mem_alloc(9 * 8)
    module.get_function("integers")(out, np.uint32(a), np.uint64(b), np.int32(c), block=(1, 1, 1))
    expected = [a.bit_count(), 32 - c.bit_length(), 1, a * 0xD2511F53 >> 32, (b * b >> 64) - (1 << 64),
                int(f"{a:032b}"[::-1], 2), 2 + 0x3F800000, 1, (c << 3) % 7 + (c >> 1) * (a & 5) - c // 3]
    assert numbers(driver, out, 9, np.int64).tolist() == expected


def test_votes_and_shuffles(driver, module):
    out = driver.mem_alloc(4 * 64 * 4)
    module.get_function("votes")(out, block=(64, 1, 1))
    found = numbers(driver, out, (4, 64), np.uint32)
    for i in range(64):
        warp = range(i // 32 * 32, i // 32 * 32 + 32)
        assert found[0, i] == sum(1 << lane % 32 for lane in warp if lane % 3 == 0)
        assert found[1, i] == (40 in warp) * 2 + (i < 32)
        assert found[2, i] == (i - 1 if i % 8 else i) + (i // 16 * 16 + 5) * 100
        assert found[3, i] == 10 * 1000 + 10


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("kernel, dtype", [("sum_f32", np.float32), ("sum_f64", np.float64)])
def test_sums_over_a_block_are_the_same_bits_in_any_order(driver, module, emulation, kernel, dtype, order):
    x = np.random.default_rng(0).standard_normal(256).astype(dtype)
    out, given = driver.mem_alloc(8), on_device(driver, x)
    found = []
    for chosen in (0, order):
        with emulation.configured(order=chosen):
            module.get_function(kernel)(out, given, block=(256, 1, 1))
        found.append(numbers(driver, out, 1, dtype)[0])
    assert found[0] == found[1]
    # a tree of 8 levels over numbers of about 1
    assert abs(found[0] - x.astype(np.float64).sum()) < 8 * np.finfo(dtype).eps * np.abs(x).sum()


def test_atomics_constants_and_variables(driver, module):
    total, most = on_device(driver, np.zeros(1)), on_device(driver, np.zeros(1, np.uint64))
    module.get_function("atomics")(total, most, grid=(3, 1), block=(50, 1, 1))
    assert numbers(driver, total, 1, np.float64) == 150 and numbers(driver, most, 1, np.uint64) == 149
    constant, size = module.get_global("factors")
    assert size == 16
    driver.memcpy_htod(constant, np.array([1, 2, 3, 4], np.float32))
    x = on_device(driver, np.ones(8, np.float32))
    module.get_function("scale_by_constant")(x, block=(8, 1, 1))
    assert numbers(driver, x, 8, np.float32).tolist() == [1, 2, 3, 4] * 2
    assert numbers(driver, module.get_global("calls")[0], 1, np.int32) == 8


def test_arguments_by_value(driver, module):
    out = driver.mem_alloc(8)
    pair = np.array([(3, 0.5)], np.dtype([("first", np.int32), ("second", np.float64)], align=True))
    kernel = module.get_function("by_value")
    kernel(out, pair, np.float32(4), np.uint8(200), np.int64(1 << 40), block=(1, 1, 1))
    assert numbers(driver, out, 1, np.float64) == 3 + 0.5 * 4 + 200 + (1 << 40)
    kernel.prepare(["P", pair.dtype, "f", "B", "q"])
    kernel.prepared_call((1, 1), (1, 1, 1), out, pair[0], 2.0, 1, 7)
    assert numbers(driver, out, 1, np.float64) == 3 + 0.5 * 2 + 1 + 7


def test_dynamic_shared_memory_and_attributes(driver, module):
    x = np.arange(128, dtype=np.float32)
    out, kernel = driver.mem_alloc(x.nbytes), module.get_function("reverse")
    kernel(out, on_device(driver, x), grid=(2, 1), block=(64, 1, 1), shared=256)
    assert np.array_equal(numbers(driver, out, 128, np.float32).reshape(2, 64), x.reshape(2, 64)[:, ::-1])
    attributes = driver.function_attribute
    kernel.set_attribute(attributes.MAX_DYNAMIC_SHARED_SIZE_BYTES, 100000)
    kernel(out, on_device(driver, x), grid=(2, 1), block=(64, 1, 1), shared=100000)
    assert module.get_function("sum_f32").get_attribute(attributes.MAX_THREADS_PER_BLOCK) == 256
    with pytest.raises(driver.Error, match="at most 232448"):
        kernel.set_attribute(attributes.MAX_DYNAMIC_SHARED_SIZE_BYTES, 300000)


def test_tensor_cores_and_asynchronous_copies(driver, module):
    random = np.random.default_rng(1)
    a, b = random.standard_normal((16, 8), np.float32), random.standard_normal((8, 8), np.float32)
    out, kernel = driver.mem_alloc(16 * 8 * 4), module.get_function("multiply_tiles")
    given = on_device(driver, a), on_device(driver, b)
    kernel(out, *given, np.int32(1), block=(32, 1, 1))
    error = np.abs(numbers(driver, out, (16, 8), np.float32) - a.astype(np.float64) @ b).max()
    assert 1e-6 < error < 8 * 2**-9, "tf32 keeps 10 bits of the mantissa"
    kernel(out, *given, np.int32(0), block=(32, 1, 1))
    assert np.isnan(numbers(driver, out, (16, 8), np.float32)).all(), "nobody waited for the copies"


def test_a_fault_inside_inline_ptx_shows_in_the_ptx_route_only(driver, emulation):
    if not cuda_emulation.real_nvcc():
        pytest.skip("nvcc, which makes the PTX, is not found")
    from pycuda.compiler import compile as compile_source

    source = (HERE / "cuda_functions.cu").read_text(encoding="utf-8")
    broken = source.replace("{%8,%9}", "{%9,%8}")
    assert broken != source
    random = np.random.default_rng(1)
    a, b = random.standard_normal((16, 8), np.float32), random.standard_normal((8, 8), np.float32)
    error = {}
    for ptx in (False, True):
        image = compile_source(broken, nvcc=str(cuda_emulation.nvcc(ptx=ptx)), no_extern_c=True, cache_dir=False)
        kernel, out = driver.module_from_buffer(image).get_function("multiply_tiles"), driver.mem_alloc(16 * 8 * 4)
        kernel(out, on_device(driver, a), on_device(driver, b), np.int32(1), block=(32, 1, 1))
        error[ptx] = np.abs(numbers(driver, out, (16, 8), np.float32) - a @ b).max()
    assert error[False] < 0.02 and error[True] > 1


# ---- the driver


def test_streams_and_events(driver, emulation):
    first, second, start, end = driver.Stream(), driver.Stream(), driver.Event(), driver.Event()
    host, back = driver.pagelocked_empty(1 << 16, np.float32), driver.pagelocked_zeros(1 << 16, np.float32)
    host[:] = np.arange(1 << 16)
    x, y = driver.mem_alloc(host.nbytes), driver.mem_alloc(host.nbytes)
    for lazy in (0, 1, 2):
        back[:] = 0
        with emulation.configured(lazy=lazy):
            start.record(first)
            driver.memcpy_htod_async(x, host, first)
            end.record(first)
            assert end.query() or lazy
            second.wait_for_event(end)
            driver.memcpy_dtod_async(y, x, host.nbytes, second)
            driver.memcpy_dtoh_async(back, y, second)
            second.synchronize()
            end.synchronize()
        assert np.array_equal(back, host) and end.time_since(start) >= 0 and second.is_done()


def test_counters(driver, module, emulation):
    gc.collect()
    emulation.reset_counters()
    before = emulation.counters()
    x = on_device(driver, np.ones(8, np.float32))
    for _ in range(3):
        module.get_function("scale_by_constant")(x, block=(8, 1, 1))
    numbers(driver, x, 8, np.float32)
    found = emulation.counters()
    assert found.kernels == {"scale_by_constant": 3} and found.launches == 3
    assert (found.copies_to_device, found.copies_to_host, found.allocations) == (1, 1, 1)
    assert found.bytes_live == before.bytes_live + 32 and found.bytes_peak >= found.bytes_live
    del x
    gc.collect()
    assert emulation.counters().bytes_live == before.bytes_live


def test_a_graph_is_captured_updated_and_replayed(driver, module, emulation):
    library, stream = emulation.library, driver.Stream()
    x, handle = on_device(driver, np.ones(8, np.float32)), ctypes.c_void_p(stream.handle)
    driver.memcpy_htod(module.get_global("factors")[0], np.full(4, 2, np.float32))
    kernel = module.get_function("scale_by_constant").prepare("P")

    def captured(times: int) -> ctypes.c_void_p:
        graph = ctypes.c_void_p()
        assert library.cuStreamBeginCapture_v2(handle, 2) == 0
        for _ in range(times):
            kernel.prepared_async_call((1, 1), (8, 1, 1), stream, x)
        driver.mem_alloc(16).free()  # relaxed mode lets it
        assert library.cuStreamEndCapture(handle, ctypes.byref(graph)) == 0
        return graph

    graph, executable, count, kind = captured(2), ctypes.c_void_p(), ctypes.c_size_t(2), ctypes.c_int()
    nodes = (ctypes.c_void_p * 2)()
    assert library.cuGraphGetNodes(graph, nodes, ctypes.byref(count)) == 0 and count.value == 2
    assert library.cuGraphNodeGetType(ctypes.c_void_p(nodes[0]), ctypes.byref(kind)) == 0 and kind.value == 0
    assert library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)) == 0
    assert numbers(driver, x, 8, np.float32)[0] == 1, "capturing runs nothing"
    emulation.reset_counters()
    for _ in range(3):
        assert library.cuGraphLaunch(executable, handle) == 0
    stream.synchronize()
    assert numbers(driver, x, 8, np.float32).tolist() == [64] * 8
    assert (emulation.counters().graph_launches, emulation.counters().graph_nodes) == (3, 6)
    other, longer = captured(2), captured(3)
    assert library.cuGraphExecUpdate_v2(executable, other, None) == 0
    assert library.cuGraphExecUpdate_v2(executable, longer, None) == 910
    for made in (graph, other, longer):
        assert library.cuGraphDestroy(made) == 0
    assert library.cuGraphExecDestroy(executable) == 0


def test_a_capture_tells_its_newest_node_and_leaves_the_default_stream_alone(driver, module, emulation):
    """The node that the next work depends on, whose parameters are then replaced; the stream does not block others."""
    library, stream, default = emulation.library, driver.Stream(1), driver.Stream()
    x, y = on_device(driver, np.ones(8, np.float32)), on_device(driver, np.ones(8, np.float32))
    driver.memcpy_htod(module.get_global("factors")[0], np.full(4, 2, np.float32))
    kernel = module.get_function("scale_by_constant").prepare("P")
    graph, executable, count = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
    status, found, nodes = ctypes.c_int(), ctypes.c_void_p(), ctypes.POINTER(ctypes.c_void_p)()

    def ask(handle):
        assert library.cuStreamGetCaptureInfo_v2(handle, ctypes.byref(status), None, ctypes.byref(found),
                                                 ctypes.byref(nodes), ctypes.byref(count)) == 0
        return status.value, count.value

    handle = ctypes.c_void_p(stream.handle)
    assert ask(handle) == (0, 0)
    assert library.cuStreamBeginCapture_v2(handle, 2) == 0
    assert ask(handle) == (1, 0)
    kernel.prepared_async_call((1, 1), (8, 1, 1), stream, x)
    assert ask(handle) == (1, 1)
    node = ctypes.c_void_p(nodes[0])
    assert ask(ctypes.c_void_p(default.handle)) == (0, 0)
    kernel.prepared_call((1, 1), (8, 1, 1), y)
    assert numbers(driver, y, 8, np.float32)[0] == 2
    assert library.cuStreamEndCapture(handle, ctypes.byref(graph)) == 0
    assert library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)) == 0
    told = (ctypes.c_byte * 72)()
    assert library.cuGraphKernelNodeGetParams_v2(node, told) == 0
    assert library.cuGraphExecKernelNodeSetParams_v2(executable, node, told) == 0
    assert library.cuGraphLaunch(executable, handle) == 0
    stream.synchronize()
    assert numbers(driver, x, 8, np.float32)[0] == 2
    assert library.cuGraphExecDestroy(executable) == 0 and library.cuGraphDestroy(graph) == 0


def test_a_capture_of_two_streams_must_be_joined(driver, module, emulation):
    library, first, second = emulation.library, driver.Stream(), driver.Stream()
    fork, join = driver.Event(), driver.Event()
    x, graph = on_device(driver, np.ones(8, np.float32)), ctypes.c_void_p()
    kernel = module.get_function("scale_by_constant").prepare("P")
    for joined, result in ((False, 904), (True, 0)):
        assert library.cuStreamBeginCapture_v2(ctypes.c_void_p(first.handle), 2) == 0
        fork.record(first)
        second.wait_for_event(fork)
        kernel.prepared_async_call((1, 1), (8, 1, 1), second, x)
        if joined:
            join.record(second)
            first.wait_for_event(join)
        assert library.cuStreamEndCapture(ctypes.c_void_p(first.handle), ctypes.byref(graph)) == result


def test_memory_runs_out_where_it_is_told_to(driver, emulation):
    gc.collect()
    free, total = driver.mem_get_info()
    used = total - free
    with emulation.configured(total_memory=used + 1000):
        x = driver.mem_alloc(900)
        with pytest.raises(driver.MemoryError, match=f"200 bytes asked for, {used + 900} of {used + 1000} in use"):
            driver.mem_alloc(200)
        assert driver.mem_get_info() == (100, used + 1000)
        x.free()
        driver.mem_alloc(1000).free()


def test_a_launch_fails_where_it_is_told_to(driver, module, emulation):
    x, kernel = on_device(driver, np.ones(8, np.float32)), module.get_function("scale_by_constant")
    with emulation.configured(fail_launch=1):
        kernel(x, block=(8, 1, 1))
        with pytest.raises(driver.LaunchError, match="told to let this launch fail"):
            kernel(x, block=(8, 1, 1))


def test_two_devices_have_memory_and_streams_of_their_own(driver, emulation):
    with emulation.configured(devices=2, capability=80):
        assert driver.Device.count() == 2 and driver.Device(1).compute_capability() == (8, 0)
        stream, before = driver.Stream(), driver.mem_get_info()
        context = driver.Device(1).retain_primary_context()
        context.push()
        x = driver.mem_alloc(1000)
        assert driver.Context.get_device() == driver.Device(1)
        with pytest.raises(driver.Error, match="another context"):
            driver.memset_d32_async(x, 0, 1, stream)
        x.free()
        leave(emulation, context)
        assert driver.mem_get_info() == before
    with pytest.raises(driver.Error, match="device 1 does not exist"):
        driver.Device(1)


def test_another_thread_has_no_context(driver):
    errors = []

    def allocate() -> None:
        try:
            driver.mem_alloc(4)
        except driver.Error as error:
            errors.append(str(error))

    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
    assert "no context is current" in errors[0]


def test_pointers_tell_what_they_are(driver, emulation):
    def attribute(pointer: int, number: int) -> int:
        value = ctypes.c_uint64()
        result = emulation.library.cuPointerGetAttribute(ctypes.byref(value), number, ctypes.c_uint64(pointer))
        return value.value if result == 0 else -result

    memory, pinned = driver.mem_alloc(100), driver.pagelocked_empty(4, np.float32)
    assert (attribute(int(memory) + 50, 2), attribute(int(memory) + 50, 12)) == (2, 100)
    assert attribute(pinned.ctypes.data, 2) == 1
    assert attribute(id(memory), 2) == -1


def test_compile_errors_have_file_and_line(driver):
    from pycuda.compiler import compile as compile_source

    source = 'extern "C" __global__ void f(float* x) {\n#line 12 "conv2d.cu"\n    x[0] = missing;\n}\n'
    with pytest.raises(driver.CompileError, match=r"conv2d\.cu\(12\): error: .*missing"):
        compile_source(source, nvcc=os.environ["MINIDL_NVCC"], no_extern_c=True, cache_dir=False)


# ---- in processes of their own

ALONE = """
import sys
sys.path.insert(0, {tests!r})
import cuda_emulation
gpu = cuda_emulation.load(stand_in={stand_in}, devices={devices})
import pycuda.driver as driver
{code}
"""


def alone(code: str, devices: int = 1, **environment: str) -> subprocess.CompletedProcess:
    text = ALONE.format(tests=str(HERE), stand_in=STAND_IN in os.environ, devices=devices, code=code)
    words, environment = [sys.executable, "-c", text], {**os.environ, **environment}
    return subprocess.run(words, env=environment, capture_output=True, text=True)


def test_a_machine_without_a_device():
    load()
    run = alone("try: driver.init()\nexcept driver.Error as error: print(error)", devices=0)
    assert "no CUDA-capable device is detected" in run.stdout, run.stderr


def test_a_forked_child_cannot_use_the_driver():
    load()
    code = """
import os
driver.init(); context = driver.Device(0).retain_primary_context(); context.push()
child = os.fork()
if not child:
    try: driver.mem_alloc(4)
    except driver.Error as error: os.write(1, str(error).encode())
    os._exit(0)
os.waitpid(child, 0)
context.pop()
"""
    assert "before this process was forked" in alone(code).stdout


@pytest.mark.slow
@pytest.mark.skipif(STAND_IN in os.environ, reason="builds nothing else")
def test_two_processes_build_at_the_same_time(tmp_path):
    load()
    cache = {"MINIDL_CUDA_EMULATION_CACHE": str(tmp_path)}
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda code: alone(code, **cache), ["driver.init(); print(driver.Device.count())"] * 2))
    assert [run.stdout for run in runs] == ["1\n", "1\n"], [run.stderr for run in runs]


def test_a_machine_without_a_compiler_is_told_so():
    load()
    run = alone("", CXX="no-such-compiler")
    assert "the CUDA emulation is compiled by no-such-compiler, which is not installed" in run.stderr
