"""Tensor as a Python object: protocols, copies, text, and the objects beside it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

import minidl

# ---- Python's protocols --------------------------------------------------------------------------------------------


def test_iteration_len_and_contains():
    x = minidl.tensor([[1, 2], [3, 4]])
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]] and 3 in x and 7 not in x
    a, b = x
    assert a.tolist() == [1, 2] and b.tolist() == [3, 4]
    for call in (lambda: len(minidl.tensor(1)), lambda: list(minidl.tensor(1))):
        with pytest.raises(TypeError, match="0-d tensor"):
            call()


def test_conversion_to_python_numbers():
    assert minidl.tensor([[2.5]]).item() == 2.5 and isinstance(minidl.tensor(3).item(), int)
    assert int(minidl.tensor(2.9)) == 2 and float(minidl.tensor(2)) == 2.0 and bool(minidl.tensor([0.0])) is False
    assert [10, 20, 30][minidl.tensor(1)] == 20 and isinstance(minidl.tensor(True).item(), bool)
    assert f"{minidl.tensor(3.14159):.2f}" == "3.14" and minidl.tensor([1, 2]).tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="a Tensor with 2 elements cannot be converted to Scalar"):
        minidl.ones(2).item()
    with pytest.raises(RuntimeError, match="Boolean value of Tensor with more than one value is ambiguous"):
        bool(minidl.ones(2))
    with pytest.raises(RuntimeError, match="Boolean value of Tensor with no values is ambiguous"):
        bool(minidl.ones(0))
    with pytest.raises(TypeError, match="only integer tensors of a single element can be converted to an index"):
        [1, 2][minidl.tensor(1.0)]


def test_equality_is_elementwise_and_hash_is_identity():
    a, b = minidl.ones(2), minidl.ones(2)
    assert (a == b).tolist() == [True, True] and len({a, b, a}) == 2 and {a: 1}[a] == 1
    assert minidl.equal(a, b) and minidl.allclose(a, b + 1e-9) and not minidl.equal(a, minidl.ones(3))


def test_to_and_type():
    x = minidl.tensor([1.5, -2.5])
    assert (
        x.to(minidl.int64).tolist() == [1, -2]
        and x.double().dtype == minidl.float64
        and x.type() == "minidl.FloatTensor"
    )
    assert x.to("cpu") is x and x.to(minidl.ones(1, dtype=minidl.float64)).dtype == minidl.float64
    assert x.to("cpu", minidl.float64).dtype == minidl.float64 and x.to(device="cpu", dtype=minidl.int8).tolist() == [
        1,
        -2,
    ]
    assert x.bool().tolist() == [True, True] and x.type(minidl.int32).dtype == minidl.int32
    with pytest.raises(TypeError, match="invalid argument"):
        x.to(3.5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'spam'"):
        x.to(spam=1)


WITHOUT_GPU = """
import sys
sys.modules["pycuda"] = None        # whoever imports it finds that it is not installed
import minidl

assert minidl.cuda.is_available() is False and minidl.cuda.device_count() == 0
for call in (
    lambda: minidl.zeros(2, device="cuda"),
    lambda: minidl.ones(1).to("cuda"),
    lambda: minidl.ones(1).cuda(),
    lambda: minidl.tensor(1, device=minidl.device("cuda", 1)),
):
    try:
        call()
    except RuntimeError as error:
        assert "pip install 'minidl[cuda]'" in str(error), error
    else:
        raise AssertionError("a tensor was put on a GPU that is not there")
"""


def test_devices_that_are_not_there():
    assert minidl.backends.mps.is_available() is False
    with pytest.raises(RuntimeError):
        minidl.device("toaster")
    # in a process of its own: this one may have an emulated GPU by now
    subprocess.run([sys.executable, "-c", WITHOUT_GPU], check=True)


# ---- copies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    for x in (
        minidl.arange(6).view(2, 3).t(),
        minidl.tensor(2.5),
        minidl.zeros(0, 3),
        minidl.ones(2, requires_grad=True),
        minidl.Parameter(minidl.ones(2)),
        minidl.tensor([True]),
    ):
        y = pickle.loads(pickle.dumps(x, protocol))
        assert type(y) is type(x) and y.dtype == x.dtype and y.shape == x.shape and y.tolist() == x.tolist()
        assert y.requires_grad == x.requires_grad
    with pytest.raises(RuntimeError, match="Only leaf Tensors can be pickled"):
        pickle.dumps(minidl.ones(1, requires_grad=True) * 2)


def test_deepcopy_and_copy():
    p = minidl.Parameter(minidl.ones(2))
    p.grad = minidl.tensor([3.0, 4.0])
    q, shared = copy.deepcopy([p, p])
    assert q is shared and isinstance(q, minidl.Parameter) and q.grad.tolist() == [3.0, 4.0] and q.requires_grad
    assert q.data_ptr() != p.data_ptr() and q.grad.data_ptr() != p.grad.data_ptr()
    assert copy.copy(p).tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(p * 2)


# ---- text and objects ----------------------------------------------------------------------------------------------


def test_repr():
    a = minidl.tensor([1.0, 2.0], requires_grad=True)
    assert repr(a) == "tensor([1., 2.], requires_grad=True)"
    assert repr(a * 2) == "tensor([2., 4.], grad_fn=<MulBackward0>)"
    assert repr(a[0]) == "tensor(1., grad_fn=<SelectBackward0>)"
    assert repr(minidl.tensor([1, 2], dtype=minidl.int32)) == "tensor([1, 2], dtype=minidl.int32)"
    assert repr(minidl.Parameter(minidl.ones(1))) == "Parameter containing:\ntensor([1.], requires_grad=True)"


def test_the_objects_beside_tensors():
    assert repr(minidl.ones(2, 3).shape) == "minidl.Size([2, 3])" and minidl.ones(2, 3).shape == (2, 3)
    assert (
        minidl.ones(2, 3).size() == (2, 3) and minidl.ones(2, 3).size(-1) == 3 and minidl.ones(2, 3).shape.numel() == 6
    )
    assert repr(minidl.float32) == "minidl.float32" and minidl.float is minidl.float32
    assert repr(minidl.ones(1).device) == "device(type='cpu')" and minidl.ones(1).device == minidl.device("cpu")
    assert minidl.ones(2, 3).dim() == 2 == minidl.ones(2, 3).ndim and minidl.ones(2, 3).numel() == 6
    assert minidl.ones(2).element_size() == 4 and minidl.ones(2).nbytes == 8 and not minidl.ones(2).is_cuda
    assert minidl.is_tensor(minidl.ones(1)) and not minidl.is_tensor(1)


def test_options_of_in_place_methods_are_not_lost():
    x = minidl.tensor([7.0, -7.0])
    assert x.clone().div_(2.0, rounding_mode="floor").tolist() == [3.0, -4.0]
    assert x.clone().div_(2.0, rounding_mode="trunc").tolist() == [3.0, -3.0]
    assert x.clone().mul_(other=2.0).tolist() == [14.0, -14.0]
    assert x.clone().pow_(exponent=2).tolist() == [49.0, 49.0]
    assert x.clone().masked_fill_(mask=x > 0, value=1.0).tolist() == [1.0, -7.0]
    assert (x / 4).round_(decimals=1).tolist() == (minidl.tensor([18.0, -18.0]) / 10).tolist()
    with pytest.raises(TypeError, match="digits"):
        x.round_(digits=2)
