"""Views, padding, indexing and creation: the CPU against the reference, and both against PyTorch."""

import inspect
import itertools

import numpy as np
import pytest
from signatures import assert_called_alike

import minidl
from minidl._devices.cpu import CPU
from minidl._devices.reference import Reference
from minidl._ext.views import plain_key, whole_shape

DEVICES = [Reference(), CPU()]
device = pytest.mark.parametrize("F", DEVICES, ids=["reference", "cpu"])
rng = np.random.default_rng(11)


def same(ours, theirs, rtol=0.0):
    theirs = theirs.detach().numpy()
    assert type(ours) is np.ndarray
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=rtol)


def fresh(ours, theirs, *arguments, rtol=0.0):
    same(ours, theirs, rtol)
    assert ours.flags.c_contiguous and ours.flags.writeable
    assert not any(np.shares_memory(ours, argument) for argument in arguments)


# method, the same in PyTorch: each is a view of x (2, 3, 4) that shares its memory
VIEWS = {
    "reshape": (lambda F, x: F.reshape(x, (6, 4)), lambda t: t.reshape(6, 4)),
    "permute": (lambda F, x: F.permute(x, (2, 0, 1)), lambda t: t.permute(2, 0, 1)),
    "expand": (lambda F, x: F.expand(x[:, :1], (5, 2, 3, 4)), lambda t: t[:, :1].expand(5, 2, 3, 4)),
    "expand 0-d": (lambda F, x: F.expand(x[0, 0, 0:1].reshape(()), (2, 2)), lambda t: t[0, 0, 0].expand(2, 2)),
    "slice": (lambda F, x: F.slice(x, (1, slice(None, None, 2), None, -1)), lambda t: t[1, ::2, None, -1]),
    "slice ellipsis": (lambda F, x: F.slice(x, (Ellipsis, slice(1, 3))), lambda t: t[..., 1:3]),
    "slice to 0-d": (lambda F, x: F.slice(x, (1, 2, 3)), lambda t: t[1, 2, 3]),
    "as_strided": (lambda F, x: F.as_strided(x, (2, 3), (1, 5), 4), lambda t: t.as_strided((2, 3), (1, 5), 4)),
    "as_strided of a view": (lambda F, x: F.as_strided(x[1], (2, 2), (4, 1), 1),
                             lambda t: t.as_strided((2, 2), (4, 1), 13)),
}


@device
@pytest.mark.parametrize("case", VIEWS)
def test_views(F, case):
    torch = pytest.importorskip("torch")
    ours, theirs = VIEWS[case]
    x = rng.standard_normal((2, 3, 4)).astype("f4")
    view = ours(F, x)
    same(view, theirs(torch.from_numpy(x)))
    assert np.shares_memory(view, x) and view.flags.writeable
    x += 1
    same(view, theirs(torch.from_numpy(x)))


@device
def test_a_reshape_that_needs_a_copy(F):
    x = rng.standard_normal((3, 4)).T
    result = F.reshape(x, (12,))
    np.testing.assert_array_equal(result, x.ravel())
    assert not np.shares_memory(result, x)


# method, the same in PyTorch: each is a fresh array made from x (2, 3, 4)
COPIES = {
    "cat": (lambda F, x: F.cat(1, x, x[:, :1], x[:, ::2]), lambda t, torch: torch.cat([t, t[:, :1], t[:, ::2]], 1)),
    "cat with (0,)": (lambda F, x: F.cat(0, np.zeros(0, "f4"), x.T), lambda t, torch: torch.cat([t.permute(2, 1, 0)])),
    "cat of one": (lambda F, x: F.cat(0, x), lambda t, torch: t),
    "flip": (lambda F, x: F.flip(x, (0, 2)), lambda t, torch: t.flip(0, 2)),
    "roll": (lambda F, x: F.roll(x, (1, -2), (0, 2)), lambda t, torch: t.roll((1, -2), (0, 2))),
    "roll all": (lambda F, x: F.roll(x, (5,), ()), lambda t, torch: t.roll(5)),
    "repeat": (lambda F, x: F.repeat(x, (2, 1, 3, 2)), lambda t, torch: t.repeat(2, 1, 3, 2)),
    "repeat once": (lambda F, x: F.repeat(x, (1, 1, 1)), lambda t, torch: t),
    "tril": (lambda F, x: F.tril(x, -1), lambda t, torch: t.tril(-1)),
    "triu": (lambda F, x: F.triu(x, 1), lambda t, torch: t.triu(1)),
}


@device
@pytest.mark.parametrize("case", COPIES)
def test_copies(F, case):
    torch = pytest.importorskip("torch")
    ours, theirs = COPIES[case]
    x = rng.standard_normal((2, 3, 4)).astype("f4")
    fresh(ours(F, x), theirs(torch.from_numpy(x), torch), x)


