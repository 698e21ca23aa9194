"""Pooling on every device against PyTorch, and the fast kernels against the general ones."""


import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signatures import assert_taken_alike

from minidl._devices.cpu.pool import PoolCPU
from minidl._devices.reference.pool import PoolReference
from minidl._ext import pooling
from minidl.geometry import avg_pool2d_geometry, max_pool2d_geometry

pytestmark = pytest.mark.usefixtures("two_threads")

DEVICES = pytest.mark.parametrize("device", [PoolReference(), PoolCPU()], ids=["reference", "cpu"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Means and gradients are short sums of numbers near 1; the order of adding may differ from PyTorch's.
TOLERANCE = {np.float32: 2e-6, np.float64: 4e-15}


def numbers(shape, dtype, seed=0, levels=None):
    """Random numbers; with ``levels`` so few different ones that windows have several equal maxima."""
    generator = np.random.default_rng(seed)
    if levels is None:
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(-levels, levels, shape).astype(dtype)


# kernel_size, stride, padding, dilation, ceil_mode
WINDOWS = [
    (2, 2, 0, 1, False), (2, 2, 0, 1, True), (3, 2, 1, 1, False), (3, 2, 1, 1, True), (2, 1, 1, 1, False),
    ((2, 3), (2, 1), (1, 0), 1, True), (3, None, 1, 2, False), (2, (1, 2), 0, (3, 2), True), (1, 1, 0, 1, False),
    (3, 5, 1, 1, True), ((4, 1), (3, 4), (2, 0), (1, 5), False),
]
SHAPES = [(2, 3, 8, 8), (1, 2, 9, 13), (3, 1, 28, 28), (0, 3, 8, 8), (1, 1, 10, 10)]


def max_pool2d_checked_against_torch(device, x, grad, options, torch):
    """max_pool2d, its backward and its gather on ``device``, each against PyTorch."""
    g = max_pool2d_geometry(x.shape, **options)
    output, indices = device.max_pool2d(x, g)
    expected_input = torch.tensor(x, requires_grad=True)
    expected, expected_indices = torch.nn.functional.max_pool2d(expected_input, return_indices=True, **options)
    grad = grad[:, :, :g.OH, :g.OW]
    expected.backward(torch.tensor(grad))
    assert output.dtype == x.dtype and indices.dtype == np.int32
    np.testing.assert_array_equal(output, expected.detach().numpy())
    np.testing.assert_array_equal(indices, expected_indices.numpy())
    grad_input = device.max_pool2d_backward(grad, indices, g)
    np.testing.assert_allclose(grad_input, expected_input.grad.numpy(), rtol=0, atol=4 * TOLERANCE[x.dtype.type])
    np.testing.assert_array_equal(device.max_pool2d_gather(x, indices, g), output)
    for result in (output, indices, grad_input):
        assert result.flags.c_contiguous and type(result) is np.ndarray


@DEVICES
@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", WINDOWS)
def test_max_pool2d(device, dtype, shape, window):
    torch = pytest.importorskip("torch")
    options = dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), window, strict=True))
    grad = numbers((*shape[:2], 40, 40), dtype, seed=1)
    for levels in (None, 2):  # few levels: the first of equal values must win
        max_pool2d_checked_against_torch(device, numbers(shape, dtype, levels=levels), grad, options, torch)


@DEVICES
@DTYPES
@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}])
def test_max_pool2d_of_nan_and_infinity(device, dtype, options):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).choice(np.array([-np.inf, np.inf, np.nan, 0, 1], dtype), (2, 3, 12, 14))
    max_pool2d_checked_against_torch(device, x, np.ones((2, 3, 20, 20), dtype), options, torch)


@DEVICES
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_max_pool2d_of_integers(device, dtype):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 9, (2, 3, 9, 9)).astype(dtype)
    output, indices = device.max_pool2d(x, max_pool2d_geometry(x.shape, 3, 2, 1))
    expected, places = torch.nn.functional.max_pool2d(torch.tensor(x), 3, 2, 1, return_indices=True)
    assert output.dtype == dtype
    np.testing.assert_array_equal(output, expected.numpy())
    np.testing.assert_array_equal(indices, places.numpy())


