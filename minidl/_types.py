"""The types of a tensor: ``dtype``, ``device``, ``Size``, and the rules by which dtypes are promoted.

Nothing here knows what a Tensor is: promotion is told for each operand its dtype and whether it has dimensions
(`DIMENSIONED`), is a tensor without any (`ZERO_DIM`) or is a Python number (`SCALAR`). Rules and texts are PyTorch's
(https://docs.pytorch.org/docs/stable/tensor_attributes.html).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, ClassVar, SupportsIndex, overload

import numpy as np

DIMENSIONED, ZERO_DIM, SCALAR = 0, 1, 2
BOOL, INTEGER, FLOATING = 0, 1, 2


class dtype:
    """The type of a tensor's elements. There is one instance of each, so that ``is`` compares them."""

    __slots__ = ("name", "np", "itemsize", "is_floating_point", "is_complex", "is_signed", "category", "_attribute")

    name: str
    np: np.dtype
    itemsize: int
    is_floating_point: bool
    is_complex: bool
    is_signed: bool
    category: int  # BOOL, INTEGER or FLOATING
    _attribute: str  # its name in this module, for pickle

    def __new__(cls) -> dtype:
        raise TypeError("minidl.dtype cannot be made; use minidl.float32, minidl.int64, ... or as_dtype(numpy_dtype)")

    def __repr__(self) -> str:
        return f"minidl.{self.name}"

    def __reduce__(self) -> str:
        return self._attribute

    def to_real(self) -> dtype:
        """The dtype itself: there are no complex ones here."""
        return self


def _make_dtype(name: str, attribute: str) -> dtype:
    made = object.__new__(dtype)
    numpy_dtype = np.dtype(name)
    made.name = name
    made.np = numpy_dtype
    made.itemsize = numpy_dtype.itemsize
    made.is_floating_point = numpy_dtype.kind == "f"
    made.is_complex = False
    made.is_signed = numpy_dtype.kind in "if"
    made.category = {"b": BOOL, "u": INTEGER, "i": INTEGER, "f": FLOATING}[numpy_dtype.kind]
    made._attribute = attribute
    return made


bool_ = _make_dtype("bool", "bool_")
uint8 = _make_dtype("uint8", "uint8")
int8 = _make_dtype("int8", "int8")
int16 = _make_dtype("int16", "int16")
int32 = _make_dtype("int32", "int32")
int64 = _make_dtype("int64", "int64")
float32 = _make_dtype("float32", "float32")
float64 = _make_dtype("float64", "float64")

# Public name in the package -> dtype.
NAMES: dict[str, dtype] = {
    "bool": bool_, "uint8": uint8, "int8": int8, "int16": int16, "int32": int32, "int64": int64,
    "float32": float32, "float64": float64,
    "short": int16, "int": int32, "long": int64, "float": float32, "double": float64,
}

# In order of rank: of two dtypes of which neither is uint8, the later one holds both.
_RANKED = (bool_, uint8, int8, int16, int32, int64, float32, float64)
_BY_NUMPY: dict[np.dtype, dtype] = {each.np: each for each in _RANKED}
_BY_PYTHON: dict[type, dtype] = {bool: bool_, int: int64}
_SUPPORTED = ", ".join(each.name for each in _RANKED)


def from_numpy_dtype(numpy_dtype: np.dtype) -> dtype:
    """The dtype of arrays of ``numpy_dtype``; TypeError for the ones that minidl has not (float16, complex64, ...)."""
    try:
        return _BY_NUMPY[numpy_dtype]
    except KeyError:
        pass
    hint = ""
    if not numpy_dtype.isnative and numpy_dtype.newbyteorder("=") in _BY_NUMPY:
        hint = " in native byte order; try array.astype(array.dtype.newbyteorder('='))"
    raise TypeError(f"minidl has no dtype for numpy's {numpy_dtype!s}; supported are {_SUPPORTED}{hint}")


def as_dtype(value: Any) -> dtype:
    """A dtype from a dtype, a NumPy dtype (or its name or scalar type) or one of Python's ``bool``, ``int``, ``float``.

    As in PyTorch, ``int`` means int64 and ``float`` the default dtype.
    """
    if isinstance(value, dtype):
        return value
    if isinstance(value, type):
        if value is float:
            return _default_dtype
        found = _BY_PYTHON.get(value)
        if found is not None:
            return found
    if value is not None:
        try:
            return from_numpy_dtype(np.dtype(value))
        except TypeError as error:
            if str(error).startswith("minidl"):
                raise
    raise TypeError(f"{value!r} is not a dtype; supported are {_SUPPORTED}, e.g. minidl.float32")


