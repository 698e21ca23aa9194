"""dtype, device, Size and promotion against PyTorch's, over every pair of dtypes and every triple of operands."""

import copy
import itertools
import pickle

import numpy as np
import pytest

from minidl import _types as types
from minidl._types import DIMENSIONED, SCALAR, ZERO_DIM, Size, device, dtype

ALL = list(dict.fromkeys(types.NAMES.values()))
PAIRS = list(itertools.product(ALL, ALL))


@pytest.fixture
def restore_default_dtype():
    before = types.get_default_dtype()
    yield
    types.set_default_dtype(before)


@pytest.mark.parametrize("each", ALL, ids=repr)
def test_a_dtype_says_what_torch_says(each, torch):
    theirs = getattr(torch, each.name)
    assert repr(each) == repr(theirs).replace("torch.", "minidl.")
    assert each.itemsize == theirs.itemsize == each.np.itemsize
    assert each.is_floating_point == theirs.is_floating_point
    assert each.is_complex == theirs.is_complex
    assert each.is_signed == theirs.is_signed
    assert each.np == torch.empty(0, dtype=theirs).numpy().dtype


def test_the_aliases_are_torchs(torch):
    for name, each in types.NAMES.items():
        assert getattr(torch, name) is getattr(torch, each.name)


@pytest.mark.parametrize("each", [*ALL, device("cpu"), device("cuda:3")], ids=repr)
def test_copies_are_the_same_object(each):
    assert copy.copy(each) is each
    assert copy.deepcopy({"a": [each]})["a"][0] is each
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(each, protocol)) is each


@pytest.mark.parametrize("each", ALL, ids=repr)
def test_a_dtype_is_found_from_numpy(each):
    assert types.from_numpy_dtype(np.zeros(1, each.np).dtype) is each
    assert types.as_dtype(each) is each
    assert types.as_dtype(each.np) is each
    assert types.as_dtype(each.np.type) is each
    assert types.as_dtype(each.name) is each


def test_python_types_are_dtypes(restore_default_dtype):
    assert [types.as_dtype(each) for each in (bool, int, float)] == [types.bool_, types.int64, types.float32]
    types.set_default_dtype(types.float64)
    assert types.as_dtype(float) is types.float64


@pytest.mark.parametrize("name", ["float16", "complex64", "uint16", "uint32", "uint64", "U3", "object", "M8[s]"])
def test_an_unsupported_numpy_dtype_names_itself_and_the_supported(name):
    with pytest.raises(TypeError, match=r"float32, float64") as caught:
        types.from_numpy_dtype(np.dtype(name))
    assert str(np.dtype(name)) in str(caught.value)
    with pytest.raises(TypeError, match=r"float32, float64"):
        types.as_dtype(np.dtype(name))


def test_foreign_byte_order_is_refused_with_its_cure():
    with pytest.raises(TypeError, match=r"byte order; try array\.astype"):
        types.from_numpy_dtype(np.dtype(">f4"))


@pytest.mark.parametrize("value", [None, 3, "nonsense", object(), str])
def test_what_is_no_dtype_is_refused(value):
    with pytest.raises(TypeError, match="supported are"):
        types.as_dtype(value)


def test_a_dtype_cannot_be_made():
    with pytest.raises(TypeError, match="as_dtype"):
        dtype()


DEVICES = [("cpu",), ("cuda",), ("cuda", 0), ("cuda:1",), ("cpu:0",), ("cpu", 2), ("cuda", None)]


@pytest.mark.parametrize("arguments", DEVICES)
def test_a_device_prints_as_torchs(arguments, torch):
    ours, theirs = device(*arguments), torch.device(*arguments)
    assert repr(ours) == repr(theirs)
    assert str(ours) == str(theirs)
    assert (ours.type, ours.index) == (theirs.type, theirs.index)
    assert device(*arguments) is ours
    assert device(ours) is ours
    assert device(str(ours)) is ours


def test_devices_are_equal_when_torchs_are(torch):
    for a, b in itertools.product(DEVICES, DEVICES):
        assert (device(*a) == device(*b)) == (torch.device(*a) == torch.device(*b))
        assert len({device(*a), device(*b)}) == len({torch.device(*a), torch.device(*b)})


