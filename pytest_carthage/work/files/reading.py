"""The content of a file of a machine, read into memory: of one that ends, and is not too long."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["read_whole"]

_PIECE = 1 << 20
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def read_whole(fd: int, path: str, *, who: str, most_bytes: int | None) -> bytes:
    """All that a file had when it was opened; what grows meanwhile is of no interest.

    Files of the kernel, which have no size, are read to their end.

    :param most_bytes: None: any amount.
    :raises OSError: it is no regular file, it is longer, or it is a stream that never ends.
    """
    info = os.fstat(fd)
    if kind := _KINDS.get(stat.S_IFMT(info.st_mode)):
        number = errno.EISDIR if stat.S_ISDIR(info.st_mode) else errno.EINVAL
        raise OSError(number, f"{who}: this is {kind}, and no file to be read as a whole", path)
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
