"""Printed tensors, letter by letter: stored texts of PyTorch 2.13's, and PyTorch itself where it is there."""

import math

import numpy as np
import pytest

from minidl import _printing as printing
from minidl import _types as types

NAN, INF = math.nan, math.inf


@pytest.fixture
def torch(monkeypatch):
    """PyTorch; meanwhile our dtypes go by its name, which is a letter shorter and so moves some line breaks."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(types.dtype, "__repr__", lambda self: f"torch.{self.name}")
    return torch


@pytest.fixture(autouse=True)
def default_options_and_dtype():
    yield
    printing.set_printoptions(profile="default")
    types.set_default_dtype(types.float32)


def f32(values):
    return np.array(values, np.float32)


STORED = [
    (f32([1.0, 2.0]), {}, "tensor([1., 2.])"),
    (f32([1.0, 2.5]), {}, "tensor([1.0000, 2.5000])"),
    (f32(3.0), {}, "tensor(3.)"),
    (f32(-0.0), {}, "tensor(-0.)"),
    (f32([1.0, -0.0, NAN, INF, -INF]), {}, "tensor([1., -0., nan, inf, -inf])"),
    (f32([1.5, -0.0, NAN, INF, -INF]), {}, "tensor([1.5000, -0.0000,    nan,    inf,   -inf])"),
    (f32([1e-5, 1.0]), {}, "tensor([1.0000e-05, 1.0000e+00])"),
    (f32([[1.0, -2.25], [0.5, 1000.0]]), {},
     "tensor([[ 1.0000e+00, -2.2500e+00],\n        [ 5.0000e-01,  1.0000e+03]])"),
    (np.array([1, -20, 300]), {}, "tensor([  1, -20, 300])"),
    (np.array([[True, False]]), {}, "tensor([[ True, False]])"),
    (np.array([1.5]), {}, "tensor([1.5000], dtype=minidl.float64)"),
    (np.array([1, 2], np.uint8), {}, "tensor([1, 2], dtype=minidl.uint8)"),
    (np.zeros((0, 3), np.float32), {}, "tensor([], size=(0, 3))"),
    (np.zeros(0, np.int64), {}, "tensor([], dtype=minidl.int64)"),
    (np.zeros((2, 0), np.bool_), {}, "tensor([], size=(2, 0), dtype=minidl.bool)"),
    (np.arange(1001), {}, "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    (f32([1.0]), {"requires_grad": True}, "tensor([1.], requires_grad=True)"),
    (f32([1.0]), {"grad_fn": "MulBackward0", "requires_grad": True}, "tensor([1.], grad_fn=<MulBackward0>)"),
    (f32([1.0]), {"device": "cuda:0", "grad_fn": "MulBackward0"},
     "tensor([1.], device='cuda:0', grad_fn=<MulBackward0>)"),
    (np.arange(8.0) + 0.5, {"requires_grad": True},
     "tensor([0.5000, 1.5000, 2.5000, 3.5000, 4.5000, 5.5000, 6.5000, 7.5000],\n"
     "       dtype=minidl.float64, requires_grad=True)"),
    (f32([1.0, 1000.0]), {}, "tensor([   1., 1000.])"),
    (f32([1.0, 1001.0]), {}, "tensor([1.0000e+00, 1.0010e+03])"),
    (f32([1e8]), {}, "tensor([100000000.])"),
    (f32([1.1e8]), {}, "tensor([1.1000e+08])"),
    (np.array([1e-4, 0.05]), {}, "tensor([0.0001, 0.0500], dtype=minidl.float64)"),
    (np.array([9e-5, 0.05]), {}, "tensor([9.0000e-05, 5.0000e-02], dtype=minidl.float64)"),
    (np.zeros((2, 2, 2), np.float32), {},
     "tensor([[[0., 0.],\n         [0., 0.]],\n\n        [[0., 0.],\n         [0., 0.]]])"),
    (f32([1.0]), {"prefix": "Mask("}, "Mask([1.])"),
]


@pytest.mark.parametrize("array, words, expected", STORED)
def test_stored_texts(array, words, expected):
    assert printing.tensor_repr(array, **words) == expected


def test_a_suffix_moves_to_a_new_line_when_it_would_not_leave_room_for_a_parenthesis():
    digits = (np.arange(17) % 10).astype(np.int32)
    text = "tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6]"
    assert len(text) + len(", dtype=minidl.int32)") == 79
    assert printing.tensor_repr(digits) == f"{text}, dtype=minidl.int32)"
    with printing.printoptions(linewidth=79):
        assert printing.tensor_repr(digits) == f"{text},\n       dtype=minidl.int32)"


def test_a_summary_of_a_matrix():
    text = printing.tensor_repr(np.arange(2000.0, dtype=np.float32).reshape(40, 50))
    assert text == (
        "tensor([[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 4.7000e+01, 4.8000e+01,\n"
        "         4.9000e+01],\n"
        "        [5.0000e+01, 5.1000e+01, 5.2000e+01,  ..., 9.7000e+01, 9.8000e+01,\n"
        "         9.9000e+01],\n"
        "        [1.0000e+02, 1.0100e+02, 1.0200e+02,  ..., 1.4700e+02, 1.4800e+02,\n"
        "         1.4900e+02],\n"
        "        ...,\n"
        "        [1.8500e+03, 1.8510e+03, 1.8520e+03,  ..., 1.8970e+03, 1.8980e+03,\n"
        "         1.8990e+03],\n"
        "        [1.9000e+03, 1.9010e+03, 1.9020e+03,  ..., 1.9470e+03, 1.9480e+03,\n"
        "         1.9490e+03],\n"
        "        [1.9500e+03, 1.9510e+03, 1.9520e+03,  ..., 1.9970e+03, 1.9980e+03,\n"
        "         1.9990e+03]])")


def in_torchs_words(torch, array, **words):
    tensor = torch.from_numpy(array.copy(order="C"))
    if words.get("requires_grad"):
        tensor.requires_grad_()
    if "grad_fn" in words:
        tensor = tensor.requires_grad_() * 1
    return repr(tensor)


@pytest.mark.parametrize("array, words, expected", [each for each in STORED if not {"device", "prefix"} & set(each[1])])
def test_stored_texts_are_still_torchs(array, words, expected, torch):
    assert in_torchs_words(torch, array, **words) == expected.replace("minidl.", "torch.")


TABLE = [
    f32([]), f32([0.0]), f32([[0.0, -0.0]]), f32([NAN]), f32([INF, -INF]), f32([0.0, NAN, 100.0]),
    f32([1e8]), f32([1.1e8]), f32([1e8, 5.0]), f32([1e-4]), f32([1e-4, 9e-5]), f32([1.0, 1000.0]), f32([1.0, 1001.0]),
    f32([0.5, 500.0]), f32([0.5, 500.5]), f32([123456.789]), f32([-123456.789, 3.0]), f32([99999.99999]),
    f32([0.99999, 1.0]), f32([3.4e38, 1e-38]), f32([1e-45]), np.array([1.7e308, 5e-324]), np.array([1e16, 1.0]),
    np.array([2.0**53, 1.0]), f32([1e10, NAN]), f32([-1.0, 10.0, -100.0, 0.0]), f32([-1.5, 10.25, INF]),
    np.array(7), np.array(-7, np.int8), np.array(True), np.array(1.5), f32(1e-9), f32(NAN), f32(12345678.0),
    np.array([-2**63, 2**63 - 1]), np.array([0, 255], np.uint8), np.array([-128, 127], np.int8),
    np.zeros(()), np.zeros((0,)), np.zeros((3, 0, 2), np.float32), np.zeros((0, 0), np.int32),
    np.arange(1000), np.arange(1001) - 500, np.arange(1001.0), np.arange(3000).reshape(3, 1000),
    np.arange(3000).reshape(1000, 3), np.arange(3000, dtype=np.float32).reshape(10, 3, 100),
    np.arange(2400).reshape(2, 3, 4, 100), np.arange(4096).reshape(8, 8, 8, 8), np.arange(1200.0).reshape(6, 200),
    np.arange(1400.0).reshape(7, 200), np.ones((1001, 1), np.bool_), np.zeros((30, 40), np.bool_),
    np.arange(24.0, dtype=np.float32).reshape(2, 3, 4).T, np.arange(48)[::-2].reshape(4, 6),
    np.ones((1, 1, 1, 1, 1), np.float32), np.arange(60.0).reshape(5, 1, 12) / 7,
]


WORDS = [{}, {"requires_grad": True}, {"grad_fn": "MulBackward0"}]


@pytest.mark.parametrize("array", TABLE, ids=lambda array: f"{array.dtype}{array.shape}")
def test_a_table_of_tensors(array, torch):
    for words in WORDS if array.dtype.kind == "f" else WORDS[:1]:
        assert printing.tensor_repr(array, **words) == in_torchs_words(torch, array, **words)


def random_array(seed):
    rng = np.random.default_rng(seed)
    ndim = rng.integers(0, 5)
    shape = tuple(rng.choice([1, 2, 3, 6, 7, 12, 40] + [0] * (seed % 10 == 0), ndim))
    kind = rng.integers(0, 6)
    if kind == 0:
        return rng.integers(-10 ** rng.integers(1, 18), 10 ** rng.integers(1, 18), shape)
    if kind == 1:
        return np.asarray(rng.random(shape) < 0.5)
    if kind == 2:
        return rng.integers(0, 120, shape).astype(rng.choice(["uint8", "int8", "int16", "int32"]))
    values = np.asarray(rng.normal(size=shape) * 10.0 ** rng.integers(-6, 9))
    if kind == 3:
        values = np.asarray(np.round(values))
    if kind == 4:
        values = np.asarray(values * 10.0 ** rng.integers(-3, 4, shape))
    for special in (0.0, -0.0, NAN, INF, -INF):
        if rng.random() < 0.2:
            values[rng.random(shape) < 0.1] = special
    return np.asarray(values.astype(rng.choice(["float32", "float64"])))


@pytest.mark.parametrize("seeds", [range(begin, begin + 60) for begin in range(0, 360, 60)], ids=str)
def test_random_tensors(seeds, torch):
    for seed in seeds:
        array = random_array(seed)
        words = {"requires_grad": True} if array.dtype.kind == "f" and seed % 3 == 0 else {}
        assert printing.tensor_repr(array, **words) == in_torchs_words(torch, array, **words), seed


OPTIONS = [
    {"precision": 2}, {"precision": 0}, {"precision": 8}, {"threshold": 5}, {"threshold": 0},
    {"edgeitems": 1, "threshold": 5}, {"edgeitems": 0, "threshold": 5}, {"linewidth": 20}, {"linewidth": 200},
    {"profile": "short"}, {"profile": "full"}, {"profile": "short", "precision": 6},
    {"sci_mode": True}, {"sci_mode": False}, {"sci_mode": True, "precision": 1, "linewidth": 40},
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_options(options, torch):
    before = torch._tensor_str.get_printoptions()
    torch.set_printoptions(**options)
    try:
        with printing.printoptions(**options):
            for array in TABLE + [random_array(seed) for seed in range(30)]:
                if array.size < 200 or array.size == 1001:
                    assert printing.tensor_repr(array) == in_torchs_words(torch, array)
            assert printing.get_printoptions() == torch._tensor_str.get_printoptions()
    finally:
        torch.set_printoptions(**before)
    assert printing.get_printoptions() == {
        "precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def test_options_without_torch():
    printing.set_printoptions(precision=2, sci_mode=False)
    assert printing.tensor_repr(f32([1e-5, 1.0])) == "tensor([0.00, 1.00])"
    printing.set_printoptions(threshold=5, edgeitems=1)
    assert printing.tensor_repr(np.arange(10)) == "tensor([0,  ..., 9])"
    assert printing.get_printoptions()["precision"] == 2

    def interrupted():
        with printing.printoptions(precision=9):
            assert printing.get_printoptions()["precision"] == 9
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert printing.get_printoptions()["precision"] == 2
    with pytest.raises(ValueError, match="default, short, full"):
        printing.set_printoptions(profile="long")


def test_the_default_dtype_is_not_named():
    types.set_default_dtype(types.float64)
    assert printing.tensor_repr(np.array([1.5])) == "tensor([1.5000])"
    assert printing.tensor_repr(f32([1.5])) == "tensor([1.5000], dtype=minidl.float32)"
    assert printing.tensor_repr(np.zeros((0, 1), np.float32)) == "tensor([], size=(0, 1), dtype=minidl.float32)"