@pytest.mark.parametrize("arguments, message", [
    (("foo",), "Expected one of cpu, cuda device type at start of device string: foo"),
    (("CPU",), "Expected one of cpu, cuda device type at start of device string: CPU"),
    (("",), "Device string must not be empty"),
    (("cuda:",), "Invalid device string: 'cuda:'"),
    (("cuda:x",), "Invalid device string: 'cuda:x'"),
    (("cuda:-1",), "Invalid device string: 'cuda:-1'"),
    (("cuda:01",), "Invalid device string: 'cuda:01'"),
    (("cuda:0:1",), "Invalid device string: 'cuda:0:1'"),
    (("cuda", -1), "Device index must not be negative"),
    (("cuda:0", 1), r"type \(string\) must not include an index because index was passed explicitly: cuda:0"),
])
def test_a_wrong_device_is_refused_as_torch_does(arguments, message):
    with pytest.raises(RuntimeError, match=message):
        device(*arguments)


@pytest.mark.parametrize("value", [None, 1.5, ["cpu"]])
def test_what_is_no_device_is_a_type_error(value):
    with pytest.raises(TypeError, match="'cuda:0'"):
        device(value)


def test_a_device_cannot_be_changed():
    with pytest.raises(AttributeError, match="index"):
        device("cuda").index = 1


def test_size_is_a_tuple_that_stays_a_size():
    size = Size([2, 3, 4])
    assert repr(size) == str(size) == "minidl.Size([2, 3, 4])"
    assert repr(Size()) == "minidl.Size([])"
    assert size == (2, 3, 4) and hash(size) == hash((2, 3, 4))
    assert size.numel() == 24 and Size().numel() == 1 and Size([0, 3]).numel() == 0
    for made, expected in [(size[1:], (3, 4)), (size[::-1], (4, 3, 2)), (size + (5,), (2, 3, 4, 5)),
                           ((5,) + size, (5, 2, 3, 4)), (size * 2, (2, 3, 4) * 2), (2 * size, (2, 3, 4) * 2),
                           (pickle.loads(pickle.dumps(size)), size), (copy.deepcopy(size), size)]:
        assert type(made) is Size
        assert made == expected
    assert size[-1] == 4 and type(size[-1]) is int
    assert all(type(each) is int for each in Size(np.array([2, 3])))
    assert [type(each) for each in Size([True])] == [int]


def test_size_refuses_what_torch_refuses(torch):
    for wrong in ([2, 1.5], ["a"]):
        with pytest.raises(TypeError) as theirs:
            torch.Size(wrong)
        with pytest.raises(TypeError) as ours:
            Size(wrong)
        assert str(ours.value) == str(theirs.value).replace("torch.", "minidl.")
    with pytest.raises(TypeError, match="can only concatenate tuple"):
        Size([2]) + [1]


def test_promotion_of_pairs_is_torchs(torch):
    for a, b in PAIRS:
        theirs_a, theirs_b = getattr(torch, a.name), getattr(torch, b.name)
        assert types.promote_types(a, b).name == str(torch.promote_types(theirs_a, theirs_b))[6:], (a, b)
        assert types.can_cast(a, b) == torch.can_cast(theirs_a, theirs_b), (a, b)


@pytest.mark.parametrize("a, b, expected", [
    ("bool", "uint8", "uint8"), ("uint8", "int8", "int16"), ("uint8", "int32", "int32"), ("bool", "bool", "bool"),
    ("int64", "float32", "float32"), ("float32", "float64", "float64"), ("int16", "int8", "int16"),
])
def test_stored_promotions(a, b, expected):
    assert types.promote_types(types.NAMES[a], types.NAMES[b]) is types.NAMES[expected]
    assert types.promote_types(types.NAMES[b], types.NAMES[a]) is types.NAMES[expected]


@pytest.mark.parametrize("operands, expected", [
    ([("float32", DIMENSIONED), ("float64", ZERO_DIM)], "float32"),
    ([("int8", DIMENSIONED), ("int64", ZERO_DIM)], "int8"),
    ([("int64", DIMENSIONED), ("float64", ZERO_DIM)], "float64"),
    ([("int64", DIMENSIONED), ("float64", SCALAR)], "float32"),
    ([("bool", DIMENSIONED), ("int64", SCALAR)], "int64"),
    ([("float64", ZERO_DIM), ("float32", SCALAR)], "float64"),
    ([("uint8", DIMENSIONED), ("int8", DIMENSIONED), ("int64", SCALAR)], "int16"),
    ([("int16", ZERO_DIM), ("int64", SCALAR)], "int16"),
])
def test_stored_results(operands, expected):
    described = [(types.NAMES[name], kind) for name, kind in operands]
    assert types.result_dtype(described) is types.NAMES[expected]
    assert types.result_dtype(described[::-1]) is types.NAMES[expected]


