"""Matrix products: the CPU against the reference, and both against PyTorch in float64."""

import itertools

import numpy as np
import pytest

from minidl._devices.cpu import CPU
from minidl._devices.reference import Reference
from minidl._ext import threads

device = pytest.mark.parametrize("F", [Reference(), CPU()], ids=["reference", "cpu"])
rng = np.random.default_rng(3)

PRODUCTS = [
    ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((1, 3), (3, 1)), ((1, 1), (1, 1)),
    ((2, 0), (0, 3)), ((0, 3), (3, 2)), ((2, 3), (3, 0)), ((0,), (0,)), ((65, 40), (40, 70)),
    ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)), ((1, 2, 3), (6, 3, 2)), ((2, 1, 2, 3), (1, 5, 3, 4)), ((0, 2, 3), (0, 3, 4)),
    ((4, 2, 0), (4, 0, 3)),
]


def layouts(x):
    """The same matrix, its rows or columns dense, padded, reversed, strided or repeated in memory."""
    yield x
    if x.ndim >= 2:
        yield x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
        yield np.concatenate([x, x], -1)[..., : x.shape[-1]]
        yield np.concatenate([x, x], -2).swapaxes(-1, -2).copy().swapaxes(-1, -2)[..., : x.shape[-2], :]
        yield np.asfortranarray(x)
    yield np.repeat(x, 2, -1)[..., ::2]
    yield x[..., ::-1].copy()[..., ::-1]


def check(ours, expected, dtype):
    assert type(ours) is np.ndarray and ours.flags.c_contiguous and ours.dtype == dtype
    tolerance = 1e-4 if dtype == "f4" else 1e-12  # sums of up to 64 products of numbers of size 1
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


@device
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shapes", PRODUCTS)
def test_matmul(F, shapes, dtype):
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    expected = np.matmul(a.astype("f8"), b.astype("f8"))
    torch = pytest.importorskip("torch")
    assert tuple((torch.from_numpy(a) @ torch.from_numpy(b)).shape) == expected.shape
    for x, y in itertools.product(layouts(a), layouts(b)):
        check(F.matmul(x, y), expected, dtype)
    np.testing.assert_array_equal(F.matmul((4 * a).astype("i8"), (4 * b).astype("i8")),
                                  np.matmul((4 * a).astype("i8"), (4 * b).astype("i8")))


@device
def test_matmul_of_expanded_arguments(F):
    a = np.broadcast_to(rng.standard_normal((1, 4)), (3, 4))
    b = np.broadcast_to(rng.standard_normal((4, 1)), (4, 5))
    check(F.matmul(a, b), a @ b, "f8")
    batch = np.broadcast_to(rng.standard_normal((3, 4)), (6, 3, 4))
    check(F.matmul(batch, b), batch @ b, "f8")


@device
@pytest.mark.parametrize("shapes", [((2, 3), (4, 5)), ((3,), (4,)), ((), (3,)), ((2, 3, 4), (3, 4, 5)), ((3,), (2, 4))])
def test_matmul_errors(F, shapes):
    torch = pytest.importorskip("torch")
    a, b = (np.ones(shape, "f4") for shape in shapes)
    with pytest.raises(RuntimeError):
        torch.from_numpy(a) @ torch.from_numpy(b)
    with pytest.raises(RuntimeError, match="matmul: "):
        F.matmul(a, b)


@device
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("lead", [(), (1,), (2,), (64,), (0,), (2, 3), (2, 0, 3)])
@pytest.mark.parametrize("features", [(4, 3), (40, 30), (1, 1), (0, 2), (3, 0)])
def test_linear(F, lead, features, dtype):
    inputs, outputs = features
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((*lead, inputs), (outputs, inputs)))
    b, g = (rng.standard_normal(shape).astype(dtype) for shape in ((outputs,), (*lead, outputs)))
    x64, w64, b64, g64 = (array.astype("f8") for array in (x, w, b, g))
    rows, grad_rows = (array.reshape(int(np.prod(lead)), array.shape[-1]) for array in (x64, g64))
    for input, weight in itertools.product(layouts(x), layouts(w)):
        check(F.linear(input, weight, b), x64 @ w64.T + b64, dtype)
        check(F.linear(input, weight, None), x64 @ w64.T, dtype)
    check(F.linear(x, w, np.repeat(b, 2)[::2]), x64 @ w64.T + b64, dtype)
    for grad in layouts(g):
        for weight in layouts(w):
            check(F.linear_backward_input(grad, weight), g64 @ w64, dtype)
        for input in layouts(x):
            check(F.linear_backward_weight(grad, input), grad_rows.T @ rows, dtype)
        check(F.linear_backward_bias(grad), grad_rows.sum(0), dtype)


@device
def test_linear_errors(F):
    x, w, b = np.ones((2, 3), "f4"), np.ones((4, 3), "f4"), np.ones(4, "f4")
    with pytest.raises(RuntimeError, match=r"linear: input \(2, 5\), expected \(\.\.\., 3\)"):
        F.linear(np.ones((2, 5), "f4"), w, b)
    with pytest.raises(RuntimeError, match=r"linear: bias \(2,\), expected \(4,\)"):
        F.linear(x, w, np.ones(2, "f4"))
    with pytest.raises(RuntimeError, match="linear: weight must have shape"):
        F.linear(x, b, None)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_products_on_several_threads(count):
    """Rows, columns or matrices of a batch are shared out; the numbers agree with float64."""
    F, before = CPU(), threads.get_num_threads()
    cases = [((300, 200), (200, 150)), ((150, 200), (200, 300)), ((40, 60, 50), (40, 50, 70)), ((2, 4000), (4000, 500))]
    try:
        threads.set_num_threads(count)
        for shapes in cases:
            a, b = (rng.standard_normal(shape).astype("f4") for shape in shapes)
            columns_a, columns_b = (array.swapaxes(-1, -2).copy().swapaxes(-1, -2) for array in (a, b))
            for x, y in itertools.product((a, columns_a), (b, columns_b)):
                result = F.matmul(x, y)
                np.testing.assert_array_equal(result, F.matmul(x, y))
                np.testing.assert_allclose(result, a.astype("f8") @ b.astype("f8"), rtol=1e-3, atol=1e-3)
    finally:
        threads.set_num_threads(before)
