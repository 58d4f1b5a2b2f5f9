"""Serves files to one client, with the rights of the process that it is."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from pytest_carthage.fabric.sftp import packets as words
from pytest_carthage.fabric.sftp.packets import Attributes, Malformed, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Server", "serve"]

_LONGEST_PACKET = 1 << 18
#: bytes of a file in one answer
_MOST_DATA = _LONGEST_PACKET - 1024
#: names in one answer
_MOST_NAMES = 100
#: of an OPEN
_READ, _WRITE, _APPEND, _CREAT, _TRUNC, _EXCL = 1, 2, 4, 8, 16, 32
#: beyond version 3, as OpenSSH's PROTOCOL has them
_EXTENSIONS = {
    b"posix-rename@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"hardlink@openssh.com": b"1",
    b"fsync@openssh.com": b"1",
    b"lsetstat@openssh.com": b"1",
    b"limits@openssh.com": b"1",
    b"expand-path@openssh.com": b"1",
}


class _Folder:
    """A folder that is read."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.left = [b".", b"..", *sorted(os.listdir(path))]


class Server:
    """Answers packets; paths are relative to the working folder.

    :param home: what a tilde stands for.
    """

    def __init__(self, home: bytes) -> None:
        self._home = home
        self._last = 0
        self._files: dict[bytes, int] = {}
        self._folders: dict[bytes, _Folder] = {}
        self._handlers: dict[int, Callable[[Reader], bytes]] = {
            words.OPEN: self._open,
            words.CLOSE: self._close,
            words.READ: self._read,
            words.WRITE: self._write,
            words.LSTAT: lambda r: _attributes(os.lstat(r.text())),
            words.FSTAT: lambda r: _attributes(os.fstat(self._file(r))),
            words.STAT: lambda r: _attributes(os.stat(r.text())),
            words.SETSTAT: lambda r: _set(r.text(), r.attributes()),
            words.FSETSTAT: lambda r: _set(self._file(r), r.attributes()),
            words.OPENDIR: self._open_folder,
            words.READDIR: self._read_folder,
            words.REMOVE: lambda r: _done(os.unlink, r.text()),
            words.MKDIR: self._make_folder,
            words.RMDIR: lambda r: _done(os.rmdir, r.text()),
            words.REALPATH: lambda r: _name(os.path.realpath(r.text() or b".")),
            words.RENAME: self._rename,
            words.READLINK: lambda r: _name(os.readlink(r.text())),
            # target first, as OpenSSH has it
            words.SYMLINK: lambda r: _done(os.symlink, r.text(), r.text()),
            words.EXTENDED: self._extended,
        }

    def answer(self, packet: bytes) -> bytes:
        """The answer to a packet, both without their lengths.

        :raises Malformed: it is none.
        """
        reader = Reader(packet)
        kind = reader.byte()
        if kind == words.INIT:
            reader.number()
            pairs = (words.text(name) + words.text(_EXTENSIONS[name]) for name in _EXTENSIONS)
            return struct.pack("!BI", words.VERSION, 3) + b"".join(pairs)
        number = reader.number()
        handler = self._handlers.get(kind)
        try:
            body = _status(words.UNSUPPORTED) if handler is None else handler(reader)
        except OSError as error:
            body = _status(words.status_of(error), error.strerror or str(error))
        except ValueError as error:  # a path with a zero byte
            body = _status(words.FAILURE, str(error))
        return body[:1] + struct.pack("!I", number) + body[1:]

    # files

    def _open(self, reader: Reader) -> bytes:
        path, flags, wanted = reader.text(), reader.number(), reader.attributes()
        access = os.O_RDWR if flags & _READ and flags & _WRITE else os.O_RDONLY
        if flags & _WRITE and not flags & _READ:
            access = os.O_WRONLY
        # not O_APPEND: with it, pwrite(2) passes over the place that it is told
        for bit, flag in ((_CREAT, os.O_CREAT), (_TRUNC, os.O_TRUNC), (_EXCL, os.O_EXCL)):
            access |= flag if flags & bit else 0
        mode = 0o666 if wanted.mode is None else wanted.mode & 0o7777
        fd = os.open(path, access | os.O_CLOEXEC, mode)
        handle = self._new_handle(b"a" if flags & _APPEND else b"f")
        self._files[handle] = fd
        return bytes([words.HANDLE]) + words.text(handle)

    def _new_handle(self, kind: bytes) -> bytes:
        self._last += 1
        return kind + str(self._last).encode()

    def _file(self, reader: Reader) -> int:
        """The descriptor behind a handle; one that is none is what the kernel would refuse."""
        return self._files.get(reader.text(), -1)

    def _close(self, reader: Reader) -> bytes:
        handle = reader.text()
        if self._folders.pop(handle, None) is None:
            os.close(self._files.pop(handle, -1))
        return _status(words.OK)

    def _read(self, reader: Reader) -> bytes:
        fd, offset, size = self._file(reader), reader.long(), reader.number()
        data = os.pread(fd, min(size, _MOST_DATA), offset)
        return bytes([words.DATA]) + words.text(data) if data else _status(words.EOF)

    def _write(self, reader: Reader) -> bytes:
        handle = reader.text()
        fd, offset, data = self._files.get(handle, -1), reader.long(), reader.text()
        if handle.startswith(b"a"):
            offset = os.fstat(fd).st_size
        view = memoryview(data)
        while view:
            sent = os.pwrite(fd, view, offset)
            view, offset = view[sent:], offset + sent
        return _status(words.OK)

    def _rename(self, reader: Reader) -> bytes:
        old, new = reader.text(), reader.text()
        if os.path.lexists(new):
            return _status(words.FAILURE, "File exists")
        return _done(os.rename, old, new)

    # folders

    def _open_folder(self, reader: Reader) -> bytes:
        handle = self._new_handle(b"d")
        self._folders[handle] = _Folder(reader.text())
        return bytes([words.HANDLE]) + words.text(handle)

    def _read_folder(self, reader: Reader) -> bytes:
        folder = self._folders.get(reader.text())
        if folder is None:
            return _status(words.NO_SUCH_FILE)
        names, folder.left = folder.left[:_MOST_NAMES], folder.left[_MOST_NAMES:]
        rows = []
        for name in names:
            try:
                info = os.lstat(os.path.join(folder.path, name))
            except OSError:
                continue  # it has gone meanwhile
            line = words.long_name(name, info)
            rows.append(words.text(name) + words.text(line) + words.attributes(info))
        if names and not rows:
            return self._again(folder)
        return _names(rows) if rows else _status(words.EOF)

    def _again(self, folder: _Folder) -> bytes:
        """Nothing of a piece is left: the client takes an empty answer for the end."""
        return _names([]) if folder.left else _status(words.EOF)

    def _make_folder(self, reader: Reader) -> bytes:
        path, wanted = reader.text(), reader.attributes()
        return _done(os.mkdir, path, 0o777 if wanted.mode is None else wanted.mode & 0o7777)

    # what is beyond version 3

    def _extended(self, reader: Reader) -> bytes:
        name = reader.text()
        if name == b"posix-rename@openssh.com":
            return _done(os.rename, reader.text(), reader.text())
        if name == b"hardlink@openssh.com":
            return _done(os.link, reader.text(), reader.text())
        if name == b"fsync@openssh.com":
            return _done(os.fsync, self._file(reader))
        if name == b"lsetstat@openssh.com":
            return _set(reader.text(), reader.attributes(), follow=False)
        if name == b"expand-path@openssh.com":
            return _name(os.path.realpath(self._expanded(reader.text())))
        if name == b"statvfs@openssh.com":
            return _file_system(os.statvfs(reader.text()))
        if name == b"limits@openssh.com":
            limits = struct.pack("!QQQQ", _LONGEST_PACKET, _MOST_DATA, _MOST_DATA, 0)
            return bytes([words.EXTENDED_REPLY]) + limits
        return _status(words.UNSUPPORTED)

    def _expanded(self, path: bytes) -> bytes:
        """A path with a home for its tilde; those of others are left to whoever has a shell."""
        if path == b"~" or path.startswith(b"~/"):
            return self._home + path[1:]
        return path