PADS = [("constant", (1, 2)), ("constant", (-1, 2, 1, -1)), ("constant", (0, 0, 0, 0, 2, 1)), ("reflect", (3, 2)),
        ("reflect", (1, 2, 2, 0)), ("replicate", (5, 0)), ("replicate", (1, 2, 3, 4)), ("circular", (4, 1)),
        ("circular", (1, 2, 3, 0))]


@device
@pytest.mark.parametrize(("mode", "pad"), PADS)
def test_pad_and_its_gradient(F, mode, pad):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 3, 4)).astype("f8")
    leaf = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.pad(leaf, pad, mode, *([1.5] if mode == "constant" else []))
    grad = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.from_numpy(grad))
    for layout in (x, np.asfortranarray(x)):
        fresh(F.pad(layout, pad, mode, 1.5), expected, x)
    fresh(F.pad_backward(grad, x.shape, pad, mode), leaf.grad, grad, rtol=1e-12)


@device
@pytest.mark.parametrize(("mode", "pad", "error"), [
    ("reflect", (4, 4), RuntimeError), ("circular", (5, 5), RuntimeError), ("constant", (-1, -4), RuntimeError),
    ("constant", (1, 1, 1), RuntimeError), ("constant", (1,) * 6, RuntimeError), ("bad", (1, 1), NotImplementedError),
])
def test_pad_errors_are_those_of_pytorch(F, mode, pad, error):
    torch = pytest.importorskip("torch")
    x = np.ones((3, 4), "f4")
    with pytest.raises(error):
        torch.nn.functional.pad(torch.from_numpy(x), pad, mode)
    with pytest.raises(error, match="pad: "):
        F.pad(x, pad, mode, 0)


def mask(*shape):
    return np.random.default_rng(5).random(shape) > 0.4


ROW, COLUMN, ALL = np.array([1, 0, -1]), np.array([[2], [-3]]), slice(None)
KEYS = {
    "one array": (ROW,), "two arrays": (ROW, COLUMN), "array after slice": (ALL, ROW),
    "int, slice, array": (0, ALL, ROW),
    "0-d array is an int": (np.array(1), ALL, ROW), "separated arrays": (ROW, ALL, ROW), "2-D array": (COLUMN % 2,),
    "array, none, slice": (None, ROW, slice(0, 2)), "ellipsis": (Ellipsis, ROW), "mask of all": (mask(2, 3, 4),),
    "mask of rows": (mask(2, 3),), "mask in the middle": (ALL, mask(3)), "list": (0, [1, 2]), "true": (True,),
    "mask and array": (1, mask(3), np.array([0])), "false": (False, ALL), "negative ints": (-1, -1, -1), "nothing": (),
    "slices only": (ALL, slice(None, None, 2)), "empty array": (np.zeros(0, int),), "int32 array": (ROW.astype("i4"),),
}


def torch_key(torch, key):
    arrays = (np.ndarray, list)
    return tuple(torch.from_numpy(np.asarray(entry)) if isinstance(entry, arrays) else entry for entry in key)


@device
@pytest.mark.parametrize("case", KEYS)
def test_index_put_and_backward(F, case):
    torch = pytest.importorskip("torch")
    key = KEYS[case]
    x = rng.standard_normal((2, 3, 4))
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    expected = leaf[torch_key(torch, key)]
    fresh(F.index(x, key), expected, x)
    fresh(F.index(np.asfortranarray(x), key), expected, x)
    grad = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.from_numpy(grad))
    fresh(F.index_backward(grad, x.shape, key), leaf.grad, grad, rtol=1e-12)
    added = torch.from_numpy(x) + leaf.grad
    fresh(F.index_put(x, key, grad, True), added, x, rtol=1e-12)
    there = x.copy()
    F.index_put_(there, key, 7.0, False)
    written = torch.from_numpy(x.copy())
    written[torch_key(torch, key)] = 7.0
    same(there, written)


@device
def test_index_errors(F):
    x = np.ones((3, 4), "f4")
    for key, message in (((np.array([0, 7]),), "index 7 is out of bounds for dimension 0 with size 3"),
                         ((slice(None), np.array([-5])), "index -5 is out of bounds for dimension 1 with size 4"),
                         ((7,), "index 7 is out of bounds"), ((0, 0, ROW), "too many indices"),
                         ((mask(2),), "mask of shape"), ((np.ones(2),), "must be integers or booleans"),
                         ((ROW, np.array([0, 1])), "could not be broadcast")):
        with pytest.raises(IndexError, match=message):
            F.index(x, key)
    with pytest.raises(RuntimeError, match=r"values of shape \(3,\) cannot be broadcast .* \(2, 4\)"):
        F.index_put(x, (np.array([0, 1]),), np.ones(3, "f4"), False)
    with pytest.raises(ValueError, match="step must be greater than zero"):
        F.slice(x, (slice(None, None, -1),))


