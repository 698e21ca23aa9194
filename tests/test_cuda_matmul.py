"""Matrix products on the GPU: every kernel on odd shapes, operands as views, stacks, and the same bits in any order.

Tolerances are of the largest number of the result: 1e-5 in float32 (sums of at most a few thousand products with
roundings of 6e-8 each), 1e-12 in float64.
"""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest

from minidl._devices.cuda.gemm_table import plan, use_gemm_kernel
from minidl._devices.reference.matmul import MatmulReference

pytestmark = pytest.mark.cuda

REFERENCE = MatmulReference()
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def random(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(got, expected, dtype):
    got = cuda_device.backend().to_host(got) if not isinstance(got, np.ndarray) else got
    assert got.shape == expected.shape and got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE[dtype] * max(1, np.abs(expected).max(initial=0)))


def product(gpu, a, b):
    """The product on the GPU, and what it should be."""
    return (gpu.matmul(gpu.from_host(a), gpu.from_host(b)),
            REFERENCE.matmul(a.astype(np.float64), b.astype(np.float64)))


@FLOATS
@pytest.mark.parametrize("kernel", ["large", "medium", "thin"])
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 7, 3), (16, 16, 64), (33, 20, 65), (131, 9, 130), (8, 132, 200)], ids=str)
def test_every_kernel(gpu, dtype, kernel, splits, shape):
    M, N, K = shape
    with use_gemm_kernel(kernel, splits):
        close(*product(gpu, random((M, K), dtype), random((K, N), dtype, 1)), dtype)


@FLOATS
@pytest.mark.parametrize("kernel", ["large", "medium", "thin"])
@pytest.mark.parametrize("left", ["rows", "columns", "gaps", "shifted"])
@pytest.mark.parametrize("right", ["rows", "columns", "gaps", "shifted"])
def test_operands_are_read_where_they_lie(gpu, dtype, kernel, left, right):
    a, b = random((36, 40), dtype), random((40, 24), dtype, 1)
    with use_gemm_kernel(kernel, 2):
        close(gpu.matmul(view(gpu, a, left), view(gpu, b, right)), a.astype(np.float64) @ b.astype(np.float64), dtype)


def view(gpu, x, how):
    """x on the GPU as a view: without gaps, transposed, every second number, from an odd number on."""
    if how == "rows":
        return gpu.from_host(x)
    if how == "columns":
        held = gpu.from_host(np.ascontiguousarray(x.T))
        return held.view(x.shape, held.strides[::-1])
    if how == "gaps":
        held = gpu.from_host(np.repeat(x, 2, axis=1))
        return held.view(x.shape, (held.strides[0], 2 * x.itemsize))
    held = gpu.from_host(np.concatenate([np.zeros(1, x.dtype), x.ravel()]))
    return held.view(x.shape, None, x.itemsize)


@pytest.mark.parametrize("kernel", ["tf32_large", "tf32_medium"])
@pytest.mark.parametrize("left", ["rows", "columns", "gaps", "shifted"])
@pytest.mark.parametrize("right", ["rows", "columns", "gaps", "shifted"])
@pytest.mark.parametrize("shape", [(36, 40, 24), (35, 133, 70)], ids=str)
def test_tensor_cores(gpu, kernel, left, right, shape):
    """TF32 keeps ten bits: errors of 5e-4 of each product, of random signs."""
    M, K, N = shape
    a, b = random((M, K), np.float32), random((K, N), np.float32, 1)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    for splits in (1, 2):
        with use_gemm_kernel(kernel, splits):
            got = gpu.to_host(gpu.matmul(view(gpu, a, left), view(gpu, b, right)))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_tensor_cores_round_to_the_nearest(gpu):
    """What TF32 holds is multiplied without an error, and halves are rounded away from zero."""
    a = np.array([[1 + 2.0**-10, 1 + 2.0**-11, 1 + 2.0**-12, -1 - 2.0**-11]], np.float32).repeat(16, axis=0)
    with use_gemm_kernel("tf32_medium"):
        got = gpu.to_host(gpu.matmul(gpu.from_host(a), gpu.from_host(np.eye(4, 8, dtype=np.float32))))
    np.testing.assert_array_equal(got[:, :4], [[1 + 2.0**-10, 1 + 2.0**-10, 1, -1 - 2.0**-10]] * 16)


def test_tensor_cores_are_used_where_they_are_allowed():
    float32 = np.dtype(np.float32)
    assert plan(4096, 4096, 4096, 1, float32, 132, True).tile.kernel == "tf32_large"
    assert plan(256, 256, 4096, 1, float32, 132, True).tile.kernel == "tf32_medium"
    assert plan(64, 10, 84, 1, float32, 132, True).tile.kernel == "thin"


@FLOATS
@pytest.mark.parametrize("shapes", [
    ((2, 3, 4), (2, 4, 5)), ((3, 1, 2, 4), (2, 4, 3)), ((2, 5, 4), (4, 3)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)),
    ((4,), (4,)), ((1, 70), (70, 9)), ((9, 300), (300, 1)), ((2, 0, 4), (4, 3)), ((3, 0), (0, 2)), ((0, 2, 3), (3, 4)),
], ids=str)
def test_stacks_vectors_and_nothing(gpu, dtype, shapes):
    close(*product(gpu, random(shapes[0], dtype), random(shapes[1], dtype, 1)), dtype)


