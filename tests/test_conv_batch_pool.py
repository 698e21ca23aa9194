"""Convolution, ReLU and pooling with images in the lanes: the bits of the other direct kernels."""

import itertools

import numpy as np
import pytest
from guarded import fill_free_memory_with_nan, guarded, moved_by_four_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl._devices.reference import Reference
from minidl._ext import conv2d_fused as fused
from minidl._ext import instruction_set
from minidl.backends.cpu import use_conv_kernel
from minidl.geometry import conv2d_geometry

pytestmark = pytest.mark.usefixtures("isa")

# (C, H, W), (OC, KH, KW), padding
CASES = {
    "lenet 1": ((1, 28, 28), (6, 5, 5), 2),
    "lenet 2": ((6, 14, 14), (16, 5, 5), 0),
    "rows of whole vectors": ((3, 32, 32), (4, 3, 3), 1),
    "odd output": ((2, 9, 21), (5, 3, 3), 1),
    "padding larger than the kernel": ((2, 3, 3), (2, 2, 2), 4),
    "one window": ((2, 3, 3), (3, 2, 2), 0),
    "no window": ((2, 1, 4), (3, 1, 2), 0),
    "1x1": ((5, 4, 6), (7, 1, 1), 0),
    "same, even kernel": ((2, 6, 7), (3, 4, 2), "same"),
    "a long kernel": ((1, 3, 40), (2, 2, 19), (1, 9)),
}
# Below, at and above the lanes of every instruction set.
BATCHES = [0, 1, 3, 8, 16, 17, 33]


def geometry(case, images):
    (C, *image), (OC, *window), padding = CASES[case]
    return conv2d_geometry((images, C, *image), (OC, C, *window), 1, padding)


def operands(g, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(np.float32) for shape in (g.input_shape, g.weight_shape, (g.OC,))]


def lanes():
    return {"base": 4, "avx2": 8, "avx512": 16}[instruction_set.used()]


