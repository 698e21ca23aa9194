"""The direct kernels for few channels, on every instruction set that this machine runs."""

import os
import signal

import numpy as np
import pytest
from guarded import fill_free_memory_with_nan, guarded, moved_by_four_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl._devices.reference.conv import ConvReference
from minidl._devices.reference.direct import conv2d_direct, conv2d_direct_backward
from minidl._ext import conv2d as kernels
from minidl._ext import conv2d_table
from minidl._ext.conv2d_table import Direction, Kernel
from minidl.geometry import conv2d_geometry

pytestmark = pytest.mark.usefixtures("isa")

DIRECT = pytest.mark.parametrize("kernel", [Kernel.DIRECT_ROWS, Kernel.DIRECT_CHANNELS], ids=lambda kernel: kernel.name)
# Of the largest result. A forward sum is one chain of up to a few hundred float32 products, an error of a few dozen
# units of the last place (6e-8) at worst; the weight's gradient adds up each band in such chains and then the bands.
TOLERANCE = 1e-5


def operands(g, seed=0):
    """input, weight, bias and grad_output for a geometry."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(np.float32)
            for shape in (g.input_shape, g.weight_shape, (g.OC,), g.output_shape)]


def has_input_kernel(kernel, g):
    return conv2d_table.can_compute(kernel, g, Direction.BACKWARD_INPUT)


def computed(kernel, g, x, weight, bias, grad):
    """output, grad_weight and, where the kernel has it, grad_input, in memory that is full of NaN before."""
    fill_free_memory_with_nan()
    results = [kernels.conv2d_forward(x, weight, bias, g, kernel), kernels.conv2d_backward_weight(grad, x, g, kernel)]
    if has_input_kernel(kernel, g):
        results.append(kernels.conv2d_backward_input(grad, weight, g, kernel))
    return results


def judged(g, x, weight, bias, grad):
    x, weight, bias, grad = (array.astype(np.float64) for array in (x, weight, bias, grad))
    judge = ConvReference()
    return [judge.conv2d(x, weight, bias, g), judge.conv2d_backward_weight(grad, x, g),
            judge.conv2d_backward_input(grad, weight, g)]


def assert_close(actual, expected):
    for name, mine, theirs in zip(("output", "grad_weight", "grad_input"), actual, expected, strict=False):
        assert mine.dtype == np.float32 and mine.flags.c_contiguous and mine.shape == theirs.shape, name
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE * max(1, np.abs(theirs).max(initial=0)),
                                   err_msg=name)


# (N, C, H, W), (OC, C, KH, KW), stride, padding, dilation
CASES = {
    "lenet 1": ((3, 1, 28, 28), (6, 1, 5, 5), 1, 2, 1),
    "lenet 2": ((3, 6, 14, 14), (16, 6, 5, 5), 1, 0, 1),
    "3 to 32": ((2, 3, 32, 32), (32, 3, 3, 3), 1, 1, 1),
    "17 channels": ((2, 2, 5, 17), (17, 2, 3, 3), 1, 1, 1),
    "15 channels, 33 columns": ((1, 3, 4, 33), (15, 3, 2, 3), 1, (0, 1), 1),
    "16 columns": ((1, 2, 7, 16), (4, 2, 3, 3), 1, 1, 1),
    "15 columns": ((1, 2, 3, 15), (7, 2, 3, 3), 1, 1, 1),
    "one column": ((2, 2, 15, 1), (3, 2, 4, 1), (2, 1), (1, 0), 1),
    "one pixel": ((1, 1, 1, 1), (2, 1, 3, 3), 1, 1, 1),
    "1x1": ((2, 5, 4, 6), (7, 5, 1, 1), 1, 0, 1),
    "same, even kernel": ((2, 2, 6, 7), (3, 2, 4, 2), 1, "same", 1),
    "padding larger than the kernel": ((1, 2, 3, 3), (2, 2, 2, 2), 1, 4, 1),
    "stride 2": ((2, 3, 17, 19), (9, 3, 7, 7), 2, 3, 1),
    "stride larger than the kernel": ((2, 4, 9, 11), (3, 4, 2, 2), (4, 3), 0, 1),
    "stride leaves rows over": ((2, 5, 8, 9), (3, 5, 3, 2), (2, 3), (1, 0), 1),
    "dilation": ((2, 5, 10, 11), (3, 5, 3, 3), 1, 2, (2, 3)),
    "stride and dilation": ((1, 3, 12, 40), (5, 3, 3, 4), (1, 2), (3, 4), (2, 3)),
    "a long kernel": ((1, 1, 3, 40), (2, 1, 2, 19), 1, (1, 9), 1),
    "no images": ((0, 3, 6, 6), (4, 3, 3, 3), 1, 1, 1),
}


@DIRECT
@pytest.mark.parametrize("case", CASES)
def test_every_shape_against_float64(kernel, case):
    g = conv2d_geometry(*CASES[case])
    arrays = operands(g)
    assert_close(computed(kernel, g, *arrays), judged(g, *arrays))
    fill_free_memory_with_nan()
    without_bias = kernels.conv2d_forward(arrays[0], arrays[1], None, g, kernel)
    assert_close([without_bias], [judged(g, arrays[0], arrays[1], np.zeros(g.OC), arrays[3])[0]])


def test_the_judge_is_the_seven_loops():
    g = conv2d_geometry(*CASES["stride and dilation"])
    arrays = operands(g)
    grad_input, grad_weight, _ = conv2d_direct_backward(arrays[3], *arrays[:2], g)
    for one, other in zip(judged(g, *arrays), (conv2d_direct(*arrays[:3], g), grad_weight, grad_input), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


@DIRECT
@pytest.mark.parametrize("channels", range(1, 10))
@pytest.mark.parametrize("columns", [1, 5, 12, 16, 29])
def test_every_block_size(kernel, channels, columns):
    """The blocks of a kernel are as many outputs, places and taps as registers hold, and what is left over."""
    for rows, width in ((1, channels), (channels, 1)):
        g = conv2d_geometry((1, channels, rows + 2, columns + width - 1), (channels, channels, 3, width))
        arrays = operands(g)
        assert_close(computed(kernel, g, *arrays), judged(g, *arrays))


@DIRECT
@pytest.mark.parametrize("images", [1, 15, 16, 17, 33])
def test_batches_on_one_and_two_threads(kernel, images, thread_count):
    g = conv2d_geometry((images, 6, 14, 14), (16, 6, 5, 5))
    arrays = operands(g)
    assert_close(computed(kernel, g, *arrays), judged(g, *arrays))


@DIRECT
def test_an_image_that_is_cut_into_bands(kernel, thread_count):
    """Staged as a whole it would be larger than a second-level cache."""
    for stride in (1, 2):
        g = conv2d_geometry((3, 3, 150, 200), (8, 3, 5, 5), stride, 2)
        arrays = operands(g)
        assert_close(computed(kernel, g, *arrays), judged(g, *arrays))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_geometry(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    C, kernel_size = draw(1, 7), (draw(1, 6), draw(1, 9))
    stride, padding, dilation = (draw(1, 3), draw(1, 3)), (draw(0, 4), draw(0, 4)), (draw(1, 3), draw(1, 3))
    if data.draw(st.booleans()):
        stride = 1
    try:
        g = conv2d_geometry((draw(0, 3), C, draw(1, 20), draw(1, 40)), (draw(1, 20), C, *kernel_size), stride, padding,
                            dilation)
    except RuntimeError:
        return
    arrays = operands(g, seed=draw(0, 99))
    expected = judged(g, *arrays)
    for kernel in (Kernel.DIRECT_ROWS, Kernel.DIRECT_CHANNELS):
        assert_close(computed(kernel, g, *arrays), expected)


def test_both_kernels_and_every_batch_give_the_same_bits(thread_count):
    """An output is one chain over bias and taps, whichever way the work is cut."""
    for case in ("lenet 1", "lenet 2", "3 to 32", "stride and dilation"):
        (_, *image), *rest = CASES[case]
        alone, many = (conv2d_geometry((n, *image), *rest) for n in (1, 9))
        x, weight, bias, grad = operands(many)
        rows, _, *rows_input = computed(Kernel.DIRECT_ROWS, many, x, weight, bias, grad)
        channels, _, *channels_input = computed(Kernel.DIRECT_CHANNELS, many, x, weight, bias, grad)
        np.testing.assert_array_equal(rows, channels)
        np.testing.assert_array_equal(rows_input, channels_input)
        one, _, *one_input = computed(Kernel.DIRECT_ROWS, alone, x[4:5], weight, bias, grad[4:5])
        np.testing.assert_array_equal(rows[4:5], one)
        if one_input:
            np.testing.assert_array_equal(rows_input[0][4:5], one_input[0])


@DIRECT
def test_same_bits_twice(kernel, thread_count):
    g = conv2d_geometry((40, 6, 14, 14), (16, 6, 5, 5))
    arrays = operands(g)
    first = computed(kernel, g, *arrays)
    for one, other in zip(first, computed(kernel, g, *arrays), strict=True):
        assert one.tobytes() == other.tobytes()


LAYOUTS = {
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "reversed": lambda x: np.ascontiguousarray(x[::-1, :, ::-1, ::-1])[::-1, :, ::-1, ::-1],
    "stepped": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
}


@DIRECT
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(kernel, layout):
    g = conv2d_geometry(*CASES["lenet 2"])
    x, weight, bias, grad = operands(g)
    lay = LAYOUTS[layout]
    assert_close(computed(kernel, g, lay(x), lay(weight), np.repeat(bias, 3)[::3], lay(grad)),
                 judged(g, x, weight, bias, grad))


@DIRECT
@pytest.mark.parametrize("case", ["lenet 1", "lenet 2", "3 to 32"])
def test_memory_that_starts_four_bytes_late(kernel, case):
    g = conv2d_geometry(*CASES[case])
    arrays = operands(g)
    assert_close(computed(kernel, g, *map(moved_by_four_bytes, arrays)), judged(g, *arrays))


@DIRECT
@pytest.mark.parametrize("case", CASES)
def test_nothing_behind_the_arrays_is_read(kernel, case):
    g = conv2d_geometry(*CASES[case])
    if g.N == 0:
        pytest.skip("empty arrays have no end")
    arrays = operands(g)
    with guarded(*arrays) as copies:
        assert_close(computed(kernel, g, *copies), judged(g, *arrays))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_guard_guards():
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        with guarded(np.zeros(5, np.float32)) as (array,):
            np.lib.stride_tricks.as_strided(array, (6,)).sum()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGSEGV, signal.SIGBUS)


@DIRECT
def test_numbers_that_are_not_finite_stay_where_they_belong(kernel):
    """Vectors read beyond the end of a row: what stands there must not come into sums that it has no part in."""
    g = conv2d_geometry((1, 1, 4, 20), (2, 1, 3, 3))
    x, weight, bias, grad = operands(g)
    x[0, 0, 0, 0] = np.inf
    output, grad_weight, _ = computed(kernel, g, x, weight, bias, grad)
    with np.errstate(invalid="ignore"):
        expected = judged(g, x, weight, bias, grad)
    assert np.isinf(output).sum() == 2 and np.isinf(grad_weight).sum() == 2
    np.testing.assert_array_equal(np.isfinite(grad_weight), np.isfinite(expected[1]))
    np.testing.assert_array_equal(np.isfinite(output), np.isfinite(expected[0]))


def test_what_they_do_not_take():
    for shapes, options in ((((1, 4, 6, 6), (4, 2, 3, 3)), (1, 0, 1, 2)), (((1, 4, 6, 6), (4, 4, 3, 3)), ())):
        g = conv2d_geometry(*shapes, *options)
        for kernel in (Kernel.DIRECT_ROWS, Kernel.DIRECT_CHANNELS):
            assert conv2d_table.can_compute(kernel, g, Direction.FORWARD, True) == (g.groups == 1)
            assert not conv2d_table.can_compute(kernel, g, Direction.FORWARD, False)
    strided = conv2d_geometry((1, 4, 6, 6), (4, 4, 3, 3), 2)
    _, weight, _, grad = operands(strided)
    with pytest.raises(ValueError, match="DIRECT_ROWS does not fit this geometry in direction BACKWARD_INPUT"):
        kernels.conv2d_backward_input(grad, weight, strided, Kernel.DIRECT_ROWS)


@pytest.mark.parametrize("shapes", [((64, 1, 28, 28), (6, 1, 5, 5), 1, 2), ((1, 6, 14, 14), (16, 6, 5, 5)),
                                    ((8, 3, 32, 32), (32, 3, 3, 3), 1, 1)])
def test_the_table_takes_them_for_first_layers(shapes):
    g = conv2d_geometry(*shapes)
    chosen = {conv2d_table.explain(g, direction)[0] for direction in Direction}
    assert chosen <= {Kernel.DIRECT_ROWS, Kernel.DIRECT_CHANNELS}
