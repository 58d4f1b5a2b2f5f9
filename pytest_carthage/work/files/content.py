"""What a file is beside its name: its content with holes, its times, its attributes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["attributes", "copy", "kind_of"]

_CHUNK = 1 << 20
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}
#: attributes that belong to a file rather than to a host
_OF_FILES = ("user.", "system.posix_acl_", "security.capability")


def kind_of(mode: int) -> str:
    """What something is that is no file."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")


def attributes(path: Path) -> dict[str, str]:
    """Extended attributes of a file of this host that belong to it: name to value, hexadecimal."""
    try:
        names = os.listxattr(path)
        return {name: os.getxattr(path, name).hex() for name in names if name.startswith(_OF_FILES)}
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise


def copy(source: int, target: int) -> None:
    """Copy what is in a file into an empty one, by descriptors; holes stay holes.

    Files of the kernel, which have no size, are read to their end.

    :raises OSError: it is a stream that has nothing to be read now, and no end.
    """
    if not os.fstat(source).st_size:
        _pour(source, target)
        return
    for offset, end in _parts(source):
        if offset == end:
            os.ftruncate(target, end)
        while offset < end:
            data = os.pread(source, min(_CHUNK, end - offset), offset)
            if not data:  # it became shorter meanwhile
                break
            _write(target, data, offset)
            offset += len(data)


def _pour(source: int, target: int) -> None:
    offset = 0
    while data := os.read(source, _CHUNK):
        _write(target, data, offset)
        offset += len(data)


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        offset, view = offset + count, view[count:]


def _parts(fd: int) -> Iterator[tuple[int, int]]:
    """Where a file has content, and last its end: pairs of offsets; see lseek(2)."""
    info = os.fstat(fd)
    size, at = info.st_size, 0
    if info.st_blocks * 512 < size:
        try:
            while at < size:
                start = os.lseek(fd, at, os.SEEK_DATA)
                at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
                yield start, at
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole follows
                yield at, size
        yield size, size
    else:
        yield 0, size
        yield size, size
