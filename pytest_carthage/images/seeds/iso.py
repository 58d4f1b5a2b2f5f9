"""A file system as on a CD: a few files in one folder, see ECMA-119, ISO 9660.

Names are in capital letters there, and shown in small ones.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

__all__ = ["make_iso"]

_BLOCK = 2048
_DESCRIPTORS_AT = 16
_ROOT_AT = _DESCRIPTORS_AT + 4
_LITTLE_TABLE_AT, _BIG_TABLE_AT = _DESCRIPTORS_AT + 2, _DESCRIPTORS_AT + 3
_ZONE = bytes(7)
_DATE = b"0" * 16 + b"\0"


def make_iso(label: str, files: Mapping[str, bytes]) -> bytes:
    """The bytes of a file system of a name, with files by theirs."""
    blocks: list[bytes] = []
    records = [_record(b"\0", _ROOT_AT, _BLOCK, is_folder=True)]
    records.append(_record(b"\1", _ROOT_AT, _BLOCK, is_folder=True))
    at = _ROOT_AT + 1
    for name, data in sorted(files.items()):
        records.append(_record(f"{name.upper()}.;1".encode(), at, len(data), is_folder=False))
        padded = data + bytes(-len(data) % _BLOCK)
        blocks.append(padded)
        at += len(padded) // _BLOCK
    folder = b"".join(records)
    if len(folder) > _BLOCK:
        raise ValueError(f"{len(files)} files do not fit in the one block of a folder")
    return b"".join(
        [
            bytes(_DESCRIPTORS_AT * _BLOCK),
            _primary(label, at, records[0]),
            (b"\xffCD001\x01").ljust(_BLOCK, b"\0"),
            struct.pack("<BBIH2s", 1, 0, _ROOT_AT, 1, b"\0\0").ljust(_BLOCK, b"\0"),
            struct.pack(">BBIH2s", 1, 0, _ROOT_AT, 1, b"\0\0").ljust(_BLOCK, b"\0"),
            folder.ljust(_BLOCK, b"\0"),
            *blocks,
        ]
    )


def _both(number: int, size: int) -> bytes:
    """A number in both orders of its bytes."""
    return number.to_bytes(size, "little") + number.to_bytes(size, "big")


def _record(name: bytes, at: int, size: int, *, is_folder: bool) -> bytes:
    body = (
        b"\0" + _both(at, 4) + _both(size, 4) + _ZONE + bytes([2 if is_folder else 0, 0, 0])
        + _both(1, 2) + bytes([len(name)]) + name
    )  # fmt: skip
    body += bytes((len(body) + 1) % 2)
    return bytes([len(body) + 1]) + body


def _primary(label: str, blocks: int, root: bytes) -> bytes:
    return (
        b"\x01CD001\x01\0"
        + b" " * 32
        + label.encode().ljust(32)
        + bytes(8)
        + _both(blocks, 4)
        + bytes(32)
        + _both(1, 2)
        + _both(1, 2)
        + _both(_BLOCK, 2)
        + _both(10, 4)
        + struct.pack("<II", _LITTLE_TABLE_AT, 0)
        + struct.pack(">II", _BIG_TABLE_AT, 0)
        + root
        + b" " * (128 * 4 + 37 * 3)
        + _DATE * 4
        + b"\x01\0"
    ).ljust(_BLOCK, b"\0")
