"""IDX, the file format of MNIST and its relatives: read and write, plain or gzip.

An IDX file is two zero bytes, one byte for the element type, one for the number of dimensions, then each size as a
big-endian uint32, then the elements, big-endian, in row-major order
(format: http://yann.lecun.com/exdb/mnist/, last section).

This file knows bytes and NumPy arrays; it knows no data set.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

_DTYPE_OF_CODE: dict[int, np.dtype] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODE_OF_DTYPE: dict[np.dtype, int] = {dtype.newbyteorder("="): code for code, dtype in _DTYPE_OF_CODE.items()}
_GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of ``path``, decompressed when it is gzip (told by its first bytes, not by its name).

    Raises ``ValueError`` when the gzip data is damaged or ends early.
    """
    content = Path(path).read_bytes()
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except EOFError as error:
        raise ValueError(f"{path}: the gzip data ends early: the file is truncated; get it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: the gzip data is damaged ({error}); get it again") from error


def parse_idx(content: bytes, source: object = "idx") -> np.ndarray:
    """The array in ``content``, the bytes of one IDX file: fresh, writable, in native byte order.

    ``source`` names the file in messages. Raises ``ValueError`` when the content is no IDX file or when its length
    is not the one that its header promises.
    """
    magic = content[:4]
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPE_OF_CODE:
        codes = " ".join(f"{code:02x}" for code in _DTYPE_OF_CODE)
        raise ValueError(
            f"{source} is not an IDX file: it starts with [{magic.hex(' ')}], "
            f"expected [00 00 type dimensions] with type one of {codes}"
        )
    dtype, ndim = _DTYPE_OF_CODE[magic[2]], magic[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(f"{source} is truncated in its header: {len(content)} bytes, {ndim} sizes need {start}")
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    promised, found = math.prod(shape) * dtype.itemsize, len(content) - start
    if found != promised:
        what = "is truncated" if found < promised else "has bytes left over"
        raise ValueError(f"{source} {what}: {shape} {dtype.name} needs {promised} bytes after the header, got {found}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in the IDX file ``path``, plain or gzip. Raises ``ValueError`` when the file is damaged."""
    return parse_idx(read_bytes(path), path)


def format_idx(array: np.ndarray) -> bytes:
    """The bytes of the IDX file that holds ``array``.

    Raises ``TypeError`` for an element type and ``ValueError`` for a size that IDX cannot write.
    """
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _CODE_OF_DTYPE:
        names = ", ".join(known.name for known in _CODE_OF_DTYPE)
        raise TypeError(f"IDX cannot hold {array.dtype}; convert the array to one of {names}")
    if array.ndim > 255 or any(size >= 2**32 for size in array.shape):
        raise ValueError(f"IDX cannot hold shape {array.shape}: at most 255 dimensions, each below 2**32")
    code = _CODE_OF_DTYPE[dtype]
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(_DTYPE_OF_CODE[code]).tobytes()


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write ``array`` to ``path`` as IDX, gzip-compressed when the name ends in ``.gz``.

    The same array gives the same bytes: the gzip header carries no time.
    """
    content = format_idx(array)
    if os.fspath(path).endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    Path(path).write_bytes(content)
