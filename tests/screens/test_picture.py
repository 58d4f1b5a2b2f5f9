"""Pictures: PNG files that are written here, and those that others write."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.screens.picture import Gray, is_png, png, png_of_ppm


def filtered(kind: int, row: bytes, before: bytes, size: int) -> bytes:
    """A row as an encoder writes it (PNG specification, 9.2)."""
    out = bytearray([kind])
    for at, sample in enumerate(row):
        left = row[at - size] if at >= size else 0
        corner = before[at - size] if at >= size else 0
        above = before[at]
        straight = left + above - corner
        nearest = min((left, above, corner), key=lambda value: abs(straight - value))
        guess = (0, left, above, (left + above) // 2, nearest)[kind]
        out.append((sample - guess) % 256)
    return bytes(out)


def packed(width: int, kinds: list[int], samples: bytes, colour: int, size: int) -> bytes:
    """A PNG file whose rows are of these kinds."""
    stride, before, rows = width * size, bytes(width * size), b""
    for number, kind in enumerate(kinds):
        row = samples[number * stride : (number + 1) * stride]
        rows += filtered(kind, row, before, size)
        before = row
    header = struct.pack("!2I5B", width, len(kinds), 8, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tEXt", b"a\0b"), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack("!I4s", len(data), name) + data + struct.pack("!I", zlib.crc32(name + data))
        for name, data in chunks
    )


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.integers(1, 5),
    st.sampled_from([(0, 1), (2, 3), (4, 2), (6, 4)]),
    st.randoms(use_true_random=False),
)
def test_brightness_is_read_however_rows_are_written(kinds, width, colours, chance) -> None:  # type: ignore[no-untyped-def]
    colour, size = colours
    samples = chance.randbytes(width * len(kinds) * size)
    gray = Gray.of(packed(width, kinds, samples, colour, size))
    pixels = [samples[at : at + size] for at in range(0, len(samples), size)]
    assert gray.samples == bytes(max(pixel[: 3 if size > 2 else 1]) for pixel in pixels)
    assert (gray.width, gray.height) == (width, len(kinds))


def test_picture_that_was_written_here_is_read() -> None:
    data = png(2, 2, bytes([1, 2, 3, 9, 8, 7, 0, 0, 0, 255, 0, 0]))
    assert is_png(data)
    assert Gray.of(data).samples == bytes([3, 9, 0, 255])
    gray = Gray(width=2, height=1, samples=b"\0\xff")
    assert Gray.of(gray.png()) == gray


def test_picture_is_enlarged_and_inverted() -> None:
    gray = Gray(width=2, height=1, samples=b"\0\x64")
    assert gray.is_dark
    assert not gray.inverted().is_dark
    assert gray.enlarged(2) == Gray(width=4, height=2, samples=b"\0\0\x64\x64" * 2)


def test_ppm_becomes_a_png_of_the_same_pixels() -> None:
    pixels = bytes(range(18))
    for header in (b"P6\n3 2\n255\n", b"P6 3 2 255 ", b"P6\n# QEMU\n3 2\n255\n"):
        assert png_of_ppm(header + pixels) == png(3, 2, pixels)


@pytest.mark.parametrize("data", [b"", b"P5\n3 2\n255\n", b"P6\n3 2\n65535\n", b"P6\n3 2\n255\nxx"])
def test_ppm_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="PPM file"):
        png_of_ppm(data)


@pytest.mark.parametrize("cut", [0, 7, 20, 40])
def test_damaged_png_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="PNG file"):
        Gray.of(png(3, 3, bytes(27))[:cut])


def test_png_of_a_kind_that_screens_are_not_is_refused() -> None:
    interlaced = bytearray(png(3, 3, bytes(27)))
    interlaced[28] = 1
    with pytest.raises(ValueError, match="3 x 3 pixels with 8 bits, colours of kind 2, interlaced"):
        Gray.of(bytes(interlaced))