@DEVICES
def test_a_window_without_pixels(device):
    """PyTorch gives -inf here and an index outside the plane; ours is -1, and the gradient goes nowhere."""
    x = np.ones((1, 1, 1, 1), np.float32)
    g = max_pool2d_geometry(x.shape, 2, 1, 1, 2)
    output, indices = device.max_pool2d(x, g)
    assert output.item() == -np.inf and indices.item() == -1
    assert device.max_pool2d_backward(np.ones_like(output), indices, g).item() == 0
    assert device.max_pool2d_gather(x, indices, g).item() == 0


@DEVICES
@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", [window for window in WINDOWS if window[3] == 1])
def test_avg_pool2d(device, dtype, shape, window):
    for divisor in ((True, None), (False, None), (True, 3), (False, -2)):
        avg_pool2d_checked_against_torch(device, dtype, shape, window, divisor, pytest.importorskip("torch"))


def avg_pool2d_checked_against_torch(device, dtype, shape, window, divisor, torch):
    kernel_size, stride, padding, _, ceil_mode = window
    x = numbers(shape, dtype)
    g = avg_pool2d_geometry(shape, kernel_size, stride, padding, ceil_mode)
    grad = numbers(g.output_shape, dtype, seed=1)
    expected_input = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.avg_pool2d(expected_input, kernel_size, stride, padding, ceil_mode, *divisor)
    expected.backward(torch.tensor(grad))
    output, grad_input = device.avg_pool2d(x, g, *divisor), device.avg_pool2d_backward(grad, g, *divisor)
    assert output.dtype == grad_input.dtype == dtype
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=0, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(grad_input, expected_input.grad.numpy(), rtol=0, atol=4 * TOLERANCE[dtype])


@DEVICES
@DTYPES
@pytest.mark.parametrize("shape", [(2, 3, 7, 7), (1, 2, 9, 5), (0, 2, 4, 4)])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 7), (10, 4)])
def test_adaptive_avg_pool2d(device, dtype, shape, size):
    torch = pytest.importorskip("torch")
    x, grad = numbers(shape, dtype), numbers((*shape[:2], *size), dtype, seed=1)
    expected_input = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.adaptive_avg_pool2d(expected_input, size)
    expected.backward(torch.tensor(grad))
    np.testing.assert_allclose(device.adaptive_avg_pool2d(x, size), expected.detach().numpy(), rtol=0,
                               atol=TOLERANCE[dtype])
    np.testing.assert_allclose(device.adaptive_avg_pool2d_backward(grad, shape), expected_input.grad.numpy(), rtol=0,
                               atol=4 * TOLERANCE[dtype])


@DEVICES
def test_adaptive_avg_pool2d_to_nothing(device):
    assert device.adaptive_avg_pool2d(np.ones((2, 3, 4, 4), np.float32), (0, 2)).shape == (2, 3, 0, 2)
    grad_input = device.adaptive_avg_pool2d_backward(np.ones((2, 3, 0, 2), np.float32), (2, 3, 4, 4))
    np.testing.assert_array_equal(grad_input, np.zeros((2, 3, 4, 4)))


@pytest.mark.parametrize("shape", [(3, 2, 28, 28), (1, 6, 10, 10), (2, 1, 9, 11), (1, 1, 8, 17), (64, 6, 28, 28)])
def test_the_2x2_rows_are_the_general_loops(shape):
    g = max_pool2d_geometry(shape, 2)
    x = numbers(shape, np.float32, levels=3)
    x[..., ::5] = np.nan
    x[..., ::7] = -np.inf
    output, indices = pooling.max_pool2d_forward(x, g)
    general_output, general_indices = pooling.max_pool2d_forward(x, g, general=True)
    np.testing.assert_array_equal(output, general_output)
    np.testing.assert_array_equal(indices, general_indices)

    grad = numbers(g.output_shape, np.float32, seed=1)
    np.testing.assert_array_equal(pooling.max_pool2d_backward(grad, indices, g),
                                  pooling.max_pool2d_backward(grad, indices, g, general=True))

    x = numbers(shape, np.float32, seed=2)
    for divisor in (0, 5):
        np.testing.assert_allclose(pooling.avg_pool2d_forward(x, g, True, divisor),
                                   pooling.avg_pool2d_forward(x, g, True, divisor, general=True),
                                   rtol=0, atol=TOLERANCE[np.float32])
        np.testing.assert_allclose(pooling.avg_pool2d_backward(grad, g, True, divisor),
                                   pooling.avg_pool2d_backward(grad, g, True, divisor, general=True),
                                   rtol=0, atol=TOLERANCE[np.float32])