def in_lanes(x):
    """(vectors, C, H, W, lanes) of (N, C, H, W); what stands in empty lanes may be anything."""
    N, vectors = len(x), -(-len(x) // lanes())
    filled = np.full((vectors * lanes(), *x.shape[1:]), np.nan, np.float32)
    filled[:N] = x
    return np.ascontiguousarray(np.moveaxis(filled.reshape(vectors, lanes(), *x.shape[1:]), 1, -1))


def out_of_lanes(kept, N):
    return np.moveaxis(kept, -1, 1).reshape(len(kept) * lanes(), *kept.shape[1:4])[:N].copy()


def judged(x, weight, bias, g):
    with use_conv_kernel("direct_rows"):
        return fused.conv2d_relu_pool_forward(x, weight, bias, g)


@pytest.mark.parametrize("images", BATCHES)
@pytest.mark.parametrize("case", CASES)
def test_every_layout_has_the_bits_of_the_other_direct_kernels(case, images):
    g = geometry(case, images)
    x, weight, bias = operands(g)
    expected, _ = judged(x, weight, bias, g)
    for kept_in, kept_out in itertools.product((False, True), repeat=2):
        fill_free_memory_with_nan()
        actual = fused.conv2d_relu_pool_lanes(in_lanes(x) if kept_in else x, weight, bias, g, kept_in, kept_out)
        if kept_out:
            assert actual.shape == (-(-images // lanes()), g.OC, g.OH // 2, g.OW // 2, lanes())
            actual = out_of_lanes(actual, images)
        assert actual.shape == expected.shape and actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize("images", [16, 33])
@pytest.mark.parametrize("case", CASES)
def test_against_float64(case, images):
    g = geometry(case, images)
    x, weight, bias = operands(g)
    actual = fused.conv2d_relu_pool_lanes(x, weight, bias, g, False, False)
    if g.OH >= 2 and g.OW >= 2:
        expected, _ = Reference().conv2d_relu_max_pool2d(*(each.astype(np.float64) for each in (x, weight, bias)), g)
        # chains of a few hundred float32 products
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("images", [16, 35, 64, 100])
@pytest.mark.parametrize("case", CASES)
def test_codes_of_whole_vectors_and_of_what_is_left(case, images, thread_count):
    g = geometry(case, images)
    arrays = operands(g)
    if not fused.can_fuse(g, False):
        pytest.skip("the table has another kernel for it, alone")
    fill_free_memory_with_nan()
    for mine, theirs in zip(fused.conv2d_relu_pool_forward(*arrays, g), judged(*arrays, g), strict=True):
        assert mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes()


def test_equal_numbers_zeros_and_nan():
    """1x1 with a weight of one: every window of four out of six special numbers, seven to an image."""
    numbers = np.array([-1, -0.0, 0, 1, np.inf, np.nan], np.float32)
    windows = np.resize(np.array(list(itertools.product(numbers, repeat=4)), np.float32), (192, 7, 2, 2))
    x = windows.transpose(0, 2, 1, 3).reshape(192, 1, 2, 14)
    g = conv2d_geometry(x.shape, (1, 1, 1, 1))
    weight, bias = np.ones((1, 1, 1, 1), np.float32), np.full(1, -0.0, np.float32)
    for mine, theirs in zip(fused.conv2d_relu_pool_forward(x, weight, bias, g), judged(x, weight, bias, g),
                            strict=True):
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("channels", range(1, 14))
def test_every_block_size(channels):
    g = conv2d_geometry((17, 2, 5, 6), (channels, 2, 3, 3), 1, 1)
    arrays = operands(g)
    actual = fused.conv2d_relu_pool_lanes(*arrays, g, False, False)
    assert actual.tobytes() == judged(*arrays, g)[0].tobytes()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_geometry(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    C, window, padding = draw(1, 10), (draw(1, 6), draw(1, 9)), (draw(0, 4), draw(0, 4))
    try:
        g = conv2d_geometry((draw(0, 20), C, draw(1, 12), draw(1, 20)), (draw(1, 9), C, *window), 1, padding)
    except RuntimeError:
        return
    x, weight, bias = operands(g)
    kept_in, kept_out = data.draw(st.booleans()), data.draw(st.booleans())
    actual = fused.conv2d_relu_pool_lanes(in_lanes(x) if kept_in else x, weight, bias, g, kept_in, kept_out)
    if kept_out:
        actual = out_of_lanes(actual, g.N)
    assert actual.tobytes() == judged(x, weight, bias, g)[0].tobytes()


@pytest.mark.parametrize("images", [3, 16, 17])
@pytest.mark.parametrize("case", CASES)
def test_nothing_behind_the_arrays_is_read(case, images):
    g = geometry(case, images)
    x, weight, bias = operands(g)
    expected = judged(x, weight, bias, g)[0].tobytes()
    for kept in (False, True):
        with guarded(in_lanes(x) if kept else x, weight, bias) as copies:
            assert fused.conv2d_relu_pool_lanes(*copies, g, kept, False).tobytes() == expected


def test_memory_that_starts_four_bytes_late():
    g = geometry("lenet 2", 33)
    arrays = operands(g)
    late = list(map(moved_by_four_bytes, arrays))
    assert fused.conv2d_relu_pool_lanes(*late, g, False, False).tobytes() == judged(*arrays, g)[0].tobytes()


def test_what_it_does_not_take():
    for stride, dilation in ((2, 1), (1, 2)):
        g = conv2d_geometry((16, 2, 9, 9), (3, 2, 3, 3), stride, 0, dilation)
        assert not fused.keeps_lanes(g)
        with pytest.raises(ValueError, match="images in lanes are for stride and dilation 1"):
            fused.conv2d_relu_pool_lanes(*operands(g), g, False, False)
    g = geometry("lenet 1", 16)
    x, weight, bias = operands(g)
    with pytest.raises(ValueError, match=r"expected 16 images of \[1, 28, 28\] in lanes, got \[15, 1, 28, 28\]"):
        fused.conv2d_relu_pool_lanes(x[:15], weight, bias, g, True, False)
    with pytest.raises(TypeError, match="float32"):
        fused.conv2d_relu_pool_lanes(*(each.astype(np.float64) for each in (x, weight, bias)), g, False, False)
