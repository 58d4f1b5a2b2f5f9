"""How a tar describes a file: a ustar header, before it a pax one where that is not enough.

Sources: tar(5) and pax(1); of sparse files, version 1.0 of *Storing Sparse Files* in tar's manual.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

__all__ = ["BLOCK", "header", "padding", "sparse_map", "sparse_records"]

BLOCK = 512
_MOST_ID = 0o7777777
_MOST_SIZE = 0o77777777777


def padding(size: int) -> bytes:
    """What follows so many bytes, up to the next block."""
    return bytes(-size % BLOCK)


def header(
    name: bytes,
    kind: bytes,
    info: os.stat_result,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    epoch: int | None = None,
    records: dict[bytes, bytes] | None = None,
) -> bytes:
    """The header of a file; its content, in whole blocks, follows.

    :param kind: as tar(5) has it: ``b"0"`` a file, ``b"2"`` a symbolic link, and so on.
    :param device: major and minor number.
    :param epoch: it is no newer than this (seconds).
    :param records: pax records that it has in any case.
    """
    records = dict(records or {})
    # of a status that was made by hand, there are seconds only
    mtime, rest = divmod(info.st_mtime_ns or int(info.st_mtime) * 10**9, 10**9)
    if mtime < 0 or (epoch is not None and mtime >= epoch):
        mtime, rest = max(0, mtime if epoch is None else min(mtime, epoch)), 0
    if rest:
        records[b"mtime"] = b"%d.%09d" % (mtime, rest)
    uid, gid = info.st_uid, info.st_gid
    prefix, short = _split(name)
    if short is None:
        records[b"path"] = name
        prefix, short = b"", name[:100]
    if len(link) > 100:
        records[b"linkpath"] = link
        link = link[:100]
    if uid > _MOST_ID:
        records[b"uid"], uid = b"%d" % uid, 0
    if gid > _MOST_ID:
        records[b"gid"], gid = b"%d" % gid, 0
    if size > _MOST_SIZE:
        records[b"size"], size = b"%d" % size, 0
    if mtime > _MOST_SIZE:
        records.setdefault(b"mtime", b"%d" % mtime)
        mtime = _MOST_SIZE
    bits = stat.S_IMODE(info.st_mode)
    block = _block(short, bits, uid, gid, size, mtime, kind, link, prefix, device)
    if not records:
        return block
    text = b"".join(_record(key, records[key]) for key in sorted(records))
    head = _block(b"PaxHeaders", 0o644, 0, 0, len(text), mtime, b"x", b"", b"", (0, 0))
    return head + text + padding(len(text)) + block


def sparse_map(parts: Sequence[tuple[int, int]], size: int) -> bytes:
    """What comes before the content of a file with holes: where its parts are.

    :param parts: offsets and sizes, in their order; all but the last are of whole blocks.
    :param size: of the file.
    """
    rows = [*parts, (size, 0)]  # a hole may be at the end
    numbers = [len(rows), *(number for row in rows for number in row)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + padding(len(text))


def sparse_records(name: bytes, size: int) -> dict[bytes, bytes]:
    """What the header of a file with holes says beside."""
    return {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": name,
        b"GNU.sparse.realsize": b"%d" % size,
    }


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """A name as ustar holds it: what is before, and the rest; None: it does not fit."""
    if len(name) <= 100:
        return b"", name
    # a folder's name ends with a slash, at which it must not be split
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut < 1 or len(name) - cut - 1 > 100:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    total = length + len(str(length))
    total = length + len(str(total))
    return b"%d %b=%b\n" % (total, key, value)


def _block(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    link: bytes,
    prefix: bytes,
    device: tuple[int, int],
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime,
    )
    tail = b"%b%bustar\x0000%b%07o\0%07o\0%b" % (
        kind,
        link.ljust(100, b"\0"),
        bytes(64),
        *device,
        prefix.ljust(167, b"\0"),
    )
    return b"%b%06o\0 %b" % (head, sum(head) + sum(tail) + 8 * 32, tail)
