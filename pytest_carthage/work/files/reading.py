"""The content of a file of a machine, read into memory: of one that ends, and is not too long."""

from __future__ import annotations

import errno
import os
import stat

from pytest_carthage.work.files.content import kind_of

__all__ = ["check_kind", "read_whole"]

_PIECE = 1 << 20


def check_kind(mode: int, path: str, *, who: str) -> None:
    """Refuse what is no file, by name.

    :param mode: see inode(7).
    :raises OSError: it is none.
    """
    if not stat.S_ISREG(mode):
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        what = f"{who}: this is {kind_of(mode)}, and no file to be read as a whole"
        raise OSError(number, what, path)


def read_whole(fd: int, path: str, *, who: str, most_bytes: int | None) -> bytes:
    """All that a file had when it was opened; what grows meanwhile is of no interest.

    Files of the kernel, which have no size, are read to their end.

    :param most_bytes: None: any amount.
    :raises OSError: it is no regular file, it is longer, or it is a stream that never ends.
    """
    info = os.fstat(fd)
    check_kind(info.st_mode, path, who=who)
    if most_bytes is not None and info.st_size > most_bytes:
        raise _too_long(who, path, info.st_size, most_bytes)
    parts: list[bytes] = []
    size = 0
    while not info.st_size or size < info.st_size:
        try:
            data = os.read(fd, min(_PIECE, info.st_size - size) if info.st_size else _PIECE)
        except BlockingIOError:
            what = f"{who}: it has nothing to be read now, and no end; try: run() of what reads it"
            raise OSError(errno.EAGAIN, what, path) from None
        if not data:
            break
        parts.append(data)
        size += len(data)
        if most_bytes is not None and size > most_bytes:
            raise _too_long(who, path, size, most_bytes)
    return b"".join(parts)


def _too_long(who: str, path: str, size: int, most_bytes: int) -> OSError:
    what = (
        f"{who}: it has {size >> 20} MiB or more, and {most_bytes >> 20} MiB may be read into "
        f"memory; try: get(), most_mib=..., or run() of what finds the part"
    )
    return OSError(errno.EFBIG, what, path)
