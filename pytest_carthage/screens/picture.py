"""Pictures of screens: PNG files, as many as are needed of what the format allows.

See the PNG specification (https://www.w3.org/TR/png-3/) and ppm(5).
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Gray", "is_png", "png", "png_of_ppm"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: kind of colour to samples of a pixel
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
_PPM = re.compile(rb"P6(?:\s+#.*\n|\s)\s*(\d+)\s+(\d+)\s+255\s")
#: bytes of a picture that is no screen
_MOST = 256 << 20


def is_png(data: bytes) -> bool:
    """Whether it begins as a PNG file does."""
    return data.startswith(_SIGNATURE)


def png(width: int, height: int, samples: bytes) -> bytes:
    """A PNG file, of 8 bits each.

    :param samples: row by row, one of each pixel (gray) or three (red, green, blue).
    """
    stride = len(samples) // height
    kind = 0 if stride == width else 2
    rows = b"".join(b"\0" + samples[at : at + stride] for at in range(0, len(samples), stride))
    header = struct.pack("!2I5B", width, height, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return _SIGNATURE + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("!I4s", len(data), name) + data + struct.pack("!I", zlib.crc32(name + data))


def png_of_ppm(data: bytes) -> bytes:
    """A PNG file of a PPM file with 8 bits for each colour, as QEMU before 7.1 gives.

    :raises ValueError: it is none.
    """
    header = _PPM.match(data)
    if header is None:
        raise ValueError(f"no PPM file (P6, 255 of each colour): {data[:20]!r}")
    width, height = map(int, header.groups())
    samples = data[header.end() : header.end() + width * height * 3]
    if not samples or len(samples) != width * height * 3:
        raise ValueError(f"a PPM file of {width} x {height} pixels that has not all of them")
    return png(width, height, samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gray:
    """A picture in shades of gray."""

    width: int
    height: int
    #: row by row; 0 is black
    samples: bytes

    @classmethod
    def of(cls, data: bytes) -> Gray:
        """How bright each pixel of a PNG file is, by the brightest of its colours.

        :raises ValueError: it is damaged, has a palette, is interlaced, or has not 8 bits of each
            colour.
        """
        try:
            width, height, kind, rows = _read(data)
            size = _SAMPLES[kind]
            plain = b"".join(_unfiltered(rows, width * size, size))
        except (KeyError, IndexError, struct.error, zlib.error) as error:
            raise ValueError(f"no PNG file that is read here: {type(error).__name__}") from error
        if len(plain) != width * height * size:
            raise ValueError(f"a PNG file of {width} x {height} pixels that has not all of them")
        if size < 3:
            return cls(width=width, height=height, samples=plain[::size])
        colours = (plain[number::size] for number in range(3))
        return cls(width=width, height=height, samples=bytes(map(max, *colours)))

    @property
    def is_dark(self) -> bool:
        """Whether most of it is dark, as a terminal's."""
        return sum(self.samples) < 128 * len(self.samples)

    def inverted(self) -> Gray:
        """Bright where this one is dark."""
        samples = self.samples.translate(bytes(range(255, -1, -1)))
        return Gray(width=self.width, height=self.height, samples=samples)

    def enlarged(self, factor: int) -> Gray:
        """Each pixel as a square of pixels."""
        rows = []
        for at in range(0, len(self.samples), self.width):
            row = bytearray(self.width * factor)
            for shift in range(factor):
                row[shift::factor] = self.samples[at : at + self.width]
            rows.append(bytes(row) * factor)
        return Gray(width=self.width * factor, height=self.height * factor, samples=b"".join(rows))

    def png(self) -> bytes:
        """It as a PNG file."""
        return png(self.width, self.height, self.samples)


def _read(data: bytes) -> tuple[int, int, int, bytes]:
    """Width, height and kind of colour of a PNG file, and its rows."""
    if not is_png(data):
        raise ValueError(f"no PNG file: it begins with {data[:8]!r}")
    at, header, packed = len(_SIGNATURE), b"", []
    while at < len(data):
        length, name = struct.unpack_from("!I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        at += 12 + length
        if name == b"IHDR":
            header = content
        elif name == b"IDAT":
            packed.append(content)
    width, height, depth, kind, _, _, interlaced = struct.unpack("!2I5B", header)
    if depth != 8 or interlaced or kind not in _SAMPLES or not 0 < width * height * 4 < _MOST:
        raise ValueError(
            f"a PNG file of {width} x {height} pixels with {depth} bits, colours of kind {kind}"
            f"{', interlaced' if interlaced else ''}, which is not read here"
        )
    limit = (width * _SAMPLES[kind] + 1) * height
    return width, height, kind, zlib.decompressobj().decompress(b"".join(packed), limit)


def _unfiltered(rows: bytes, stride: int, size: int) -> list[bytes]:
    """Rows as they are, of rows that tell what differs from their neighbours."""
    before = bytes(stride)
    plain: list[bytes] = []
    for at in range(0, len(rows), stride + 1):
        row = rows[at + 1 : at + 1 + stride]
        match rows[at]:
            case 1:
                row = _added(row, size)
            case 2:
                row = bytes([(a + b) & 255 for a, b in zip(row, before, strict=True)])
            case 3 | 4 as kind:
                row = _predicted(row, before, size, is_average=kind == 3)
        plain.append(row)
        before = row
    return plain


def _added(row: bytes, size: int) -> bytes:
    """Each sample is told as the difference to that of the pixel on its left."""
    plain = bytearray(len(row))
    for shift in range(size):
        plain[shift::size] = bytes([total & 255 for total in accumulate(row[shift::size])])
    return bytes(plain)


def _predicted(row: bytes, before: bytes, size: int, *, is_average: bool) -> bytes:
    """Each one is told as the difference to what its neighbours let expect."""
    plain = bytearray(size) + row
    corner = bytes(size) + before
    for at in range(size, len(plain)):
        left, above = plain[at - size], before[at - size]
        if is_average:
            guess = (left + above) >> 1
        else:
            diagonal = corner[at - size]
            straight = left + above - diagonal
            guess = min(
                (left, above, diagonal),
                key=lambda sample: abs(straight - sample),
            )
        plain[at] = (plain[at] + guess) & 255
    return bytes(plain[size:])
