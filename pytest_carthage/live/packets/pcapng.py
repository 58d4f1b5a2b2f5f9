"""Captures as files that Wireshark opens: pcapng (draft-ietf-opsawg-pcapng), with names.

One section; an interface block for each network; a name resolution block, so that Wireshark
shows machines instead of addresses (in its preferences, or ``tshark -N n``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import IO, TypeAlias

__all__ = ["Capture", "Frame", "read", "write"]

AnyAddress: TypeAlias = IPv4Address | IPv6Address

_SECTION, _INTERFACE, _NAMES, _PACKET = 0x0A0D0D0A, 1, 4, 6
_BYTE_ORDER = 0x1A2B3C4D
_ETHERNET = 1  # LINKTYPE_ETHERNET
_END, _COMMENT, _APPLICATION, _IF_NAME, _RESOLUTION = 0, 1, 4, 2, 9
_NANOSECONDS = 9
_IPV4_RECORD, _IPV6_RECORD, _MAC_RECORD = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was seen."""

    #: nanoseconds since the epoch
    time_ns: int
    #: index into the capture's networks
    network: int
    data: bytes
    #: bytes that it had, where not all were kept
    length: int
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What a file holds."""

    networks: Sequence[str]
    #: address, IP or hardware (as text), to name
    names: Mapping[AnyAddress | str, str]
    frames: Sequence[Frame]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


_LAST_OPTION = struct.pack("<HH", _END, 0)


def _section() -> bytes:
    body = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
    return _block(_SECTION, body + _option(_APPLICATION, b"pytest-carthage") + _LAST_OPTION)


def _interface(name: str) -> bytes:
    options = _option(_IF_NAME, name.encode()) + _option(_RESOLUTION, bytes([_NANOSECONDS]))
    return _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0) + options + _LAST_OPTION)


def _record(key: AnyAddress | str, name: str) -> bytes:
    if isinstance(key, str):
        kind, raw = _MAC_RECORD, bytes.fromhex(key.replace(":", ""))
    else:
        kind, raw = (_IPV4_RECORD if key.version == 4 else _IPV6_RECORD), key.packed
    value = raw + name.encode().replace(b"\0", b"") + b"\0"
    return struct.pack("<HH", kind, len(value)) + _padded(value)


def _frame(frame: Frame) -> bytes:
    head = struct.pack(
        "<IIIII",
        frame.network,
        frame.time_ns >> 32,
        frame.time_ns & 0xFFFFFFFF,
        len(frame.data),
        frame.length,
    )
    options = b""
    if frame.comment:
        options = _option(_COMMENT, frame.comment.encode()) + _LAST_OPTION
    return _block(_PACKET, head + _padded(frame.data) + options)


def write(
    file: IO[bytes],
    frames: Iterable[Frame],
    *,
    networks: Sequence[str],
    names: Mapping[AnyAddress | str, str],
) -> int:
    """Write a capture; returns the number of frames."""
    file.write(_section())
    for network in networks:
        file.write(_interface(network))
    records = b"".join(_record(key, name) for key, name in names.items())
    file.write(_block(_NAMES, records + struct.pack("<HH", 0, 0)))
    count = 0
    for frame in frames:
        file.write(_frame(frame))
        count += 1
    return count


def read(file: IO[bytes]) -> Capture:
    """Read a capture that :func:`write` made; a block that is cut off at the end is left out.

    :raises ValueError: it is none.
    """
    networks: list[str] = []
    names: dict[AnyAddress | str, str] = {}
    frames: list[Frame] = []
    is_first = True
    for kind, body in _blocks(file):
        if is_first and (kind != _SECTION or body[:4] != struct.pack("<I", _BYTE_ORDER)):
            raise ValueError("no pcapng file, or one that was made elsewhere")
        is_first = False
        if kind == _INTERFACE:
            given = dict(_options(body[8:]))
            networks.append(given.get(_IF_NAME, b"").decode(errors="replace"))
        elif kind == _NAMES:
            names |= _records(body)
        elif kind == _PACKET:
            network, high, low, size, length = struct.unpack_from("<IIIII", body)
            options = dict(_options(body[20 + size + -size % 4 :]))
            frames.append(
                Frame(
                    time_ns=high << 32 | low,
                    network=network,
                    data=body[20 : 20 + size],
                    length=length,
                    comment=options.get(_COMMENT, b"").decode(errors="replace"),
                )
            )
    if is_first:
        raise ValueError("an empty file")
    return Capture(networks=networks, names=names, frames=frames)


def _blocks(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<II", head)
        rest = file.read(max(0, size - 8))
        if size < 12 or len(rest) < size - 8:
            return
        yield kind, rest[:-4]


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        code, size = struct.unpack_from("<HH", data, offset)
        if code == _END:
            return
        yield code, data[offset + 4 : offset + 4 + size]
        offset += 4 + size + -size % 4


def _records(data: bytes) -> dict[AnyAddress | str, str]:
    sizes = {_IPV4_RECORD: 4, _IPV6_RECORD: 16, _MAC_RECORD: 6}
    names: dict[AnyAddress | str, str] = {}
    for kind, value in _options(data):
        size = sizes.get(kind, len(value))
        key, name = value[:size], value[size:].rstrip(b"\0").decode(errors="replace")
        if kind in (_IPV4_RECORD, _IPV6_RECORD):
            names[ip_address(key)] = name
        elif kind == _MAC_RECORD:
            names[key.hex(":")] = name
    return names