LAYOUTS = {
    "transposed": lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "reversed": lambda x: np.ascontiguousarray(x[:, ::-1, :, ::-1])[:, ::-1, :, ::-1],
    "stepped": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "offset": lambda x: np.pad(x, ((0, 0), (1, 2), (3, 0), (1, 1)))[:, 1:-2, 3:, 1:-1],
}


@DEVICES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(device, layout):
    lay = LAYOUTS[layout]
    x = numbers((2, 3, 9, 10), np.float32)
    g = max_pool2d_geometry(x.shape, 3, 2, 1)
    grad = numbers(g.output_shape, np.float32, seed=1)
    output, indices = device.max_pool2d(x, g)
    assert not lay(x).flags.c_contiguous
    for result, expected in (
            (device.max_pool2d(lay(x), g)[0], output),
            (device.max_pool2d_backward(lay(grad), lay(indices), g), device.max_pool2d_backward(grad, indices, g)),
            (device.max_pool2d_gather(lay(x), lay(indices), g), output),
            (device.avg_pool2d(lay(x), g, True, None), device.avg_pool2d(x, g, True, None)),
            (device.avg_pool2d_backward(lay(grad), g, True, None), device.avg_pool2d_backward(grad, g, True, None)),
            (device.adaptive_avg_pool2d(lay(x), (4, 3)), device.adaptive_avg_pool2d(x, (4, 3))),
            (device.adaptive_avg_pool2d_backward(lay(grad), x.shape),
             device.adaptive_avg_pool2d_backward(grad, x.shape))):
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE[np.float32])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_cpu_is_the_reference(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    shape = (draw(0, 3), draw(1, 3), draw(1, 14), draw(1, 14))
    kernel = (draw(1, 4), draw(1, 4))
    options = (kernel, (draw(1, 4), draw(1, 4)), (draw(0, kernel[0] // 2), draw(0, kernel[1] // 2)))
    ceil_mode, dilation = data.draw(st.booleans()), (draw(1, 3), draw(1, 3))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    x = numbers(shape, dtype, seed=draw(0, 99), levels=data.draw(st.sampled_from([None, 2])))
    reference, cpu = PoolReference(), PoolCPU()
    try:
        g = max_pool2d_geometry(shape, *options, dilation, ceil_mode)
    except RuntimeError:
        return
    output, indices = cpu.max_pool2d(x, g)
    expected, expected_indices = reference.max_pool2d(x, g)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    grad = numbers(g.output_shape, dtype)
    np.testing.assert_allclose(cpu.max_pool2d_backward(grad, indices, g),
                               reference.max_pool2d_backward(grad, indices, g), rtol=0, atol=8 * TOLERANCE[dtype])
    np.testing.assert_array_equal(cpu.max_pool2d_gather(x, indices, g), reference.max_pool2d_gather(x, indices, g))


def test_backward_and_gather_are_adjoint():
    """<grad, gather(x)> = <backward(grad), x>: the gather is the derivative of the backward."""
    cpu, g = PoolCPU(), max_pool2d_geometry((2, 3, 9, 9), 3, 2, 1)
    x, direction = numbers(g.input_shape, np.float64), numbers(g.input_shape, np.float64, seed=1)
    grad = numbers(g.output_shape, np.float64, seed=2)
    indices = cpu.max_pool2d(x, g)[1]
    left = (grad * cpu.max_pool2d_gather(direction, indices, g)).sum()
    assert left == pytest.approx((cpu.max_pool2d_backward(grad, indices, g) * direction).sum(), abs=1e-12)


def test_wrong_dtypes_are_errors():
    cpu, g = PoolCPU(), max_pool2d_geometry((1, 1, 8, 8), 2)
    grad = np.zeros(g.output_shape, np.float32)
    with pytest.raises(TypeError, match="int32, got int64"):
        cpu.max_pool2d_backward(grad, np.zeros(g.output_shape, np.int64), g)
    with pytest.raises(TypeError, match="both float32 or both float64, got float16"):
        cpu.max_pool2d(np.zeros(g.input_shape, np.float16), g)


def test_signatures_are_the_references():
    assert_taken_alike(PoolCPU, PoolReference)
