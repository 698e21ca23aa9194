"""``stack`` of many small tensors, the collation of every loader, against NumPy."""

import numpy as np
import pytest

import minidl


@pytest.mark.parametrize("dtype", [minidl.float32, minidl.float64, minidl.int64, minidl.uint8, minidl.bool])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 5)])
@pytest.mark.parametrize("count", [1, 2, 65])
def test_values(dtype, shape, count):
    minidl.manual_seed(0)
    parts = [(minidl.rand(shape) * 9).to(dtype) for _ in range(count)]
    for dim in range(-len(shape) - 1, len(shape) + 1):
        result = minidl.stack(parts, dim)
        expected = np.stack([part.numpy() for part in parts], dim)
        assert result.dtype == dtype and result.is_contiguous()
        np.testing.assert_array_equal(result.numpy(), expected)


def test_strided_parts_and_memory_of_its_own():
    parts = [minidl.arange(6.0).reshape(2, 3).t(), minidl.ones(3, 2)]
    result = minidl.stack(parts)
    np.testing.assert_array_equal(result[0].numpy(), parts[0].numpy())
    parts[1].zero_()
    assert result[1].sum() == 6


def test_gradients_still_flow():
    leaf = minidl.ones(3, requires_grad=True)
    minidl.stack([leaf, minidl.zeros(3), leaf * 2]).sum().backward()
    assert leaf.grad.tolist() == [3, 3, 3]
    with minidl.no_grad():
        assert not minidl.stack([leaf, leaf]).requires_grad


@pytest.mark.parametrize("parts, words", [
    ([], "non-empty TensorList"),
    ([minidl.ones(2), minidl.ones(3)], r"equal size, but got \[2\] at entry 0 and \[3\] at entry 1"),
])
def test_what_does_not_fit(parts, words):
    with pytest.raises(RuntimeError, match=words):
        minidl.stack(parts)
    with pytest.raises(IndexError, match="Dimension out of range"):
        minidl.stack([minidl.ones(2)], 2)
