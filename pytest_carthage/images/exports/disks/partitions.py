"""A table of partitions, as UEFI has it: see its specification, chapter 5."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SECTOR", "Partition", "write_table"]

SECTOR = 512
_ENTRIES, _ENTRY_SIZE = 128, 128
_TABLE_SECTORS = _ENTRIES * _ENTRY_SIZE // SECTOR
_CODE_SIZE = 440


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition, in sectors."""

    kind: uuid.UUID
    name: str
    first: int
    count: int


def write_table(
    disk: Path, partitions: Sequence[Partition], *, identity: uuid.UUID, code: bytes = b""
) -> None:
    """Write a table, and its copy at the end, to a disk that has room for them.

    :param identity: of the disk; those of its partitions follow from it.
    :param code: what a BIOS runs, in the first sector.
    """
    last = disk.stat().st_size // SECTOR - 1
    entries = bytearray()
    for number, one in enumerate(partitions):
        own = uuid.uuid5(identity, str(number))
        entries += one.kind.bytes_le + own.bytes_le
        entries += struct.pack("<QQQ", one.first, one.first + one.count - 1, 0)
        entries += one.name.encode("utf-16-le").ljust(72, b"\0")
    table = bytes(entries).ljust(_ENTRIES * _ENTRY_SIZE, b"\0")
    with disk.open("r+b") as file:
        file.write(
            code[:_CODE_SIZE].ljust(446, b"\0") + _protective(last) + bytes(48) + b"\x55\xaa"
        )
        file.write(_header(1, last, 2, last, identity, table))
        file.write(table)
        file.seek((last - _TABLE_SECTORS) * SECTOR)
        file.write(table)
        file.write(_header(last, 1, last - _TABLE_SECTORS, last, identity, table))


def _protective(last: int) -> bytes:
    """The one partition that those see who know no better."""
    return struct.pack("<B3sB3sII", 0, b"\0\x02\0", 0xEE, b"\xff\xff\xff", 1, min(last, 2**32 - 1))


def _header(at: int, other: int, table_at: int, last: int, disk: uuid.UUID, table: bytes) -> bytes:
    def packed(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            *(b"EFI PART", 0x10000, 92, checksum, 0, at, other),
            *(2 + _TABLE_SECTORS, last - _TABLE_SECTORS - 1, disk.bytes_le),
            *(table_at, _ENTRIES, _ENTRY_SIZE, zlib.crc32(table)),
        )

    return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")
