"""Tensor: making it, arithmetic, indexing, conversions, and how it shares memory with NumPy and PyTorch."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import weakref

import numpy as np
import pytest

import minidl

DTYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def same(got, expected):
    """A minidl result and a PyTorch result: dtype, shape and values."""
    assert str(got.dtype).split(".")[-1] == str(expected.dtype).split(".")[-1]
    assert tuple(got.shape) == tuple(expected.shape)
    np.testing.assert_allclose(got.detach().numpy(), expected.detach().numpy(), rtol=1e-6, atol=1e-7)


def outcome(lib, call):
    """The result, or the kind of error."""
    try:
        return call(lib)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        return error


def same_outcome(torch, call):
    got, expected = outcome(minidl, call), outcome(torch, call)
    if isinstance(expected, Exception) or isinstance(got, Exception):
        assert isinstance(got, Exception) and isinstance(expected, Exception), (got, expected)
        kinds = [kind for kind in (IndexError, TypeError, ValueError, RuntimeError) if isinstance(expected, kind)]
        assert isinstance(got, kinds[0]), (got, expected)
        return
    same(got, expected)


# ---- making tensors ------------------------------------------------------------------------------------------------

CREATION = {
    "int": lambda lib: lib.tensor(3),
    "float": lambda lib: lib.tensor(3.5),
    "bool": lambda lib: lib.tensor(True),
    "nested": lambda lib: lib.tensor([[1, 2], [3, 4]]),
    "mixed": lambda lib: lib.tensor([1, 2.5]),
    "bools": lambda lib: lib.tensor([True, False]),
    "empty list": lambda lib: lib.tensor([]),
    "empty rows": lambda lib: lib.tensor([[], []]),
    "tuple": lambda lib: lib.tensor((1, (2), 3)),
    "of tensors": lambda lib: lib.tensor([lib.tensor(1.0), lib.tensor(2.0)]),
    "dtype": lambda lib: lib.tensor([1.7, -1.7], dtype=lib.int32),
    "of numpy": lambda lib: lib.tensor(np.arange(3, dtype=np.int16)),
    "of numpy scalar": lambda lib: lib.tensor(np.float64(2.5)),
    "uneven": lambda lib: lib.tensor([[1, 2], [3]]),
    "text": lambda lib: lib.tensor("a"),
    "zeros": lambda lib: lib.zeros(2, 3),
    "zeros tuple": lambda lib: lib.zeros((2, 3), dtype=lib.int64),
    "zeros nothing": lambda lib: lib.zeros(()),
    "ones": lambda lib: lib.ones(2, 0, 3),
    "full": lambda lib: lib.full((2, 2), 7),
    "full float": lambda lib: lib.full((2,), 7.5),
    "full bool": lambda lib: lib.full((2,), True),
    "negative": lambda lib: lib.zeros(-1),
    "like": lambda lib: lib.zeros_like(lib.ones(2, dtype=lib.int8)),
    "ones like": lambda lib: lib.ones_like(lib.ones(2, 2), dtype=lib.float64),
    "full like": lambda lib: lib.full_like(lib.ones(2, 2), 3),
    "arange": lambda lib: lib.arange(5),
    "arange range": lambda lib: lib.arange(2, 10, 3),
    "arange float": lambda lib: lib.arange(0.0, 1.0, 0.1),
    "arange down": lambda lib: lib.arange(5, 0, -2),
    "arange wrong": lambda lib: lib.arange(5, 0),
    "linspace": lambda lib: lib.linspace(0, 1, 7),
    "linspace one": lambda lib: lib.linspace(3, 5, 1),
    "eye": lambda lib: lib.eye(3),
    "eye wide": lambda lib: lib.eye(2, 4),
    "tril": lambda lib: lib.tril(lib.ones(3, 3)),
    "diag": lambda lib: lib.diag(lib.tensor([1.0, 2.0])),
    "meshgrid": lambda lib: lib.meshgrid(lib.arange(2), lib.arange(3), indexing="ij")[1],
    "as_tensor": lambda lib: lib.as_tensor([1.5, 2.5]),
    "new_zeros": lambda lib: lib.ones(2, dtype=lib.float64).new_zeros(3, 2),
    "new_full": lambda lib: lib.ones(2, dtype=lib.float64).new_full((2,), 3),
    "new_tensor": lambda lib: lib.ones(2, dtype=lib.int32).new_tensor([1, 2]),
    "one-hot": lambda lib: lib.nn.functional.one_hot(lib.tensor([0, 2, 1])),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CREATION)
def test_creation_is_pytorchs(name, torch):
    same_outcome(torch, CREATION[name])


def test_default_dtype():
    assert minidl.get_default_dtype() == minidl.float32
    minidl.set_default_dtype(minidl.float64)
    try:
        assert (
            minidl.tensor(1.5).dtype == minidl.float64 == minidl.zeros(1).dtype
            and minidl.tensor(1).dtype == minidl.int64
        )
    finally:
        minidl.set_default_dtype(minidl.float32)


# ---- arithmetic and promotion --------------------------------------------------------------------------------------

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}


def operands(lib):
    made = {}
    for name in DTYPES:
        made[name] = lib.tensor([1, 0, 1] if name == "bool" else [1, 2, 3], dtype=getattr(lib, name))
        made[f"{name} 0-d"] = lib.tensor(1 if name == "bool" else 2, dtype=getattr(lib, name))
    return made | {"True": True, "2": 2, "2.5": 2.5}


@pytest.mark.torch
@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_promote_as_pytorch(operator, torch):
    ours, theirs = operands(minidl), operands(torch)
    different = []
    for a, b in itertools.product(ours, ours):
        if not isinstance(ours[a], minidl.Tensor) and not isinstance(ours[b], minidl.Tensor):
            continue
        # a divisor of zero has no answer that integers could agree on
        if operator in ("//", "%") and b == "bool":
            continue
        # with a bare True: PyTorch refuses ``x - True`` and takes ``bool ** True`` for a copy; minidl the other way
        # round
        if operator in ("-", "**") and "True" in (a, b):
            continue
        try:
            same_outcome(
                torch,
                lambda lib, a=a, b=b: OPERATORS[operator](
                    *((ours[a], ours[b]) if lib is minidl else (theirs[a], theirs[b]))
                ),
            )
        except AssertionError as error:
            different.append(f"{a} {operator} {b}: {str(error).strip().splitlines()[0]}")
    assert not different, "\n".join(different)


IN_PLACE = {
    "+=": lambda a, b: a.__iadd__(b),
    "-=": lambda a, b: a.__isub__(b),
    "*=": lambda a, b: a.__imul__(b),
    "/=": lambda a, b: a.__itruediv__(b),
    "**=": lambda a, b: a.__ipow__(b),
}


@pytest.mark.torch
@pytest.mark.parametrize("operator", IN_PLACE)
def test_in_place_operators_keep_the_dtype_or_refuse_as_pytorch(operator, torch):
    different = []
    names = [name for name in operands(minidl) if name in DTYPES]
    for a, b in itertools.product(names, operands(minidl)):
        if b == "True" and operator in ("-=", "**="):
            continue
        try:
            same_outcome(torch, lambda lib, a=a, b=b: IN_PLACE[operator](operands(lib)[a], operands(lib)[b]))
        except AssertionError as error:
            different.append(f"{a} {operator} {b}: {str(error).strip().splitlines()[0]}")
    assert not different, "\n".join(different)


def test_promotion_without_pytorch():
    i, f, d = minidl.tensor([1]), minidl.tensor([1.0]), minidl.tensor([1.0], dtype=minidl.float64)
    assert (i + 1.5).dtype == minidl.float32 and (f + d).dtype == minidl.float64 and (i / i).dtype == minidl.float32
    assert (
        (f + d[0]).dtype == minidl.float32 and (f * 2**40).dtype == minidl.float32 and (i + True).dtype == minidl.int64
    )
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        i += 1.5
    with pytest.raises(RuntimeError, match=r"output with shape \[1\] doesn't match the broadcast shape \[3\]"):
        f += minidl.ones(3)


def test_shapes_that_do_not_broadcast():
    with pytest.raises(RuntimeError, match=r"(?s)\(?2, 3\)?.*\(?4,?\)?|size"):
        minidl.ones(2, 3) + minidl.ones(4)


def test_numpy_operands():
    t = minidl.tensor([1.0, 2.0])
    for result in (np.float32(2.0) * t, t * np.float64(2.0), np.array([2.0, 2.0], np.float32) * t, t * np.int64(2)):
        assert isinstance(result, minidl.Tensor) and result.tolist() == [2.0, 4.0] and result.dtype == minidl.float32
    assert isinstance(np.array([1.0, 2.0]) + t, minidl.Tensor)
    with pytest.raises(TypeError):
        t + "a"
    assert (t == "a") is False and (t != None) is True  # noqa: E711 - what Python makes of NotImplemented


# ---- reductions ----------------------------------------------------------------------------------------------------

REDUCTIONS = {
    "sum": lambda x, **k: x.sum(**k),
    "mean": lambda x, **k: x.mean(**k),
    "prod": lambda x, **k: x.prod(**k),
    "amax": lambda x, **k: x.amax(**k),
    "amin": lambda x, **k: x.amin(**k),
    "any": lambda x, **k: x.any(**k),
    "all": lambda x, **k: x.all(**k),
    "argmax": lambda x, **k: x.argmax(**k),
    "argmin": lambda x, **k: x.argmin(**k),
    "max": lambda x, **k: x.max(**k) if not k else x.max(**k).values,
    "min": lambda x, **k: x.min(**k) if not k else x.min(**k).indices,
    "cumsum": lambda x, **k: x.cumsum(**{"dim": 0, **{n: v for n, v in k.items() if n != "keepdim"}}),
    "logsumexp": lambda x, **k: x.logsumexp(**{"dim": 0, **k}),
    "var": lambda x, **k: x.var(**k),
    "norm": lambda x, **k: x.norm(**k),
    "sort": lambda x, **k: x.sort(**{n: v for n, v in k.items() if n == "dim"}).values,
}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*degrees of freedom.*")
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
def test_reductions_are_pytorchs(name, dtype, torch):
    rng = np.random.default_rng(3)
    different = []
    for shape in ((3, 4), (2, 3, 2), (5,), (), (0,), (3, 0), (0, 3)):
        values = rng.permutation(int(np.prod(shape))).reshape(shape)
        values = values % 2 if dtype == "bool" else values - 2
        options = [{}]
        for dim in range(-1, len(shape)):
            options += [{"dim": dim}, {"dim": dim, "keepdim": True}]
        for option in options:
            try:
                same_outcome(
                    torch,
                    lambda lib, values=values, option=option: REDUCTIONS[name](
                        lib.tensor(values, dtype=getattr(lib, dtype)), **option
                    ),
                )
            except AssertionError as error:
                different.append(f"{shape} {option}: {str(error).strip().splitlines()[0]}")
    assert not different, "\n".join(different)


# ---- indexing ------------------------------------------------------------------------------------------------------


def random_key(rng, shape):
    """A key for a tensor of ``shape`` with parts of every kind, some of them out of range."""
    parts = []
    dims = list(shape)
    used_ellipsis = False
    while dims and rng.random() < 0.85:
        n = dims[0]
        kind = rng.choice(
            ["int", "slice", "list", "tensor", "mask", "none", "ellipsis", "bool", "wide mask"],
            p=[0.2, 0.25, 0.12, 0.12, 0.08, 0.09, 0.06, 0.02, 0.06],
        )
        if kind == "none":
            parts.append(None)
            continue
        if kind == "bool":
            parts.append(bool(rng.integers(2)))
            continue
        if kind == "ellipsis":
            if used_ellipsis:
                continue
            used_ellipsis = True
            drop = int(rng.integers(len(dims) + 1))
            parts.append(Ellipsis)
            dims = dims[drop:]
            # what stands behind the ellipsis must fit the last dimensions: leave nothing or exactly the rest
            continue
        if kind == "int":
            parts.append(int(rng.integers(-n, n)) if n and rng.random() < 0.97 else n)
        elif kind == "slice":
            ends = [None if rng.random() < 0.3 else int(rng.integers(-n - 1, n + 2)) for _ in range(2)]
            parts.append(slice(ends[0], ends[1], int(rng.integers(1, 4)) if rng.random() < 0.5 else None))
        elif kind in ("list", "tensor"):
            # lists of lists mean different things in different versions of PyTorch
            index = (
                rng.integers(-n, n, 2 if kind == "list" or rng.random() < 0.8 else (2, 2))
                if n
                else np.zeros(0, np.int64)
            )
            parts.append(index.tolist() if kind == "list" else np.asarray(index))
        elif kind == "mask":
            parts.append(rng.random(n) < 0.5)
        elif len(dims) > 1:
            parts.append(rng.random((dims[0], dims[1])) < 0.5)
            dims = dims[1:]
        else:
            continue
        dims = dims[1:]
    return tuple(parts) if len(parts) != 1 or rng.random() < 0.5 else parts[0]


def for_library(lib, key):
    if isinstance(key, tuple):
        return tuple(for_library(lib, part) for part in key)
    return lib.from_numpy(key.copy()) if isinstance(key, np.ndarray) else key


@pytest.mark.torch
@pytest.mark.parametrize("block", range(10))
def test_reading_and_writing_at_random_keys_is_pytorchs(block, torch):
    rng = np.random.default_rng(block)
    different = []
    for _ in range(60):
        shape = [(4,), (3, 4), (2, 3, 4), (3, 0, 2), (2, 2, 3, 2)][int(rng.integers(5))]
        key = random_key(rng, shape)
        values = np.arange(float(np.prod(shape))).reshape(shape)

        def read(lib, key=key, values=values):
            return lib.from_numpy(values.copy())[for_library(lib, key)]

        def write_number(lib, key=key, values=values):
            x = lib.from_numpy(values.copy())
            x[for_library(lib, key)] = -7.0
            return x

        def write_gradient(lib, key=key, values=values):
            x = lib.from_numpy(values.copy()).requires_grad_()
            y = x * 2.0
            part = y[for_library(lib, key)]
            y = x * 3.0
            y[for_library(lib, key)] = part * part
            y.sum().backward()
            return x.grad

        for call in (read, write_number, write_gradient):
            if call is write_gradient and isinstance(outcome(torch, read), Exception):
                continue
            try:
                if call is write_gradient and _repeats(torch, key, shape):
                    continue
                same_outcome(torch, call)
            except AssertionError as error:
                different.append(f"{call.__name__} {shape} {key!r}: {str(error).strip()[:300]}")
    assert not different, "\n".join(different)


def _repeats(torch, key, shape):
    """Whether a key names a place twice: which of two values stays there is left open."""
    places = torch.arange(int(np.prod(shape))).reshape(shape)[for_library(torch, key)].reshape(-1)
    return len(set(places.tolist())) != places.numel()


ASSIGNMENTS = {
    "row": (0, [1.0, 2.0, 3.0, 4.0]),
    "column": ((slice(None), 1), [[1.0], [2.0], [3.0]][0]),
    "broadcast": (slice(1, 3), 5.0),
    "leading ones": ((slice(None), slice(0, 2)), [[[1.0, 2.0]]]),
    "too long": (0, [1.0, 2.0]),
    "mask": ("mask", 9.0),
    "list": ([0, 2], [[1.0] * 4, [2.0] * 4]),
    "list wrong": ([0, 2], [1.0, 2.0]),
    "ellipsis": (Ellipsis, 3.0),
    "empty": (slice(3, 3), 5.0),
    "one place": ((1, 2), 8.0),
    "negative": ((-1, -1), 8.0),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", ASSIGNMENTS)
@pytest.mark.parametrize("kind", ["numbers", "tensor", "int tensor", "0-d"])
def test_assignments_are_pytorchs(name, kind, torch):
    key, value = ASSIGNMENTS[name]
    if (name, kind) == ("list", "int tensor"):
        pytest.skip("PyTorch refuses integers for a float tensor in this one case; minidl converts them")

    def run(lib):
        x = lib.zeros(3, 4)
        at = (x == 0) if isinstance(key, str) else key
        if kind == "numbers" and not isinstance(value, float):
            new = lib.tensor(value)
        else:
            new = {
                "numbers": value,
                "tensor": lib.tensor(value),
                "int tensor": lib.tensor(value).long(),
                "0-d": lib.tensor(2.0),
            }[kind]
        x[at] = new
        return x

    same_outcome(torch, run)


@pytest.mark.parametrize(
    "key, error, message",
    [
        (3, IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
        ((0, -5), IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
        ((0, 0, 0), IndexError, "too many indices for tensor of dimension 2"),
        ((slice(None, None, -1),), ValueError, "step must be greater than zero"),
        ("a", IndexError, "only integers, slices"),
        (1.5, IndexError, "only integers, slices"),
        ([0, 7], IndexError, "out of bounds"),
    ],
)
def test_keys_that_are_wrong(key, error, message):
    with pytest.raises(error, match=message):
        minidl.ones(3, 4)[key]
    with pytest.raises(error, match=message):
        minidl.ones(3, 4)[key] = 0.0
    with pytest.raises(IndexError, match="invalid index of a 0-dim tensor"):
        minidl.tensor(1.0)[0]


def test_a_float_tensor_or_a_mask_of_another_shape_is_no_index():
    with pytest.raises(IndexError, match="tensors used as indices must be"):
        minidl.ones(3)[minidl.ones(2)]
    with pytest.raises(IndexError, match="mask"):
        minidl.ones(3)[minidl.tensor([True, False])]


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


def test_devices_that_are_not_there():
    assert minidl.cuda.is_available() is False and minidl.backends.mps.is_available() is False
    for call in (
        lambda: minidl.zeros(2, device="cuda"),
        lambda: minidl.ones(1).to("cuda"),
        lambda: minidl.ones(1).cuda(),
        lambda: minidl.tensor(1, device=minidl.device("cuda", 1)),
    ):
        with pytest.raises(RuntimeError, match=r"cuda.*CPU only"):
            call()
    with pytest.raises(RuntimeError):
        minidl.device("toaster")


# ---- shared memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_numpy_and_numpy_share_memory(dtype):
    array = np.zeros((2, 3), dtype)
    t = minidl.from_numpy(array)
    t[0, 1] = 1
    array[1, 2] = 1
    assert t.sum().item() == 2 and array.sum() == 2
    assert (
        np.shares_memory(t.numpy(), array)
        and np.shares_memory(np.asarray(t), array)
        and t.data_ptr() == array.ctypes.data
    )
    assert (
        minidl.tensor(array).data_ptr() != array.ctypes.data and minidl.as_tensor(array).data_ptr() == array.ctypes.data
    )


def test_numpy_arrays_of_every_layout():
    base = np.arange(24.0).reshape(2, 3, 4)
    for array in (
        base.T,
        base[:, ::2],
        base[1],
        base[..., 1],
        base.swapaxes(0, 1),
        np.broadcast_to(base[0], (2, 3, 4)),
    ):
        t = minidl.from_numpy(array)
        assert t.tolist() == array.tolist() and (t * 2).tolist() == (array * 2).tolist()
    with pytest.raises(ValueError, match="negative"):
        minidl.from_numpy(base[::-1])
    with pytest.raises(TypeError):
        minidl.from_numpy(np.array(["a"]))
    with pytest.raises(TypeError, match=r"expected np\.ndarray"):
        minidl.from_numpy([1, 2])


def test_read_only_arrays_cannot_be_written_through():
    array = np.ones(3)
    array.flags.writeable = False
    t = minidl.from_numpy(array)
    assert (t + 1).tolist() == [2.0] * 3
    for change in (
        lambda: t.add_(1),
        lambda: t.__setitem__(0, 5.0),
        lambda: t.view(3, 1).zero_(),
        lambda: t.copy_(t + 1),
    ):
        with pytest.raises(RuntimeError, match="read-only"):
            change()
    assert array.tolist() == [1.0] * 3


def test_memory_lives_as_long_as_anyone_looks_at_it():
    array = np.arange(100_000.0)
    kept = minidl.from_numpy(array)[10:20]
    freed = weakref.ref(array)
    del array
    gc.collect()
    assert freed() is not None and kept.tolist() == list(range(10, 20))
    del kept
    gc.collect()
    assert freed() is None
    view = (minidl.arange(50_000.0) * 2.0).numpy()[5:8]
    other = [minidl.zeros(50_000) for _ in range(3)]
    assert view.tolist() == [10.0, 12.0, 14.0] and len(other) == 3


def test_numpy_of_a_tensor_on_the_tape_says_detach():
    x = minidl.ones(2, requires_grad=True)
    for call in (x.numpy, lambda: np.asarray(x), lambda: (x * 2).numpy(), lambda: np.from_dlpack(x)):
        with pytest.raises(RuntimeError, match=r"detach\(\)"):
            call()
    assert x.detach().numpy().tolist() == [1.0, 1.0] == x.numpy(force=True).tolist()


def test_array_protocol():
    x = minidl.tensor([1.5, 2.5])
    assert np.array(x).tolist() == [1.5, 2.5] and not np.shares_memory(np.array(x), x.numpy())
    assert np.asarray(x, dtype=np.float64).dtype == np.float64 and np.add(np.asarray(x), 1).sum() == 6.0
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(x, dtype=np.int64, copy=False)


def test_dlpack_with_numpy():
    x = minidl.arange(6.0).view(2, 3)
    array = np.from_dlpack(x.t())
    assert array.tolist() == x.t().tolist() and np.shares_memory(array, x.numpy())
    source = np.arange(4)
    back = minidl.from_dlpack(source)
    assert back.data_ptr() == source.ctypes.data and back.dtype == minidl.int64
    del source
    gc.collect()
    assert back.tolist() == [0, 1, 2, 3]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_pytorch(dtype, torch):
    theirs = torch.tensor([[1, 0, 1], [0, 1, 1]], dtype=getattr(torch, dtype))
    ours = minidl.from_dlpack(theirs)
    assert str(ours.dtype) == f"minidl.{dtype}" and ours.data_ptr() == theirs.data_ptr()
    ours[0, 1] = 1
    assert theirs[0, 1] == 1
    del theirs
    gc.collect()
    assert ours.tolist() == [[1, 1, 1], [0, 1, 1]]
    again = torch.from_dlpack(ours.t())
    assert again.tolist() == ours.t().tolist() and again.data_ptr() == ours.data_ptr()
    del ours
    gc.collect()
    assert again.sum().item() == 5


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
    with pytest.raises(TypeError, match="decimals"):
        x.round_(decimals=2)
