"""Gradients of a convolution from pooled gradients, on every instruction set that this machine runs."""

import numpy as np
import pytest
from guarded import fill_free_memory_with_nan, guarded
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl._devices.reference import Reference
from minidl._ext import conv2d_fused as fused
from minidl._ext import conv2d_pooled as kernels
from minidl.geometry import conv2d_geometry

pytestmark = pytest.mark.usefixtures("isa")

# Of the largest result, a sum of up to some ten thousand float32 products in chains of a few hundred: some dozens of
# units of the last place (6e-8).
TOLERANCE = 1e-5

# (C, H, W), (OC, KH, KW), padding
CASES = {
    "lenet 1": ((1, 28, 28), (6, 5, 5), 2),
    "lenet 2": ((6, 14, 14), (16, 5, 5), 0),
    "3 to 32": ((3, 16, 16), (32, 3, 3), 1),
    "odd output": ((2, 9, 21), (5, 3, 3), 1),
    "odd output, more padding than the kernel": ((2, 5, 7), (17, 2, 2), (4, 3)),
    "one window": ((2, 3, 3), (3, 2, 2), 0),
    "no window": ((2, 1, 4), (3, 1, 2), 0),
    "1x1": ((5, 4, 6), (7, 1, 1), 0),
    "a long kernel": ((1, 3, 40), (2, 2, 19), (1, 9)),
    "a high kernel": ((3, 30, 4), (2, 17, 2), (8, 1)),
    "patches of many vectors": ((20, 12, 12), (18, 5, 5), 0),
    "same, even kernel": ((2, 6, 7), (3, 4, 2), "same"),
}


def geometry(case, images):
    (C, *image), (OC, *window), padding = CASES[case]
    return conv2d_geometry((images, C, *image), (OC, C, *window), 1, padding)


def operands(g, seed=0):
    """grad_output and codes of what is pooled, input and weight; every code occurs, 4 (no gradient) too."""
    generator = np.random.default_rng(seed)
    pooled = (g.N, g.OC, g.OH // 2, g.OW // 2)
    grad, x, weight = (generator.standard_normal(shape).astype(np.float32)
                       for shape in (pooled, g.input_shape, g.weight_shape))
    return grad, generator.integers(0, 5, pooled).astype(np.uint8), x, weight


def computed(grad, codes, x, weight, g):
    fill_free_memory_with_nan()
    return kernels.backward_input(grad, codes, weight, g), *kernels.backward_weight(grad, codes, x, g)


def assert_right(actual, grad, codes, x, weight, g):
    expected = Reference().conv2d_relu_max_pool2d_backward(grad.astype(np.float64), codes, x.astype(np.float64),
                                                          weight.astype(np.float64), g, True)
    for mine, judged in zip(actual, expected, strict=True):
        assert mine.dtype == np.float32 and mine.shape == judged.shape
        np.testing.assert_allclose(mine, judged, rtol=0, atol=TOLERANCE * max(1, np.abs(judged).max(initial=0)))


@pytest.mark.parametrize("images", [0, 1, 7, 17])
@pytest.mark.parametrize("case", CASES)
def test_every_shape_against_float64(case, images):
    g = geometry(case, images)
    assert_right(computed(*operands(g), g), *operands(g), g)


@pytest.mark.parametrize("channels", range(1, 12))
@pytest.mark.parametrize("window", [1, 3, 5])
def test_every_block_size(channels, window):
    """As many channels and vectors of a patch as registers hold, and what is left over."""
    for C in (1, 2, 4, 7):
        g = conv2d_geometry((2, C, 7, 8), (channels, C, window, window), 1, window // 2)
        assert_right(computed(*operands(g), g), *operands(g), g)


@pytest.mark.parametrize("images", [1, 8, 33])
def test_any_number_of_threads(images, thread_count):
    g = geometry("lenet 2", images)
    arrays = operands(g)
    results = computed(*arrays, g)
    assert_right(results, *arrays, g)
    for one, two in zip(results, computed(*arrays, g), strict=True):
        assert one.tobytes() == two.tobytes()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_geometry(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    C, window, padding = draw(1, 10), (draw(1, 6), draw(1, 9)), (draw(0, 4), draw(0, 4))
    try:
        g = conv2d_geometry((draw(0, 5), C, draw(1, 12), draw(1, 20)), (draw(1, 20), C, *window), 1, padding)
    except RuntimeError:
        return
    assert_right(computed(*operands(g), g), *operands(g), g)


@pytest.mark.parametrize("case", CASES)
def test_nothing_behind_the_arrays_is_read(case):
    g = geometry(case, 3)
    arrays = operands(g)
    with guarded(*arrays) as copies:
        assert_right(computed(*copies, g), *arrays, g)


def test_gradients_that_are_not_finite_stay_where_they_belong():
    """Pixels of the input that the window does not see, and other channels' weights, stay finite."""
    g = geometry("lenet 2", 2)
    grad, codes, x, weight = operands(g)
    codes[0, 3, 1, 2], grad[0, 3, 1, 2] = 1, np.inf
    grad_input, grad_weight, grad_bias = computed(grad, codes, x, weight, g)
    seen = np.zeros(g.input_shape, bool)
    seen[0, :, 2:7, 5:10] = True
    np.testing.assert_array_equal(np.isfinite(grad_input), ~seen)
    assert not np.isfinite(grad_weight[3]).any() and not np.isfinite(grad_bias[3])
    assert np.isfinite(np.delete(grad_weight, 3, axis=0)).all() and np.isfinite(np.delete(grad_bias, 3)).all()


def test_what_they_do_not_compute():
    for stride, dilation in ((2, 1), (1, 2)):
        g = conv2d_geometry((1, 2, 9, 9), (3, 2, 3, 3), stride, 0, dilation)
        grad, codes, x, weight = operands(g)
        with pytest.raises(ValueError, match="stride and dilation 1"):
            kernels.backward_weight(grad, codes, x, g)
        with pytest.raises(ValueError, match="stride and dilation 1"):
            kernels.backward_input(grad, codes, weight, g)


@pytest.mark.parametrize("images", [1, 8, 17])
@pytest.mark.parametrize("case", ["lenet 1", "lenet 2", "3 to 32", "odd output"])
def test_what_the_table_chooses_is_right(case, images):
    g = geometry(case, images)
    grad, codes, x, weight = operands(g)
    assert fused.can_fuse(g)
    assert_right(fused.conv2d_relu_pool_backward(grad, codes, x, weight, g), grad, codes, x, weight, g)
