"""What is in folders, written as a tar: as they are merged by an overlay, or as an OCI layer.

Sources: the OCI image specification's layer.md for whiteouts, the kernel's overlayfs document for
how an upper directory holds them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from pytest_carthage.images.exports.tars.headers import (
    BLOCK,
    header,
    padding,
    sparse_map,
    sparse_records,
)
from pytest_carthage.images.exports.tars.holes import Part, parts_of
from pytest_carthage.images.exports.tars.sinks import ZEROS

__all__ = ["Tar", "Unpackable"]

_CHUNK = 1 << 20
#: what a hole has to save before it is told
_WORTH_TELLING = 64 << 10
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_OVERLAY = ("trusted.overlay.", "user.overlay.")
#: what overlayfs leaves out of an upper directory when it is told to
_BY_REFERENCE = ("redirect", "metacopy")


class Unpackable(Exception):
    """Something in a folder cannot be in the tar."""


class Tar:
    """Writes a tar of folders, in the order of the names' bytes.

    :param epoch: nothing is newer than this (seconds); None: as it is.
    :param is_layer: deletions are told, as a layer of an image does; else the folders are
        merged as an overlay of them would be.
    :param sparse: holes of files are told, which not every reader understands; else they are
        written as zeros, as the OCI image specification asks for.
    """

    def __init__(
        self,
        out: Callable[[bytes], object],
        *,
        epoch: int | None,
        is_layer: bool,
        sparse: bool = False,
    ) -> None:
        self._out = out
        self._epoch = epoch
        self._is_layer = is_layer
        self._sparse = sparse
        self._linked: dict[tuple[int, int], bytes] = {}
        self._buffer = bytearray()
        #: entries so far, the root not counted
        self.entries = 0
        #: bytes so far
        self.size = 0

    def add(self, folders: list[bytes]) -> None:
        """Add what is in these folders, the top first."""
        self._entry(b"./", folders[0], os.lstat(folders[0]))
        self._walk(b"", folders)

    def end(self) -> None:
        """Write the end of the tar."""
        self._write(bytes(2 * BLOCK))
        self._flush()

    def _walk(self, name: bytes, folders: list[bytes]) -> None:
        for base, entries in _merged(folders):
            path = name + base
            top = entries[0]
            info = top.stat(follow_symlinks=False)
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                if self._is_layer:
                    self._marker(name + _WHITEOUT + base, info)
                continue
            if self._is_layer and base.startswith(_WHITEOUT):
                raise Unpackable(
                    f"/{os.fsdecode(path)}: a file that begins with .wh. would delete another "
                    "in a layer of an image"
                )
            if stat.S_ISSOCK(info.st_mode):
                continue  # means nothing without who listens
            self.entries += 1
            if not stat.S_ISDIR(info.st_mode):
                self._entry(path, top.path, info)
                continue
            path += b"/"
            self._entry(path, top.path, info)
            if self._is_layer and _is_opaque(top.path):
                self._marker(path + _OPAQUE, info)
            self._walk(path, [entry.path for entry in entries])

    def _entry(self, name: bytes, path: bytes, info: os.stat_result) -> None:
        kind, link = b"0", b""
        device = (0, 0)
        mode = info.st_mode
        if stat.S_ISREG(mode):
            if info.st_nlink > 1:
                first = self._linked.setdefault((info.st_dev, info.st_ino), name)
                if first != name:
                    self._write(header(name, b"1", info, link=first, epoch=self._epoch))
                    return
            self._file(name, path, info)
            return
        if stat.S_ISLNK(mode):
            kind, link = b"2", os.readlink(path)  # noqa: PTH115
        elif stat.S_ISDIR(mode):
            kind = b"5"
        elif stat.S_ISFIFO(mode):
            kind = b"6"
        else:
            kind = b"3" if stat.S_ISCHR(mode) else b"4"
            device = (os.major(info.st_rdev), os.minor(info.st_rdev))
        records = {} if kind == b"2" else _attributes(name, path)
        self._write(
            header(name, kind, info, link=link, device=device, epoch=self._epoch, records=records)
        )

    def _file(self, name: bytes, path: bytes, info: os.stat_result) -> None:
        """A file, with its holes as such or as zeros."""
        size, records = info.st_size, _attributes(name, path)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            parts = parts_of(fd, info)
            written = sum(length for _, length in parts)
            if not self._sparse or size - written < _WORTH_TELLING:
                self._write(header(name, b"0", info, size=size, epoch=self._epoch, records=records))
                self._content(name, fd, size, parts)
                return
            records |= sparse_records(name, size)
            head = sparse_map(parts, size)
            written += len(head)
            short = b"GNUSparseFile.0/" + name.rpartition(b"/")[2][:80]
            self._write(header(short, b"0", info, size=written, epoch=self._epoch, records=records))
            self._write(head)
            for offset, length in parts:
                self._part(name, fd, offset, length)
            self._write(padding(written))
        finally:
            os.close(fd)

    def _marker(self, name: bytes, info: os.stat_result) -> None:
        """An empty file that tells of a deletion."""
        self.entries += 1
        fields = list(info[:10])
        fields[0], fields[4], fields[5] = stat.S_IFREG, 0, 0
        self._write(header(name, b"0", os.stat_result(fields), epoch=self._epoch))

    def _content(self, name: bytes, fd: int, size: int, parts: list[Part]) -> None:
        at = 0
        for offset, length in [*parts, (size, 0)]:
            while at < offset:
                count = min(offset - at, len(ZEROS))
                self._write(ZEROS if count == len(ZEROS) else bytes(count))
                at += count
            self._part(name, fd, offset, length)
            at += length
        self._write(padding(size))

    def _part(self, name: bytes, fd: int, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            data = os.pread(fd, min(end - offset, _CHUNK), offset)
            if not data:
                raise Unpackable(f"/{os.fsdecode(name)} became shorter while it was read")
            self._write(data)
            offset += len(data)

    def _write(self, data: bytes) -> None:
        self.size += len(data)
        if data is ZEROS:
            self._flush()
            self._out(data)
            return
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._out(bytes(self._buffer))
        self._buffer.clear()


def _merged(folders: list[bytes]) -> Iterator[tuple[bytes, list[os.DirEntry[bytes]]]]:
    """Each name with what is to be seen of it: one that is no folder, or folders."""
    entries: dict[bytes, list[os.DirEntry[bytes]]] = {}
    closed: set[bytes] = set()
    for folder in folders:
        with os.scandir(folder) as listing:
            for entry in listing:
                name = entry.name
                if name in closed:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    entries.setdefault(name, []).append(entry)
                    if len(folders) > 1 and _is_opaque(entry.path):
                        closed.add(name)
                else:
                    closed.add(name)
                    entries.setdefault(name, [entry])
    return iter(sorted(entries.items()))


def _is_opaque(path: bytes) -> bool:
    """Whether a folder of an upper directory hides those of the same name below."""
    for prefix in _OVERLAY:
        try:
            if os.getxattr(path, f"{prefix}opaque", follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _attributes(name: bytes, path: bytes) -> dict[bytes, bytes]:
    """Extended attributes of a file, as pax records."""
    records: dict[bytes, bytes] = {}
    for attribute in os.listxattr(path, follow_symlinks=False):
        if attribute.startswith(_OVERLAY):
            if attribute.endswith(_BY_REFERENCE):
                raise Unpackable(
                    f"/{os.fsdecode(name)}: made by an overlay with redirect_dir or "
                    f"metacopy ({attribute}), which names a file that is elsewhere"
                )
        elif _is_of_file(attribute):
            value = os.getxattr(path, attribute, follow_symlinks=False)
            records[b"SCHILY.xattr." + os.fsencode(attribute)] = value
    return records


def _is_of_file(attribute: str) -> bool:
    """Whether an attribute belongs to the file rather than to this host."""
    return attribute == "security.capability" or attribute.startswith(
        ("user.", "system.posix_acl_")
    )