@FLOATS
def test_a_vector_times_a_matrix_whose_columns_lie_along_k(gpu, dtype):
    a, b = random((3, 1, 200), dtype), random((3, 9, 200), dtype, 1)
    held = gpu.from_host(b)
    close(gpu.matmul(gpu.from_host(a), held.view((3, 200, 9), (held.strides[0], *held.strides[:0:-1]))),
          a.astype(np.float64) @ b.astype(np.float64).transpose(0, 2, 1), dtype)


def test_a_stack_that_broadcasts_is_not_copied(gpu):
    a, b = random((5, 4), np.float32), random((3, 4, 6), np.float32, 1)
    held = gpu.from_host(a)
    close(gpu.matmul(held.view((3, 5, 4), (0, *held.strides)), gpu.from_host(b)), a.astype(np.float64) @ b, np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64, np.bool_])
def test_integers(gpu, dtype):
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 2 if dtype is np.bool_ else 100, (2, 5, 7)), generator.integers(0, 2, (7, 300))
    a, b = a.astype(dtype), b.astype(dtype)
    np.testing.assert_array_equal(gpu.to_host(gpu.matmul(gpu.from_host(a), gpu.from_host(b))), np.matmul(a, b))


@FLOATS
@pytest.mark.parametrize("lead", [(), (1,), (7,), (64,), (2, 3), (0,)], ids=str)
def test_linear_and_its_gradients(gpu, dtype, lead):
    shapes = (*lead, 40), (12, 40), (12,), (*lead, 12)
    arrays = [random(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    x, weight, bias, grad = (gpu.from_host(array) for array in arrays)
    wide = [array.astype(np.float64) for array in arrays]
    close(gpu.linear(x, weight, bias), REFERENCE.linear(*wide[:3]), dtype)
    close(gpu.linear(x, weight, None), REFERENCE.linear(*wide[:2], None), dtype)
    close(gpu.linear_backward_input(grad, weight), REFERENCE.linear_backward_input(wide[3], wide[1]), dtype)
    close(gpu.linear_backward_weight(grad, x), REFERENCE.linear_backward_weight(wide[3], wide[0]), dtype)
    close(gpu.linear_backward_bias(grad), REFERENCE.linear_backward_bias(wide[3]), dtype)


@pytest.mark.parametrize("shape", [(5000, 3), (2100, 70)], ids=str)
def test_many_rows_of_a_bias_gradient(gpu, shape):
    grad = random(shape, np.float32)
    held = gpu.from_host(np.ascontiguousarray(grad.T))
    close(gpu.linear_backward_bias(gpu.from_host(grad)), grad.astype(np.float64).sum(0), np.float32)
    close(gpu.linear_backward_bias(held.view(shape, held.strides[::-1])), grad.astype(np.float64).sum(0), np.float32)


def test_the_order_of_threads_does_not_matter(gpu):
    a, b = gpu.from_host(random((70, 90), np.float32)), gpu.from_host(random((90, 66), np.float32, 1))

    def results():
        for kernel in ("large", "medium", "thin"):
            with use_gemm_kernel(kernel, 3):
                yield gpu.to_host(gpu.matmul(a, b))
        yield gpu.to_host(gpu.linear_backward_bias(a))

    first = list(results())
    for number in (1, 2):
        with cuda_device.order(number):
            for one, two in zip(first, results(), strict=True):
                np.testing.assert_array_equal(one, two)


@pytest.mark.skipif(cuda_device.REAL, reason="the emulation counts launches")
def test_one_launch_for_each_product(gpu):
    x, weight, grad = (gpu.from_host(random(shape, np.float32)) for shape in [(64, 400), (120, 400), (64, 120)])
    bias = gpu.from_host(random((120,), np.float32))
    for call in (lambda: gpu.linear(x, weight, bias), lambda: gpu.linear_backward_input(grad, weight),
                 lambda: gpu.linear_backward_weight(grad, x), lambda: gpu.linear_backward_bias(grad)):
        cuda_device.emulation().reset_counters()
        call()
        assert cuda_device.emulation().counters().launches == 1


def test_what_the_table_says():
    float32 = np.dtype(np.float32)
    assert plan(4096, 4096, 4096, 1, float32, 132, False)[0].kernel == "large"
    assert plan(4096, 4096, 4096, 1, float32, 132, False).splits == 1
    assert plan(1024, 1024, 1024, 1, float32, 132, False).tile.kernel == "large"
    assert plan(512, 512, 512, 1, float32, 132, False).tile.kernel == "thin"
    assert plan(64, 120, 400, 1, float32, 132, False) == (plan(8, 8, 8, 1, float32, 132, False).tile, 1)
    assert plan(256, 256, 100_000, 1, float32, 132, False).splits > 30


def test_errors(gpu):
    a = gpu.from_host(random((2, 3), np.float32))
    with pytest.raises(RuntimeError, match=r"shapes \(2, 3\) and \(2, 3\) cannot be multiplied"):
        gpu.matmul(a, a)
    with pytest.raises(RuntimeError, match=r"linear: input \(2, 3\), expected \(\.\.\., 2\)"):
        gpu.linear(a, gpu.from_host(random((4, 2), np.float32)), None)
    with pytest.raises(RuntimeError, match="weight has dtype"):
        gpu.linear(a, gpu.from_host(random((4, 3), np.float64)), None)