@device
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_gather_and_scatter(F, dim):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((3, 4, 5)).astype("f4")
    for shape in ((3, 4, 5), (2, 3, 4), (1, 4, 1), (0, 4, 5)):
        index = rng.integers(0, x.shape[dim], shape)
        source = rng.standard_normal((3, 4, 5)).astype("f4")
        t, ti, ts = torch.from_numpy(x), torch.from_numpy(index), torch.from_numpy(source)
        fresh(F.gather(x, dim, index), t.gather(dim, ti), x)
        fresh(F.scatter_add(x, dim, index, source), t.scatter_add(dim, ti, ts), x, rtol=1e-5)
        fresh(F.scatter(x, dim, index, 2.5), t.scatter(dim, ti, 2.5), x)
        unique = np.sort(index, dim)[tuple(slice(None, 1) if i == dim else slice(None) for i in range(3))]
        fresh(F.scatter(x, dim, unique, source), t.scatter(dim, torch.from_numpy(unique), ts), x)
    for bad in (x.shape[dim], -1):
        with pytest.raises(RuntimeError, match=f"gather: index {bad} is out of bounds for dimension {dim} with size"):
            F.gather(x, dim, np.full((1, 1, 1), bad))
        with pytest.raises(IndexError, match="scatter_add: index"):
            F.scatter_add(x, dim, np.full((1, 1, 1), bad), x)
    with pytest.raises(RuntimeError, match="no larger than input"):
        F.gather(x, dim, np.zeros((9, 9, 9), int))
    with pytest.raises(RuntimeError, match="as many dimensions"):
        F.gather(x, dim, np.zeros(3, int))


@device
def test_gather_and_scatter_of_0d(F):
    assert F.gather(np.array(3.0), 0, np.array(0)).shape == () and F.scatter(np.array(3.0), 0, np.array(0), 4.0) == 4


@device
def test_selections(F):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((3, 4)).astype("f4")
    t = torch.from_numpy(x)
    fresh(F.nonzero(x > 0), (t > 0).nonzero(), x)
    fresh(F.nonzero(np.array(2.0)), torch.tensor(2.0).nonzero())
    fresh(F.masked_select(x, mask(3, 1)), t.masked_select(torch.from_numpy(mask(3, 1))), x)
    with pytest.raises(RuntimeError, match="masked_select"):
        F.masked_select(x, mask(2))
    for dim, layout in itertools.product((0, 1), (x, np.asfortranarray(x))):
        fresh(F.index_select(layout, dim, np.array([2, 0, 2])), t.index_select(dim, torch.tensor([2, 0, 2])), x)
        fresh(F.index_select(layout, dim, np.array(1)), t.index_select(dim, torch.tensor(1)), x)
        with pytest.raises(IndexError, match="index_select: index -1 is out of bounds"):
            F.index_select(x, dim, np.array([-1]))


@device
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4", "u1", "?"])
def test_constants(F, dtype):
    kind = np.dtype(dtype)
    for shape in ((), (3,), (0, 2), (2, 3, 4)):
        np.testing.assert_array_equal(F.zeros(shape, kind), np.zeros(shape, dtype), strict=True)
        np.testing.assert_array_equal(F.full(shape, 1, kind), np.ones(shape, dtype), strict=True)
        np.testing.assert_array_equal(F.full(shape, True, kind), np.ones(shape, dtype), strict=True)
        assert (F.empty(shape, kind).shape, F.empty(shape, kind).dtype) == (shape, kind)
    np.testing.assert_array_equal(F.full((2,), 2.75, kind), np.full(2, 2.75).astype(dtype), strict=True)


@device
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_ranges(F, dtype):
    torch = pytest.importorskip("torch")
    kind, theirs = np.dtype(dtype), {"f4": torch.float32, "f8": torch.float64, "i8": torch.int64}[dtype]
    for bounds in ((0, 10, 1), (5, 0, -2), (0, 0, 1), (1, 2, 5), (-3, 4, 3), (0, 1.05, 0.1), (2.5, -1.0, -0.5)):
        if dtype != "i8" or all(isinstance(bound, int) for bound in bounds):
            fresh(F.arange(*bounds, kind), torch.arange(*bounds, dtype=theirs), rtol=1e-6)
    for start, end, steps in ((0, 1, 7), (3, 1, 1), (0, 1, 0), (-5, 5, 11), (2, 2, 4), (1, 0, 2)):
        fresh(F.linspace(start, end, steps, kind), torch.linspace(start, end, steps, dtype=theirs), rtol=1e-6)
    fresh(F.eye(3, 2, kind), torch.eye(3, 2, dtype=theirs))
    for wrong in (lambda: F.arange(0, 5, 0, kind), lambda: F.arange(5, 0, 1, kind), lambda: F.linspace(0, 1, -1, kind),
                  lambda: F.eye(-1, 2, kind), lambda: F.tril(np.ones(3), 0)):
        with pytest.raises(RuntimeError):
            wrong()