class device:
    """Where a tensor lives: ``device('cpu')``, ``device('cuda', 0)``, ``device('cuda:1')``.

    One instance per type and index, so that ``is`` compares them. A device need not exist to be named.
    """

    __slots__ = ("type", "index")
    _made: ClassVar[dict[tuple[Any, int | None], device]] = {}
    TYPES: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    type: str
    index: int | None

    def __new__(cls, type: str | device, index: int | None = None) -> device:
        try:
            return cls._made[type, index]
        except (KeyError, TypeError):
            pass
        if isinstance(type, device):
            if index is not None:
                raise TypeError(f"device(): {type!r} is a device already, it cannot be given the index {index}")
            return type
        if not isinstance(type, str):
            raise TypeError(f"device(): expected a device or a string such as 'cpu' or 'cuda:0', got {type!r}")
        name, parsed_index = cls._parse(type, index)
        made = cls._made.get((name, parsed_index))
        if made is None:
            made = object.__new__(cls)
            object.__setattr__(made, "type", name)
            object.__setattr__(made, "index", parsed_index)
            made = cls._made.setdefault((name, parsed_index), made)
        return cls._made.setdefault((type, index), made)  # under the given words too: 'cuda:1' is parsed once

    @classmethod
    def _parse(cls, text: str, index: int | None) -> tuple[str, int | None]:
        if not text:
            raise RuntimeError("Device string must not be empty")
        name, colon, digits = text.partition(":")
        if name not in cls.TYPES:
            raise RuntimeError(f"Expected one of {', '.join(cls.TYPES)} device type at start of device string: {text}")
        if not colon:
            if index is None:
                return name, None
            index = operator.index(index)
            if index < 0:
                raise RuntimeError(f"Device index must not be negative, got {index}")
            return name, index
        if not (digits.isascii() and digits.isdigit()) or (len(digits) > 1 and digits[0] == "0"):
            raise RuntimeError(f"Invalid device string: '{text}'")
        if index is not None:
            raise RuntimeError(f"type (string) must not include an index because index was passed explicitly: {text}")
        return name, int(digits)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"device.{name} cannot be set; make another one, e.g. device('cuda', 1)")

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> tuple:
        return device, (self.type, self.index)


class Size(tuple[int, ...]):
    """The shape of a tensor: a tuple of ints that prints itself as ``minidl.Size([2, 3])``."""

    __slots__ = ()

    def __new__(cls, sizes: Iterable[int] = ()) -> Size:
        sizes = tuple(sizes)
        for position, size in enumerate(sizes):
            if type(size) is not int:
                try:
                    sizes = (*sizes[:position], operator.index(size), *sizes[position + 1:])
                except TypeError:
                    raise TypeError(f"minidl.Size() takes an iterable of 'int' (item {position} is "
                                    f"'{type(size).__name__}')") from None
        return tuple.__new__(cls, sizes)

    def numel(self) -> int:
        """How many elements a tensor of this shape has."""
        count = 1
        for size in self:
            count *= size
        return count

    def __repr__(self) -> str:
        return f"minidl.Size([{', '.join(map(repr, self))}])"

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Size: ...

    def __getitem__(self, index: Any) -> Any:
        taken = tuple.__getitem__(self, index)
        return tuple.__new__(Size, taken) if isinstance(index, slice) else taken

    def __add__(self, other: Any) -> Size:
        if not isinstance(other, tuple):
            raise TypeError(f"can only concatenate tuple (not {type(other).__name__}) to minidl.Size")
        return Size(tuple.__add__(self, other))

    def __radd__(self, other: tuple) -> Size:
        return Size(other).__add__(self)

    def __mul__(self, times: Any) -> Size:
        repeated = tuple.__mul__(self, times)
        return tuple.__new__(Size, repeated)

    __rmul__ = __mul__


def _promoted(a: dtype, b: dtype) -> dtype:
    if a is not b and uint8 in (a, b) and int8 in (a, b):
        return int16
    return max(a, b, key=_RANKED.index)