def _status(code: int, message: str = "") -> bytes:
    data = message.encode("utf-8", "surrogateescape")
    return struct.pack("!BI", words.STATUS, code) + words.text(data) + words.text(b"")


def _done(call: Callable[..., None], *arguments: object) -> bytes:
    call(*arguments)
    return _status(words.OK)


def _attributes(info: os.stat_result) -> bytes:
    return bytes([words.ATTRS]) + words.attributes(info)


def _names(rows: list[bytes]) -> bytes:
    return struct.pack("!BI", words.NAME, len(rows)) + b"".join(rows)


def _name(path: bytes) -> bytes:
    return _names([words.text(path) + words.text(path) + struct.pack("!I", 0)])


def _set(subject: bytes | int, wanted: Attributes, *, follow: bool = True) -> bytes:
    """Have a file, by its path or its descriptor, be what is wanted."""
    if wanted.size is not None:
        os.truncate(subject, wanted.size)
    if wanted.owner is not None:  # first: a new owner takes the set-user-ID bit away
        os.chown(subject, *wanted.owner, follow_symlinks=follow)
    if wanted.mode is not None and follow:  # a link has no mode of its own
        os.chmod(subject, wanted.mode & 0o7777)
    if wanted.times is not None:
        os.utime(subject, wanted.times, follow_symlinks=follow)
    return _status(words.OK)


def _file_system(info: os.statvfs_result) -> bytes:
    return bytes([words.EXTENDED_REPLY]) + struct.pack(
        "!11Q",
        info.f_bsize,
        info.f_frsize,
        info.f_blocks,
        info.f_bfree,
        info.f_bavail,
        info.f_files,
        info.f_ffree,
        info.f_favail,
        info.f_fsid,
        info.f_flag & 3,
        info.f_namemax,
    )


def serve(home: str, reading: int = 0, writing: int = 1) -> None:
    """Answer whoever is behind two descriptors, until there is no more to answer.

    :raises Malformed: what came is no packet.
    """
    server = Server(os.fsencode(home))
    waiting = bytearray()
    while data := os.read(reading, _LONGEST_PACKET):
        waiting += data
        answers = bytearray()
        while len(waiting) >= 4:
            size = int.from_bytes(waiting[:4], "big")
            if size > _LONGEST_PACKET:
                raise Malformed(f"a packet of {size} bytes, more than {_LONGEST_PACKET}")
            if len(waiting) < 4 + size:
                break
            answer = server.answer(bytes(waiting[4 : 4 + size]))
            del waiting[: 4 + size]
            answers += struct.pack("!I", len(answer)) + answer
        view = memoryview(answers)
        while view:
            view = view[os.write(writing, view) :]
