import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from latentia.data.idx import parse_idx


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@settings(deadline=None)
@given(arrays(np.uint8, array_shapes(max_dims=4, max_side=5)))
def test_round_trip(array):
    parsed = parse_idx(idx(array))
    assert parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed, array)


def test_last_dimension_runs_fastest():
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])
    assert parse_idx(content).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_sizes_are_big_endian():
    assert parse_idx(idx(np.zeros(258, np.uint8))).shape == (258,)


def test_no_elements():
    assert parse_idx(idx(np.zeros((0, 28, 28), np.uint8))).shape == (0, 28, 28)


def test_is_a_view():
    assert not parse_idx(idx(np.ones(3, np.uint8))).flags.writeable


def test_every_truncation_is_refused():
    content = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for end in range(len(content)):
        with pytest.raises(ValueError, match="truncated idx file" if end >= 4 else "not an idx file"):
            parse_idx(content[:end])


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=9))
def test_bytes_after_the_end_are_refused(rest):
    with pytest.raises(ValueError, match=r"bytes after its end: shape \(2, 3\) takes 18 bytes"):
        parse_idx(idx(np.zeros((2, 3), np.uint8)) + rest)


def test_sizes_beyond_all_memory_are_only_a_wrong_length():
    with pytest.raises(ValueError, match="truncated idx file: shape"):
        parse_idx(bytes([0, 0, 8, 4]) + b"\xff" * 16)


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"<!DOCTYPE html>", b"\0\1\x08\1", b"\0\0\x08\0"])
def test_other_files_are_refused(start):
    with pytest.raises(ValueError, match=rf"not an idx file: it begins with bytes \[{start[:4].hex(' ')}\]"):
        parse_idx(start + bytes(16))


@pytest.mark.parametrize("element", [0x00, 0x09, 0x0B, 0x0C, 0x0D, 0x0E])
def test_other_elements_are_refused(element):
    with pytest.raises(ValueError, match=f"type 0x{element:02x}; only 0x08"):
        parse_idx(bytes([0, 0, element, 1, 0, 0, 0, 1, 7]))


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_parsed_or_refused(content):
    try:
        parsed = parse_idx(content)
    except ValueError:
        return
    assert idx(parsed) == content
