"""The input's gradient with images in the lanes, on every instruction set that this machine runs."""

import numpy as np
import pytest
from guarded import fill_free_memory_with_nan, guarded, moved_by_four_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl._devices.reference.conv import ConvReference
from minidl._ext import conv2d as kernels
from minidl._ext import conv2d_table
from minidl._ext.conv2d_table import Direction, Kernel
from minidl.geometry import conv2d_geometry

pytestmark = pytest.mark.usefixtures("isa")

# Of the largest result, which is one chain of up to a few hundred float32 products: an error of a few dozen units of
# the last place (6e-8) at worst.
TOLERANCE = 1e-5
# Below, at and above the lanes of every instruction set, with few and with many images left over.
BATCHES = [1, 3, 8, 15, 16, 17, 33, 64]

# (C, H, W), (OC, KH, KW), stride, padding, dilation
CASES = {
    "lenet 2": ((6, 14, 14), (16, 5, 5), 1, 0, 1),
    "lenet 1": ((1, 28, 28), (6, 5, 5), 1, 2, 1),
    "channels of two blocks": ((9, 7, 8), (5, 3, 3), 1, 1, 1),
    "one column": ((2, 15, 1), (3, 4, 1), (2, 1), (1, 0), 1),
    "one pixel": ((1, 1, 1), (2, 3, 3), 1, 1, 1),
    "1x1": ((5, 4, 6), (7, 1, 1), 1, 0, 1),
    "1x1, stride 2": ((3, 5, 6), (4, 1, 1), 2, 0, 1),
    "same, even kernel": ((2, 6, 7), (3, 4, 2), 1, "same", 1),
    "padding larger than the kernel": ((2, 3, 3), (2, 2, 2), 1, 4, 1),
    "stride 2": ((3, 17, 19), (9, 7, 7), 2, 3, 1),
    "stride larger than the kernel": ((4, 9, 11), (3, 2, 2), (4, 3), 0, 1),
    "stride leaves rows over": ((5, 8, 9), (5, 3, 2), (2, 3), (1, 0), 1),
    "dilation": ((5, 10, 11), (5, 3, 3), 1, 2, (2, 3)),
    "stride and dilation": ((3, 12, 40), (5, 3, 4), (1, 2), (3, 4), (2, 3)),
    "a long kernel": ((1, 3, 40), (2, 2, 19), 1, (1, 9), 1),
}


def geometry(case, images):
    (C, *image), (OC, *window), *rest = CASES[case]
    return conv2d_geometry((images, C, *image), (OC, C, *window), *rest)