@device
def test_one_hot(F):
    torch = pytest.importorskip("torch")
    index = np.array([[1, 0], [2, 1]])
    fresh(F.one_hot(index, 4), torch.nn.functional.one_hot(torch.from_numpy(index), 4))
    fresh(F.one_hot(index, -1), torch.nn.functional.one_hot(torch.from_numpy(index)))
    for wrong, classes, message in ((index, 2, "smaller than num_classes"), (-index, 4, "non-negative"),
                                    (index[:0], -1, "empty")):
        with pytest.raises(RuntimeError, match=message):
            F.one_hot(wrong, classes)


@device
@pytest.mark.parametrize("wrong", [
    lambda F, x: F.reshape(x, (5, 2)), lambda F, x: F.expand(x, (3, 5)), lambda F, x: F.expand(x, (4,)),
    lambda F, x: F.cat(0, x, x[:, :3]), lambda F, x: F.cat(0, x, x[0]), lambda F, x: F.repeat(x, (2,)),
    lambda F, x: F.cat(0, x[0, 0].reshape(())),
])
def test_shape_errors_name_the_shapes(F, wrong):
    with pytest.raises(RuntimeError, match=r"^\w+: .*"):
        wrong(F, np.ones((3, 4), "f4"))


def test_signatures_are_those_of_the_reference():
    for name, _ in inspect.getmembers(Reference, inspect.isroutine):
        if not name.startswith("_"):
            theirs, ours = (getattr(F, name) for F in DEVICES)
            assert_called_alike(ours, theirs)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((-1,), (24,)),
        ((4, -1), (4, 6)),
        (((2, 12),), (2, 12)),
        (([2, -1, 3],), (2, 4, 3)),
        ((24, 1, 1), (24, 1, 1)),
        # left to whoever words the error, or accepts other kinds of numbers
        ((-1, -1), None),
        ((5, -1), None),
        ((23,), None),
        ((-2, -12), None),
        ((0, -1), None),
        ((2**32, 2**32, 24), None),
        ((2**70, -1), None),
        ((True, 24), None),
        ((np.int64(24),), None),
        ((2.0, 12), None),
        ((np.array([2, 12]),), None),
        ((), None),
    ],
)
def test_a_shape_at_once(sizes, expected):
    assert whole_shape(sizes, 24) == expected
    x = minidl.arange(24)
    if expected is not None:
        assert x.view(*sizes).shape == x.reshape(*sizes).shape == expected


@pytest.mark.parametrize("sizes", [(-1, -1), (5, -1), (23,), (-2, -12), (2**32, 2**32, 24), (2**70, -1)])
def test_a_shape_that_does_not_fit(sizes):
    for change in (minidl.arange(24).view, minidl.arange(24).reshape):
        with pytest.raises(RuntimeError, match=r"invalid for input of size 24|only one dimension"):
            change(*sizes)


def test_no_size_at_all():
    assert whole_shape((), 1) == ()
    assert minidl.zeros(0, 3).reshape(3, -1).shape == (3, 0)


@pytest.mark.parametrize(
    "key", [1, -2, slice(1, None), (0, 2), (..., -1), (None, 1, ...), (slice(None, None, 2), None), ()])
def test_a_plain_key(key):
    x = np.arange(12).reshape(3, 4)
    assert plain_key(key, x.shape) == (key if isinstance(key, tuple) else (key,))
    np.testing.assert_array_equal(minidl.from_numpy(x)[key].numpy(), x[key])


@pytest.mark.parametrize(
    "key",
    [3, -4, 2**70, -(2**70), (0, 4), (0, 0, 0), (..., ...), slice(None, None, -1), slice(None, None, 0), 1.5, "a"])
def test_a_key_that_does_not_fit(key):
    assert plain_key(key, (3, 4)) is None
    with pytest.raises((IndexError, ValueError)):
        minidl.zeros(3, 4)[key]


@pytest.mark.parametrize("key", [True, np.int64(1), [0, 2], np.array([1])])
def test_a_key_of_another_kind(key):
    x = np.arange(12).reshape(3, 4)
    assert plain_key(key, x.shape) is None
    np.testing.assert_array_equal(minidl.from_numpy(x)[key].numpy(), x[key])
