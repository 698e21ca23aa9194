"""Every op's case on the GPU: the CPU's numbers, gradients by finite differences, the same bits in any order.

The GPU is the emulated one, unless ``MINIDL_TEST_GPU=real``.  Tolerances are of the largest number of a result: 1e-5 in
float32, a few hundred roundings of 6e-8; 1e-12 in float64.
"""

from __future__ import annotations

import cuda_device
import numpy as np
import pytest
from op_cases import CASES
from test_ops import Library, ids

import minidl
from minidl._devices.cuda import CUDA
from minidl._devices.reference import Reference

pytestmark = pytest.mark.cuda

# What the CPU has and the GPU lacks.  Whoever writes a kernel takes its name out.
GAPS: set[str] = set()

# Masks come from another generator on the GPU; tests/test_cuda_random.py looks at them.
RANDOM = {"dropout"}
COMPARED = [case for case in CASES if case.name not in RANDOM]


def outcome(case, backend, dtype):
    """The result of a case and the gradients of its inputs, as NumPy arrays."""
    tensors = [
        minidl._ext.core.from_raw(backend.from_host(a.astype(dtype)), backend).requires_grad_() for a in case.arrays()
    ]
    out = case.call(Library(backend), *tensors)
    grads = minidl.autograd.grad(out.sum(), tensors, allow_unused=True) if out.requires_grad else []
    return [cuda_device.numbers(out), *(cuda_device.numbers(g) for g in grads if g is not None)]


def unless_missing(function, *arguments):
    """``function(*arguments)``; a case whose op is in GAPS is skipped."""
    try:
        return function(*arguments)
    except NotImplementedError as error:
        if str(error).split()[0] not in GAPS:
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("case", COMPARED, ids=ids)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_the_gpu_agrees_with_the_cpu(gpu, case, dtype, tolerance):
    tolerance = tolerance if case.exact else 1e-5
    expected = outcome(case, minidl.zeros(1)._backend, dtype)
    for got, wanted in zip(unless_missing(outcome, case, gpu, dtype), expected, strict=True):
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max(initial=0)))


@pytest.mark.parametrize("case", COMPARED, ids=ids)
def test_the_order_of_threads_does_not_matter(gpu, case):
    first = unless_missing(outcome, case, gpu, np.float32)
    for number in (1, 2):
        with cuda_device.order(number):
            again = outcome(case, gpu, np.float32)
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("case", [case for case in COMPARED if case.exact], ids=ids)
def test_gradients_agree_with_finite_differences(gpu, case):
    tensors = [cuda_device.tensor(a).requires_grad_() for a in case.arrays()]
    unless_missing(lambda: minidl.autograd.gradcheck(lambda *args: case.call(Library(gpu), *args), tensors))


def test_the_gaps_are_the_ones_that_are_listed():
    """What the reference has and the GPU does not is in GAPS, and nothing else is."""
    missing = {
        name for name in dir(Reference)
        if not name.startswith("_") and callable(getattr(Reference, name)) and not hasattr(CUDA, name)
    }
    assert missing == GAPS