_PROMOTED = {(a, b): _promoted(a, b) for a in _RANKED for b in _RANKED}
_default_dtype = float32


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest dtype that holds both: the kind of the higher (bool < integer < floating), and wide enough."""
    try:
        return _PROMOTED[type1, type2]
    except (KeyError, TypeError):
        raise TypeError(f"promote_types(): expected two dtypes, got {type1!r} and {type2!r}") from None


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether PyTorch casts ``from_`` to ``to`` in place: never to a lower kind (floating, integer, bool)."""
    return from_.category <= to.category


def result_dtype(operands: Iterable[tuple[dtype | None, int]]) -> dtype:
    """The dtype of an op's result, each operand given as ``(dtype, kind)``.

    Tensors with dimensions settle it unless an operand without them is of a higher kind (bool < integer < floating);
    among those the tensors go before Python's numbers. A Python float counts as the default dtype (its dtype may
    be given as None), an int as int64.
    """
    of_kind: list[dtype | None] = [None, None, None]
    for given, kind in operands:
        if kind == SCALAR and (given is None or given.category == FLOATING):
            given = _default_dtype
        held = of_kind[kind]
        of_kind[kind] = given if held is None or given is None else _PROMOTED[held, given]
    dimensioned, zero_dim, scalar = of_kind
    result = _combine(dimensioned, _combine(zero_dim, scalar))
    if result is None:
        raise ValueError("result_dtype(): at least one operand is needed")
    return result


def _combine(higher: dtype | None, lower: dtype | None) -> dtype | None:
    """The dtype that ``higher`` keeps beside an operand of less weight."""
    if higher is None or lower is None:
        return higher or lower
    return _PROMOTED[higher, lower] if lower.category > higher.category else higher


def scalar_dtype(value: Any) -> dtype:
    """The dtype that a Python number gives: bool -> bool, int -> int64, float -> the default dtype."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, float):
        return _default_dtype
    if isinstance(value, np.generic):
        return from_numpy_dtype(value.dtype)
    raise TypeError(f"expected a number (bool, int or float), got {type(value).__name__}: {value!r}")


def result_type(*operands: Any) -> dtype:
    """The dtype that an arithmetic op between ``operands`` (tensors, arrays or numbers) gives."""
    described: list[tuple[dtype, int]] = []
    for operand in operands:
        if isinstance(operand, (bool, int, float)):
            described.append((scalar_dtype(operand), SCALAR))
            continue
        given = getattr(operand, "dtype", None)
        if given is None:
            raise TypeError(f"result_type(): expected tensors or numbers, got {type(operand).__name__}")
        described.append((as_dtype(given), DIMENSIONED if len(operand.shape) else ZERO_DIM))
    return result_dtype(described)


def get_default_dtype() -> dtype:
    """The dtype of tensors made from Python floats; float32 unless set otherwise."""
    return _default_dtype


def set_default_dtype(d: dtype) -> None:
    """Make ``d``, a floating dtype, the dtype of tensors made from Python floats."""
    global _default_dtype
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d!r}")
    _default_dtype = d


class finfo:
    """The limits of a floating dtype (of the default one if none is given), as Python floats."""

    __slots__ = ("bits", "dtype", "eps", "max", "min", "resolution", "smallest_normal", "tiny")

    def __init__(self, type: dtype | None = None) -> None:
        given = _default_dtype if type is None else as_dtype(type)
        if not given.is_floating_point:
            raise TypeError(f"minidl.finfo() requires a floating point input type, got {given}. Use minidl.iinfo")
        limits = np.finfo(given.np)
        self.bits = given.itemsize * 8
        self.dtype = given.name
        self.eps = float(limits.eps)
        self.max = float(limits.max)
        self.min = float(limits.min)
        self.resolution = 10.0 ** -limits.precision
        self.smallest_normal = self.tiny = float(limits.smallest_normal)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
                f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})")


class iinfo:
    """The limits of an integer dtype."""

    __slots__ = ("bits", "dtype", "max", "min")

    def __init__(self, type: dtype) -> None:
        given = as_dtype(type)
        if given.category != INTEGER:
            hint = " Use minidl.finfo" if given.is_floating_point else ""
            raise TypeError(f"minidl.iinfo() requires an integer input type, got {given}.{hint}")
        limits = np.iinfo(given.np)
        self.bits = given.itemsize * 8
        self.dtype = given.name
        self.max = int(limits.max)
        self.min = int(limits.min)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
