"""The words of the SSH file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02)."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from typing import NamedTuple

from pytest_carthage import clock
from pytest_carthage.fabric import accounts

__all__ = ["Attributes", "Malformed", "Reader", "attributes", "long_name", "status_of", "text"]

INIT, VERSION = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = range(3, 11)
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = range(11, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201

#: of an answer STATUS
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = range(6)
UNSUPPORTED = 8

_SIZE, _OWNER, _MODE, _TIMES = 1, 2, 4, 8
_EXTENDED = 0x80000000


class Malformed(Exception):
    """What came is none of these words."""


class Attributes(NamedTuple):
    """What a client wants a file to be; None: it does not say."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None
    #: of the last access and the last change, in seconds
    times: tuple[int, int] | None = None


class Reader:
    """Takes a packet apart."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) < size:
            raise Malformed(f"a packet that ends {size - len(data)} bytes too early")
        self._at += size
        return data

    def byte(self) -> int:
        """A number of 8 bits."""
        return self._take(1)[0]

    def number(self) -> int:
        """A number of 32 bits."""
        return int.from_bytes(self._take(4), "big")

    def long(self) -> int:
        """A number of 64 bits."""
        return int.from_bytes(self._take(8), "big")

    def text(self) -> bytes:
        """Bytes with their length before them: a path, a handle, data."""
        return self._take(self.number())

    def attributes(self) -> Attributes:
        """What a file is to be."""
        flags = self.number()
        size = self.long() if flags & _SIZE else None
        owner = (self.number(), self.number()) if flags & _OWNER else None
        mode = self.number() if flags & _MODE else None
        times = (self.number(), self.number()) if flags & _TIMES else None
        return Attributes(size=size, owner=owner, mode=mode, times=times)


def text(data: bytes) -> bytes:
    """Bytes with their length before them."""
    return struct.pack("!I", len(data)) + data


def attributes(info: os.stat_result) -> bytes:
    """What a file is."""
    return struct.pack(
        "!IQIIIII",
        _SIZE | _OWNER | _MODE | _TIMES,
        info.st_size,
        info.st_uid,
        info.st_gid,
        info.st_mode,
        int(info.st_atime) & 0xFFFFFFFF,
        int(info.st_mtime) & 0xFFFFFFFF,
    )


def long_name(name: bytes, info: os.stat_result) -> bytes:
    """A line of ``ls -l``, which clients show as it is."""
    moment = time.localtime(info.st_mtime)
    is_recent = abs(clock.unix_s() - info.st_mtime) < 180 * 86400
    day = time.strftime("%b %e %H:%M" if is_recent else "%b %e  %Y", moment)
    user = accounts.name_of(info.st_uid, "/etc/passwd")
    group = accounts.name_of(info.st_gid, "/etc/group")
    line = (
        f"{stat.filemode(info.st_mode)} {info.st_nlink:>4} {user:<8} {group:<8} "
        f"{info.st_size:>8} {day} "
    )
    return line.encode("utf-8", "surrogateescape") + name


def status_of(error: OSError) -> int:
    """The answer's word for what the kernel said."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EBADF):
        return NO_SUCH_FILE
    if error.errno in (errno.EPERM, errno.EACCES, errno.EFAULT):
        return PERMISSION_DENIED
    return FAILURE
