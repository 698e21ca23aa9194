"""Convolution on every device against seven plain loops in float64, against PyTorch, and kernel against kernel."""

import multiprocessing
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signatures import assert_taken_alike

from minidl._devices.cpu.conv import ConvCPU
from minidl._devices.reference.conv import ConvReference
from minidl._devices.reference.direct import conv2d_direct, conv2d_direct_backward
from minidl._ext import conv2d as kernels
from minidl._ext import conv2d_table, storage, threads
from minidl._ext.conv2d_table import Direction, Kernel
from minidl.geometry import conv2d_geometry

pytestmark = pytest.mark.usefixtures("two_threads")
REFERENCE, CPU = ConvReference(), ConvCPU()
DEVICES = pytest.mark.parametrize("device", [REFERENCE, CPU], ids=["reference", "cpu"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Of the largest result: a sum of some hundred products loses a few dozen units of the last place (6e-8, 1e-16).
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def operands(g, dtype, seed=0):
    """input, weight, bias and grad_output for a geometry."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(dtype)
            for shape in (g.input_shape, g.weight_shape, (g.OC,), g.output_shape)]


def results(device, g, x, weight, bias, grad):
    """output, grad_input, grad_weight and grad_bias."""
    return (device.conv2d(x, weight, bias, g), device.conv2d_backward_input(grad, weight, g),
            device.conv2d_backward_weight(grad, x, g), device.conv2d_backward_bias(grad))


def fill_free_memory_with_nan():
    """What the allocator hands out next, as results or as scratch, shows whatever a kernel forgets to write."""
    sizes = [quarters << log2 for log2 in range(4, 18) for quarters in (4, 5, 6, 7)]
    blocks = [storage.empty((size,), np.dtype(np.uint8)) for size in sizes]
    for block in blocks:
        block.fill(0xFF)


def kernel_results(kernel, g, x, weight, bias, grad):
    """The first three of the same from one kernel, in memory that is full of NaN before."""
    fill_free_memory_with_nan()
    return (kernels.conv2d_forward(x, weight, bias, g, kernel),
            kernels.conv2d_backward_input(grad, weight, g, kernel),
            kernels.conv2d_backward_weight(grad, x, g, kernel))


def kernels_that_fit(g):
    """Those that compute all three directions in both dtypes."""
    return [kernel for kernel in Kernel
            if all(conv2d_table.can_compute(kernel, g, direction, f32) for direction in Direction for f32 in (0, 1))]


def assert_close(actual, expected, dtype):
    for name, mine, theirs in zip(("output", "grad_input", "grad_weight", "grad_bias"), actual, expected, strict=False):
        assert type(mine) is np.ndarray and mine.dtype == dtype and mine.flags.c_contiguous, name
        assert mine.shape == theirs.shape, name
        largest = max(1, np.abs(theirs).max(initial=0))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE[dtype] * largest, err_msg=name)


def judged(g, x, weight, bias, grad):
    return conv2d_direct(x, weight, bias, g), *conv2d_direct_backward(grad, x, weight, g)


# N, C, OC, H, W, KH, KW, stride, padding, dilation, groups
GRID = {
    "lenet 1": (1, 1, 6, 12, 12, 5, 5, 1, 2, 1, 1),
    "lenet 2": (2, 6, 4, 8, 8, 5, 5, 1, 0, 1, 1),
    "1x1": (2, 5, 7, 4, 6, 1, 1, 1, 0, 1, 1),
    "1x1 with groups": (2, 6, 4, 4, 5, 1, 1, 1, 0, 1, 2),
    "1x1 with stride": (2, 3, 4, 5, 6, 1, 1, 2, 0, 1, 1),
    "1x1 with padding": (1, 3, 2, 3, 3, 1, 1, 1, 1, 1, 1),
    "same, even kernel": (2, 2, 3, 6, 7, 4, 2, 1, "same", 1, 1),
    "same, dilated": (1, 4, 2, 7, 6, 2, 3, 1, "same", (3, 2), 1),
    "stride larger than the kernel": (2, 4, 3, 9, 11, 2, 2, (4, 3), 0, 1, 1),
    "stride leaves rows over": (2, 5, 3, 8, 9, 3, 2, (2, 3), (1, 0), 1, 1),
    "one row": (2, 4, 3, 1, 15, 1, 4, (1, 2), 0, 1, 1),
    "one column": (2, 2, 3, 15, 1, 4, 1, (2, 1), (1, 0), 1, 1),
    "kernel as large as the input": (3, 4, 5, 4, 3, 4, 3, 1, 0, 1, 1),
    "padding larger than the kernel": (1, 2, 2, 3, 3, 2, 2, 1, 4, 1, 1),
    "kernel mostly in the padding": (1, 1, 2, 1, 1, 3, 3, 1, 1, 1, 1),
    "groups>1 with stride>1": (2, 6, 4, 7, 8, 3, 3, 2, 1, 1, 2),
    "groups of three channels": (1, 9, 6, 6, 6, 3, 3, (2, 1), 0, (1, 2), 3),
    "depthwise": (2, 4, 4, 6, 7, 3, 3, 1, 1, 1, 4),
    "depthwise with stride 2": (2, 4, 4, 7, 8, 3, 3, 2, 1, 1, 4),
    "depthwise, two outputs per channel": (2, 3, 6, 8, 7, 3, 2, (1, 3), (0, 1), (2, 1), 3),
    "depthwise, leftover pixels": (1, 5, 5, 9, 10, 2, 3, 3, 2, 2, 5),
    "dilation>1 with leftover pixels": (2, 5, 3, 10, 11, 3, 3, (2, 3), 1, 2, 1),
    "dilation in one direction": (1, 4, 3, 9, 6, 3, 3, 1, (2, 1), (3, 1), 1),
    "no images": (0, 4, 3, 6, 6, 3, 3, 1, 1, 1, 1),
    "no images, depthwise": (0, 3, 3, 6, 6, 3, 3, 1, 1, 1, 3),
    "no images, 1x1": (0, 3, 4, 6, 6, 1, 1, 1, 0, 1, 1),
}


def geometry(N, C, OC, H, W, KH, KW, stride, padding, dilation, groups):
    return conv2d_geometry((N, C, H, W), (OC, C // groups, KH, KW), stride, padding, dilation, groups)


@DTYPES
@pytest.mark.parametrize("case", GRID)
def test_every_kernel_against_the_direct_loops(case, dtype):
    g = geometry(*GRID[case])
    arrays = operands(g, dtype)
    expected = judged(g, *arrays)
    for device in (REFERENCE, CPU):
        assert_close(results(device, g, *arrays), expected, dtype)
    for kernel in kernels_that_fit(g):
        assert_close(kernel_results(kernel, g, *arrays), expected, dtype)
    without_bias = CPU.conv2d(arrays[0], arrays[1], None, g)
    assert_close([without_bias], [conv2d_direct(arrays[0], arrays[1], None, g)], dtype)


@pytest.mark.parametrize("kernel", [Kernel.POINTWISE, Kernel.DEPTHWISE])
def test_a_kernel_refuses_a_geometry_that_it_does_not_fit(kernel):
    g = geometry(*GRID["lenet 2"])
    x, weight, bias, grad = operands(g, np.float32)
    for call in (lambda: kernels.conv2d_forward(x, weight, bias, g, kernel),
                 lambda: kernels.conv2d_backward_input(grad, weight, g, kernel),
                 lambda: kernels.conv2d_backward_weight(grad, x, g, kernel)):
        with pytest.raises(ValueError, match="does not fit this geometry"):
            call()


def test_the_grid_reaches_every_kernel():
    reached = {conv2d_table.explain(geometry(*case), Direction.FORWARD, False)[0] for case in GRID.values()}
    assert reached == {Kernel.IM2COL, Kernel.POINTWISE, Kernel.DEPTHWISE}


@DTYPES
@pytest.mark.parametrize("case", [
    (64, 1, 6, 28, 28, 5, 5, 1, 2, 1, 1), (64, 6, 16, 14, 14, 5, 5, 1, 0, 1, 1),    # LeNet, several threads
    (1, 40, 24, 60, 70, 3, 3, 1, 1, 1, 1), (1, 3, 8, 128, 96, 7, 7, 2, 3, 1, 1),    # one image in several tiles
    (1, 32, 8, 1, 3000, 1, 9, 1, 4, 1, 1), (3, 300, 8, 20, 20, 3, 3, 1, 1, 1, 1),   # a row cut up, blocks of channels
    (2, 64, 96, 30, 30, 1, 1, 1, 0, 1, 1), (1, 64, 96, 57, 57, 1, 1, 1, 0, 1, 2),
    (4, 32, 32, 40, 40, 3, 3, 1, 1, 1, 32), (2, 8, 12, 40, 40, 3, 3, (2, 1), 1, (1, 2), 4),
])
def test_sizes_with_tiles_and_threads_against_torch(case, dtype):
    torch = pytest.importorskip("torch")
    g = geometry(*case)
    x, weight, bias, grad = operands(g, dtype)
    exact = [torch.tensor(array.astype(np.float64), requires_grad=True) for array in (x, weight, bias)]
    output = torch.nn.functional.conv2d(*exact, *case[7:])
    output.backward(torch.tensor(grad.astype(np.float64)))
    expected = [output.detach().numpy(), *(tensor.grad.numpy() for tensor in exact)]
    for count in (1, 2):
        threads.set_num_threads(count)
        assert_close(results(CPU, g, x, weight, bias, grad), expected, dtype)
        assert_close(kernel_results(Kernel.IM2COL, g, x, weight, bias, grad), expected[:3], dtype)


def test_a_batch_of_65536():
    """More images than a 16-bit counter holds, each a different one."""
    g = conv2d_geometry((65536, 1, 2, 2), (2, 1, 2, 2), 1, (0, 1))
    x, weight, bias, grad = operands(g, np.float32)
    expected = results(REFERENCE, g, x.astype(np.float64), weight, bias, grad.astype(np.float64))
    assert_close(results(CPU, g, x, weight, bias, grad), expected, np.float32)


LAYOUTS = {
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "reversed": lambda x: np.ascontiguousarray(x[::-1, :, ::-1, ::-1])[::-1, :, ::-1, ::-1],
    "stepped": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "offset": lambda x: np.pad(x, ((0, 0), (1, 2), (3, 0), (1, 1)))[:, 1:-2, 3:, 1:-1],
    "transposed plane": lambda x: np.ascontiguousarray(x.swapaxes(2, 3)).swapaxes(2, 3),
}


@DEVICES
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", ["lenet 2", "1x1 with groups", "depthwise with stride 2"])
def test_any_memory_layout(device, layout, case):
    g = geometry(*GRID[case])
    x, weight, bias, grad = operands(g, np.float32)
    lay = LAYOUTS[layout]
    assert not lay(x).flags.c_contiguous
    expected = judged(g, x, weight, bias, grad)
    stepped_bias = np.repeat(bias, 3)[::3]
    assert_close(results(device, g, lay(x), lay(weight), stepped_bias, lay(grad)), expected, np.float32)


@DEVICES
def test_a_gradient_that_is_one_number_everywhere(device):
    """What ``output.sum().backward()`` sends: one number, seen everywhere through strides of zero."""
    g = geometry(*GRID["lenet 2"])
    x, weight, bias, _ = operands(g, np.float32)
    grad = np.broadcast_to(np.float32(2), g.output_shape)
    assert_close(results(device, g, x, weight, bias, grad), judged(g, x, weight, bias, grad), np.float32)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_cpu_is_the_reference(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups = draw(1, 4)
    C, OC, kernel = groups * draw(1, 5), groups * draw(1, 4), (draw(1, 5), draw(1, 5))
    stride, padding, dilation = (draw(1, 3), draw(1, 3)), (draw(0, 3), draw(0, 3)), (draw(1, 3), draw(1, 3))
    if data.draw(st.booleans()):
        stride, padding = 1, "same"
    try:
        g = conv2d_geometry((draw(0, 3), C, draw(1, 16), draw(1, 16)), (OC, C // groups, *kernel), stride, padding,
                            dilation, groups)
    except RuntimeError:
        return
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    arrays = operands(g, dtype, seed=draw(0, 99))
    expected = results(REFERENCE, g, *(array.astype(np.float64) for array in arrays))
    assert_close(results(CPU, g, *arrays), expected, dtype)
    assert_close(kernel_results(Kernel.IM2COL, g, *arrays), expected[:3], dtype)


@pytest.mark.parametrize("case", [
    (64, 6, 16, 14, 14, 5, 5, 1, 0, 1, 1), (2, 64, 64, 28, 28, 1, 1, 1, 0, 1, 1),
    (4, 32, 32, 28, 28, 3, 3, 1, 1, 1, 32)])
def test_same_bits_twice(case):
    g = geometry(*case)
    arrays = operands(g, np.float32)
    first = results(CPU, g, *arrays)
    for _ in range(3):
        for one, other in zip(first, results(CPU, g, *arrays), strict=True):
            assert one.tobytes() == other.tobytes()


def test_the_batch_does_not_change_an_image():
    """An image's output and gradient are the same bits alone and among others."""
    g, alone = (geometry(n, 6, 16, 14, 14, 5, 5, 1, 0, 1, 1) for n in (8, 1))
    x, weight, bias, grad = operands(g, np.float32)
    np.testing.assert_array_equal(CPU.conv2d(x, weight, bias, g)[3:4], CPU.conv2d(x[3:4], weight, bias, alone))
    np.testing.assert_array_equal(CPU.conv2d_backward_input(grad, weight, g)[3:4],
                                  CPU.conv2d_backward_input(grad[3:4], weight, alone))


def test_a_warm_step_takes_no_fresh_memory():
    g = geometry(64, 6, 16, 14, 14, 5, 5, 1, 0, 1, 1)
    arrays = operands(g, np.float32)
    results(CPU, g, *arrays)
    held = storage.memory_stats()["held"]
    for _ in range(5):
        results(CPU, g, *arrays)
    assert storage.memory_stats()["held"] == held


def test_wrong_dtypes_are_errors():
    g = geometry(*GRID["lenet 2"])
    x, weight, bias, _ = operands(g, np.float32)
    with pytest.raises(TypeError, match="both float32 or both float64, got float32 and float64"):
        CPU.conv2d(x, weight.astype(np.float64), bias, g)
    with pytest.raises(TypeError, match="got float32 and float64"):
        CPU.conv2d(x, weight, bias.astype(np.float64), g)
    with pytest.raises(TypeError, match="got int64 and int64"):
        CPU.conv2d(x.astype(np.int64), weight.astype(np.int64), None, g)


def test_signatures_are_the_references():
    assert_taken_alike(ConvCPU, ConvReference)


def threaded_convolution():
    g = geometry(64, 6, 16, 14, 14, 5, 5, 1, 0, 1, 1)
    x, weight, bias, grad = operands(g, np.float32)
    results(CPU, g, x, weight, bias, grad)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_convolves():
    """GNU OpenMP waits for ever in a child of a process that has used threads, unless one thread is asked for."""
    threaded_convolution()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            threaded_convolution()
            status = 0
        finally:
            os._exit(status)
    for _ in range(600):
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child still convolves after 30 seconds")
