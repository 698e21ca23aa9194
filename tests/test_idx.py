"""The IDX reader and writer: every element type, plain and gzip, and the files that must be refused."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidl.datasets.idx import format_idx, parse_idx, read_idx, write_idx

DTYPES = ("uint8", "int8", "int16", "int32", "float32", "float64")


def test_the_bytes_of_a_file():
    content = bytes.fromhex("00000b02 00000002 00000003 0001 0002 0003 fffe 7fff 8000")
    array = np.array([[1, 2, 3], [-2, 32767, -32768]], np.int16)
    np.testing.assert_array_equal(parse_idx(content), array)
    assert format_idx(array) == content


@settings(deadline=None)
@given(
    hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
    st.sampled_from(["plain", "packed.gz"]),
)
def test_what_is_written_is_read(tmp_path_factory, array, name):
    path = tmp_path_factory.mktemp("idx") / name
    write_idx(path, array)
    back = read_idx(path)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.dtype.isnative
    assert back.flags.writeable
    assert back.flags.owndata


@pytest.mark.parametrize("array", [np.arange(6, dtype=">i4").reshape(2, 3), np.arange(12, dtype="i4").reshape(3, 4).T])
def test_byte_order_and_strides_of_the_source_do_not_matter(array):
    np.testing.assert_array_equal(parse_idx(format_idx(array)), array)


def test_gzip_is_told_by_content_and_not_by_name(tmp_path):
    array = np.arange(5, dtype=np.uint8)
    (tmp_path / "plain").write_bytes(gzip.compress(format_idx(array)))
    (tmp_path / "unpacked_by_the_browser.gz").write_bytes(format_idx(array))
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read_idx(path), array)


def test_gz_files_have_the_same_bytes_every_time(tmp_path, monkeypatch):
    array = np.arange(5, dtype=np.uint8)
    contents = set()
    for now in (1e9, 2e9):
        monkeypatch.setattr("time.time", lambda now=now: now)
        write_idx(tmp_path / "a.gz", array)
        contents.add((tmp_path / "a.gz").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("length", range(40))
def test_a_truncated_file_is_refused_at_any_length(tmp_path, length):
    content = format_idx(np.ones((2, 3, 4), np.uint8))
    assert len(content) == 40
    path = tmp_path / "images"
    path.write_bytes(content[:length])
    with pytest.raises(ValueError, match=r"images.*(truncated|not an IDX file)"):
        read_idx(path)


def test_left_over_bytes_are_refused():
    content = format_idx(np.ones((2, 3), np.float32)) + b"x"
    with pytest.raises(ValueError, match=r"left over: \(2, 3\) float32 needs 24 bytes after the header, got 25"):
        parse_idx(content)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", b"\0\0\x0a\x01\0\0\0\0", b"\1\0\x08\x01\0\0\0\0", b""])
def test_another_format_is_refused(content):
    with pytest.raises(ValueError, match=r"page is not an IDX file: it starts with .*expected \[00 00 type"):
        parse_idx(content, "page")


def test_truncated_and_damaged_gzip_are_told_apart(tmp_path):
    path = tmp_path / "a.gz"
    content = gzip.compress(format_idx(np.arange(200, dtype=np.int32)))
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.gz: the gzip data ends early"):
        read_idx(path)
    damaged = bytearray(content)
    damaged[-6] ^= 1  # in the CRC
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a\.gz: the gzip data is damaged"):
        read_idx(path)


@pytest.mark.parametrize("dtype", ["int64", "float16", "bool", "complex64"])
def test_what_idx_cannot_hold_is_refused(dtype):
    with pytest.raises(TypeError, match=f"cannot hold {dtype}; convert the array to one of uint8"):
        format_idx(np.zeros(3, dtype))