def operands(g, seed=0):
    """grad_output and weight."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(np.float32) for shape in (g.output_shape, g.weight_shape)]


def computed(grad, weight, g, kernel=Kernel.DIRECT_BATCH):
    fill_free_memory_with_nan()
    return kernels.conv2d_backward_input(grad, weight, g, kernel)


def assert_right(actual, grad, weight, g):
    expected = ConvReference().conv2d_backward_input(grad.astype(np.float64), weight.astype(np.float64), g)
    assert actual.dtype == np.float32 and actual.flags.c_contiguous and actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * max(1, np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("images", BATCHES)
@pytest.mark.parametrize("case", CASES)
def test_every_shape_against_float64(case, images):
    g = geometry(case, images)
    assert_right(computed(*operands(g), g), *operands(g), g)


@pytest.mark.parametrize("case", CASES)
def test_the_bits_of_the_other_direct_kernels(case):
    g = geometry(case, 33)
    if not conv2d_table.can_compute(Kernel.DIRECT_ROWS, g, Direction.BACKWARD_INPUT):
        pytest.skip("they have no gradient of the input with a stride")
    arrays = operands(g)
    assert computed(*arrays, g).tobytes() == computed(*arrays, g, Kernel.DIRECT_ROWS).tobytes()


@pytest.mark.parametrize("channels", range(1, 10))
@pytest.mark.parametrize("columns", [1, 5, 12, 17])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_block_size(channels, columns, stride):
    """As many channels and pixels as registers hold, and what is left over, with edges in every place of a block."""
    g = conv2d_geometry((16, channels, 4, columns), (2, channels, 3, 3), stride, 1)
    assert_right(computed(*operands(g), g), *operands(g), g)


@pytest.mark.parametrize("images", BATCHES)
def test_any_number_of_threads_and_images(images, thread_count):
    g = geometry("lenet 2", images)
    grad, weight = operands(g)
    result = computed(grad, weight, g)
    assert_right(result, grad, weight, g)
    assert computed(grad, weight, g).tobytes() == result.tobytes()
    last = conv2d_geometry((1, *g.input_shape[1:]), g.weight_shape)
    assert computed(grad[-1:], weight, last).tobytes() == result[-1:].tobytes()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_images_that_are_cut_into_bands(stride, thread_count):
    """A vector of them turned round as a whole would be larger than a second-level cache."""
    g = conv2d_geometry((17, 3, 61, 50), (9, 3, 5, 5), stride, 2)
    assert_right(computed(*operands(g), g), *operands(g), g)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_geometry(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    C, window = draw(1, 10), (draw(1, 6), draw(1, 9))
    stride, padding, dilation = (draw(1, 3), draw(1, 3)), (draw(0, 4), draw(0, 4)), (draw(1, 3), draw(1, 3))
    try:
        g = conv2d_geometry((draw(0, 20), C, draw(1, 12), draw(1, 20)), (draw(1, 9), C, *window), stride, padding,
                            dilation)
    except RuntimeError:
        return
    assert_right(computed(*operands(g), g), *operands(g), g)


@pytest.mark.parametrize("images", [3, 15, 16, 17])
@pytest.mark.parametrize("case", CASES)
def test_nothing_behind_the_arrays_is_read(case, images):
    g = geometry(case, images)
    arrays = operands(g)
    with guarded(*arrays) as copies:
        assert_right(computed(*copies, g), *arrays, g)


@pytest.mark.parametrize("case", ["lenet 2", "stride 2"])
def test_memory_that_starts_four_bytes_late(case):
    g = geometry(case, 33)
    arrays = operands(g)
    assert_right(computed(*map(moved_by_four_bytes, arrays), g), *arrays, g)


def test_numbers_that_are_not_finite_stay_where_they_belong():
    """In their image, and there within the reach of the kernel."""
    for case in ("lenet 2", "stride 2", "dilation"):
        g = geometry(case, 16)
        grad, weight = operands(g)
        grad[5, 1, 2, 1] = np.inf
        with np.errstate(invalid="ignore"):
            expected = ConvReference().conv2d_backward_input(grad, weight, g)
        np.testing.assert_array_equal(np.isfinite(computed(grad, weight, g)), np.isfinite(expected))
        assert not np.isfinite(expected[5]).all() and np.isfinite(np.delete(expected, 5, axis=0)).all()


def test_what_it_does_not_take():
    g = geometry("lenet 2", 16)
    for direction in Direction:
        fits = direction == Direction.BACKWARD_INPUT
        assert conv2d_table.can_compute(Kernel.DIRECT_BATCH, g, direction) == fits
        assert not conv2d_table.can_compute(Kernel.DIRECT_BATCH, g, direction, False)
    grouped = conv2d_geometry((16, 4, 6, 6), (4, 2, 3, 3), 1, 0, 1, 2)
    assert not conv2d_table.can_compute(Kernel.DIRECT_BATCH, grouped, Direction.BACKWARD_INPUT)
    with pytest.raises(ValueError, match="DIRECT_BATCH does not fit this geometry in direction FORWARD"):
        kernels.conv2d_forward(np.zeros(g.input_shape, np.float32), operands(g)[1], None, g, Kernel.DIRECT_BATCH)


def test_when_the_table_takes_it():
    def chosen(*shapes):
        return conv2d_table.explain(conv2d_geometry(*shapes), Direction.BACKWARD_INPUT)[0]

    for images in (16, 17, 1024):
        assert chosen((images, 6, 14, 14), (16, 6, 5, 5)) == Kernel.DIRECT_BATCH
    assert chosen((1, 6, 14, 14), (16, 6, 5, 5)) == Kernel.DIRECT_ROWS
    assert chosen((64, 32, 16, 16), (64, 32, 3, 3), 2, 1) == Kernel.DIRECT_BATCH
    assert chosen((1, 32, 16, 16), (64, 32, 3, 3), 2, 1) == Kernel.IM2COL
    assert chosen((64, 64, 28, 28), (64, 64, 3, 3), 1, 1) == Kernel.WINOGRAD
    assert chosen((0, 6, 14, 14), (16, 6, 5, 5)) != Kernel.DIRECT_BATCH
