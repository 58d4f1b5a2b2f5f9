"""One member of a tar, written as it is: content, holes, owner, permissions, attributes, times.

What cannot be had without privileges is left out: devices, and attributes that this host's file
system does not have.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from typing import cast

from pytest_carthage.images.folders.beneath import Beneath, Path

__all__ = ["BLOCK", "UnknownKind", "finish", "mtime_ns", "write"]

_XATTR = "SCHILY.xattr."
_CHUNK = 1 << 20
#: what is a hole, if all of it is zero
BLOCK = 64 << 10
_ZEROS = bytes(BLOCK)


class UnknownKind(ValueError):
    """A member is neither a file nor a folder, link, device or pipe."""


def write(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    root: Beneath,
    path: Path,
    *,
    is_wanted: Callable[[str], bool],
    must: bool = False,
) -> None:
    """Write what a member is, but a hard link, where nothing is; a folder may be there.

    What a folder hands on to what is made in it, and its times, come last: see :func:`finish`.

    :param is_wanted: whether it has an attribute of this name.
    :param must: an attribute that cannot be had is an error.
    :raises UnknownKind: it is of no kind that a file system has.
    """
    if member.isdir():
        if path and root.status(path) is None:
            os.mkdir(path[-1], 0o700, dir_fd=root.folder(path[:-1]))
        folder = root.folder(path)
        os.fchown(folder, member.uid, member.gid)
        os.fchmod(folder, member.mode & 0o7777)
        return
    if not path:
        raise UnknownKind("/")
    name, above = path[-1], root.folder(path[:-1])
    if member.isfile():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=above)
        try:
            _content(tar, member, fd)
            os.fchown(fd, member.uid, member.gid)
            os.fchmod(fd, member.mode & 0o7777)
            _attributes(member, fd, is_wanted, must=must)
        finally:
            os.close(fd)
    else:
        if not _make(member, path, above):
            return
        os.chown(name, member.uid, member.gid, dir_fd=above, follow_symlinks=False)
        if not member.issym():
            os.chmod(name, member.mode & 0o7777, dir_fd=above)
        if any(key.startswith(_XATTR) for key in member.pax_headers):
            os.fchdir(above)  # there is no setxattrat(2) in Python
            _attributes(member, name, is_wanted, must=must)
    _set_mtime(root, path, member)


def _make(member: tarfile.TarInfo, path: Path, above: int) -> bool:
    """Make what has no content; False: it cannot be had here."""
    name = path[-1]
    if member.issym():
        os.symlink(member.linkname, name, dir_fd=above)
    elif member.isfifo():
        os.mkfifo(name, 0o600, dir_fd=above)
    elif member.ischr() or member.isblk():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        try:
            os.mknod(name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=above)
        except PermissionError:  # no user namespace may; a machine gets its own /dev
            return False
    else:
        raise UnknownKind(f"/{'/'.join(path)}")
    return True


def finish(
    root: Beneath,
    path: Path,
    member: tarfile.TarInfo,
    *,
    is_wanted: Callable[[str], bool],
    must: bool = False,
) -> None:
    """Give a folder its attributes and its times, when all is in it."""
    _attributes(member, root.folder(path), is_wanted, must=must)
    _set_mtime(root, path, member)


def _set_mtime(root: Beneath, path: Path, member: tarfile.TarInfo) -> None:
    when = mtime_ns(member)
    if path:
        above = root.folder(path[:-1])
        os.utime(path[-1], ns=(when, when), dir_fd=above, follow_symlinks=False)
    else:
        os.utime(root.fd, ns=(when, when))


def mtime_ns(member: tarfile.TarInfo) -> int:
    """When it was changed: nanoseconds since the epoch."""
    # tarfile has it as a float, which has no nanoseconds
    whole, _, part = member.pax_headers.get("mtime", "").partition(".")
    if whole.removeprefix("-").isdecimal() and (part.isdecimal() or not part):
        nanoseconds = int(part[:9].ljust(9, "0"))
        return int(whole) * 10**9 + (-nanoseconds if whole.startswith("-") else nanoseconds)
    return int(member.mtime * 10**9)


def _attributes(
    member: tarfile.TarInfo, target: int | str, is_wanted: Callable[[str], bool], *, must: bool
) -> None:
    for key, text in member.pax_headers.items():
        name = key.removeprefix(_XATTR)
        if name == key or not is_wanted(name):
            continue
        value = text.encode("utf-8", "surrogateescape")
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError:
            if must:
                raise


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, fd: int) -> None:
    """Write a file; what is zero, or a hole in the tar, is a hole."""
    opened = cast("io.BufferedReader | None", tar.extractfile(member))
    assert opened is not None
    # beneath the buffer: a tar that is read as it comes can be sought forward, and only there
    source = cast("io.RawIOBase", opened.raw)
    # pairs of an offset and a size, whatever the stubs say
    told = cast("list[tuple[int, int]] | None", member.sparse)
    parts = [(0, member.size)] if told is None else told
    for offset, size in parts:
        source.seek(offset)
        end = offset + size
        while offset < end:
            data = source.read(min(_CHUNK, end - offset))
            if not data:
                raise tarfile.ReadError(f"{member.name} ends too early")
            _put(fd, data, offset)
            offset += len(data)
    os.ftruncate(fd, member.size)


def _put(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    for start in range(0, len(view), BLOCK):
        block = view[start : start + BLOCK]
        if len(block) == BLOCK and block == _ZEROS:
            continue
        at = offset + start
        while block:
            count = os.pwrite(fd, block, at)
            at, block = at + count, block[count:]