def test_promotion_refuses_other_things():
    with pytest.raises(TypeError, match="expected two dtypes"):
        types.promote_types(types.float32, np.float32)


SCALARS = [True, 3, 2.5]
OPERANDS = [(each, kind) for kind in (DIMENSIONED, ZERO_DIM) for each in ALL] + [(each, SCALAR) for each in SCALARS]


def theirs(torch, operand):
    value, kind = operand
    if kind == SCALAR:
        return value
    return torch.ones((2,) if kind == DIMENSIONED else (), dtype=getattr(torch, value.name))


def ours(operand):
    value, kind = operand
    return (types.scalar_dtype(value), SCALAR) if kind == SCALAR else operand


@pytest.mark.parametrize("default", ["float32", "float64"])
def test_result_of_two_operands_is_torchs(default, torch, restore_default_dtype):
    types.set_default_dtype(types.NAMES[default])
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, default))
    try:
        for a, b in itertools.product(OPERANDS, OPERANDS):
            expected = torch.result_type(theirs(torch, a), theirs(torch, b))
            assert types.result_dtype([ours(a), ours(b)]).name == str(expected)[6:], (a, b)
    finally:
        torch.set_default_dtype(before)


def test_result_of_three_operands_is_torchs(torch):
    """torch takes two operands in result_type but three in where and addcmul: addcmul promotes by the same rules."""
    tensors = [each for each in OPERANDS if each[1] != SCALAR and each[0] is not types.bool_]
    for triple in itertools.product(tensors, repeat=3):
        if triple[0][0] not in (types.float32, types.int64, types.uint8):
            continue
        expected = torch.addcmul(*(theirs(torch, each) for each in triple)).dtype
        assert types.result_dtype(triple).name == str(expected)[6:], triple


def test_result_of_a_single_operand_and_of_none():
    assert types.result_dtype([(types.int8, ZERO_DIM)]) is types.int8
    assert types.result_dtype([(None, SCALAR)]) is types.float32
    with pytest.raises(ValueError, match="at least one"):
        types.result_dtype([])


def test_result_type_takes_arrays_and_numbers():
    small = np.zeros(3, np.int8)
    assert types.result_type(small, 300) is types.int8
    assert types.result_type(small, 0.5) is types.float32
    assert types.result_type(small, np.array(5)) is types.int8
    assert types.result_type(small, np.zeros(2, np.int16), True) is types.int16
    with pytest.raises(TypeError, match="expected tensors or numbers, got list"):
        types.result_type(small, [1])


def test_scalars_and_the_default_dtype(restore_default_dtype):
    assert [types.scalar_dtype(each) for each in (True, 1, 1.0)] == [types.bool_, types.int64, types.float32]
    assert types.scalar_dtype(np.int8(1)) is types.int8
    types.set_default_dtype(types.float64)
    assert types.get_default_dtype() is types.float64
    assert types.scalar_dtype(1.0) is types.float64
    with pytest.raises(TypeError, match="got complex"):
        types.scalar_dtype(1j)
    for wrong in (types.int64, 3, np.float32):
        with pytest.raises(TypeError, match="only floating-point types are supported as the default type"):
            types.set_default_dtype(wrong)


def test_limits_are_torchs(torch):
    for each in ALL:
        if each is types.bool_:
            continue
        kind = "finfo" if each.is_floating_point else "iinfo"
        mine, other = getattr(types, kind)(each), getattr(torch, kind)(getattr(torch, each.name))
        assert repr(mine) == repr(other)
        for field in mine.__slots__:
            assert getattr(mine, field) == getattr(other, field), field
    assert types.finfo() == types.finfo(types.float32) != types.finfo(types.float64)
    assert types.iinfo(types.int8) == types.iinfo(types.int8)
    for wrong in (types.bool_, types.float32):
        with pytest.raises(TypeError, match="integer input type"):
            types.iinfo(wrong)
    with pytest.raises(TypeError, match=r"Use minidl\.iinfo"):
        types.finfo(types.int8)
