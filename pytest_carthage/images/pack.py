"""Folders as a tar: the same files give the same bytes. Run as a program of its own.

So it can be run where the users of a user namespace are seen as they are inside, is ended
when it is in the way, and leaves the interpreter that waits for it alone. Standard library
only. The request is one line of JSON on standard input, the answer one on standard output; it
gives up when standard input ends.

Sources: tar(5) and pax(1) for the format, the OCI image specification's layer.md for whiteouts,
the kernel's overlayfs document for how an upper directory holds them.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import stat
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

_BLOCK = 512
_CHUNK = 1 << 20
_DICTIONARY = 32 << 10  # as much as deflate looks back, see RFC 1951
_LEVEL = 6
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_MOST_ID = 0o7777777
_MOST_SIZE = 0o77777777777
_OVERLAY = ("trusted.overlay.", "user.overlay.")
#: what overlayfs leaves out of an upper directory when it is told to
_BY_REFERENCE = ("redirect", "metacopy")


class Unpackable(Exception):
    """Something in a folder cannot be in the tar."""


class _Sink:
    """Takes bytes in a thread of its own, in order: both hashing and writing let others run."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._queue: queue.Queue[bytes | None] = queue.Queue(8)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (data := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._take(data)
                except BaseException as error:  # raised again by whoever feeds it
                    self._error = error

    def put(self, data: bytes) -> None:
        """Hand over bytes.

        :raises OSError: those before could not be written.
        """
        if self._error is not None:
            raise self._error
        self._queue.put(data)

    def close(self) -> None:
        """Wait until all is done."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error


class _Gzip:
    """One gzip member of what is put in, compressed by all processors; see RFC 1952."""

    def __init__(self, out: Callable[[bytes], object]) -> None:
        from concurrent.futures import Future, ThreadPoolExecutor

        self._out = out
        self._workers = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._workers)
        self._pending: list[Future[bytes]] = []
        self._rest = bytearray()
        self._before = b""
        self._crc = 0
        self._size = 0
        out(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")

    def put(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._rest += data
        while len(self._rest) >= _CHUNK:
            self._start(bytes(self._rest[:_CHUNK]), zlib.Z_SYNC_FLUSH)
            del self._rest[:_CHUNK]

    def _start(self, data: bytes, flush: int) -> None:
        self._pending.append(self._pool.submit(_deflate, data, self._before, flush))
        self._before = data[-_DICTIONARY:]
        while len(self._pending) > 2 * self._workers:
            self._out(self._pending.pop(0).result())

    def close(self) -> None:
        self._start(bytes(self._rest), zlib.Z_FINISH)
        for one in self._pending:
            self._out(one.result())
        self._pool.shutdown()
        self._out(self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))


def _deflate(data: bytes, before: bytes, flush: int) -> bytes:
    worker = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    return worker.compress(data) + worker.flush(flush)


class Tar:
    """Writes a tar of folders, in the order of the names' bytes.

    :param epoch: nothing is newer than this (seconds); None: as it is.
    :param is_layer: deletions are told, as a layer of an image does; else the folders are
        merged as an overlay of them would be.
    """

    def __init__(
        self, out: Callable[[bytes], object], *, epoch: int | None, is_layer: bool
    ) -> None:
        self._out = out
        self._epoch = epoch
        self._is_layer = is_layer
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
        self._write(bytes(2 * _BLOCK))
        self._flush()

    def _walk(self, name: bytes, folders: list[bytes]) -> None:
        for base, entries in self._merged(folders):
            path = name + base
            top = entries[0]
            info = top.stat(follow_symlinks=False)
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                if self._is_layer:
                    self._empty(name + _WHITEOUT + base, info)
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
            if self._is_layer and is_opaque(top.path):
                self._empty(path + _OPAQUE, info)
            self._walk(path, [one.path for one in entries])

    def _merged(self, folders: list[bytes]) -> Iterator[tuple[bytes, list[os.DirEntry[bytes]]]]:
        """Each name with what is to be seen of it: one that is no folder, or folders."""
        found: dict[bytes, list[os.DirEntry[bytes]]] = {}
        closed: set[bytes] = set()
        for folder in folders:
            with os.scandir(folder) as listing:
                for entry in listing:
                    name = entry.name
                    if name in closed:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        found.setdefault(name, []).append(entry)
                        if len(folders) > 1 and is_opaque(entry.path):
                            closed.add(name)
                    else:
                        closed.add(name)
                        found.setdefault(name, [entry])
        return iter(sorted(found.items()))

    def _entry(self, name: bytes, path: bytes, info: os.stat_result) -> None:
        records: dict[bytes, bytes] = {}
        kind, size, link = b"0", 0, b""
        device = (0, 0)
        mode = info.st_mode
        if stat.S_ISREG(mode):
            if info.st_nlink > 1:
                known = self._linked.setdefault((info.st_dev, info.st_ino), name)
                if known != name:
                    self._header(name, b"1", info, 0, known, device, {})
                    return
            size = info.st_size
        elif stat.S_ISLNK(mode):
            kind, link = b"2", os.readlink(path)  # noqa: PTH115
        elif stat.S_ISDIR(mode):
            kind = b"5"
        elif stat.S_ISFIFO(mode):
            kind = b"6"
        else:
            kind = b"3" if stat.S_ISCHR(mode) else b"4"
            device = (os.major(info.st_rdev), os.minor(info.st_rdev))
        if kind != b"2":
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
        self._header(name, kind, info, size, link, device, records)
        if size:
            self._content(name, path, size)

    def _empty(self, name: bytes, info: os.stat_result) -> None:
        """An empty file that tells of a deletion."""
        self.entries += 1
        told = list(info[:10])
        told[0], told[4], told[5] = stat.S_IFREG, 0, 0
        self._header(name, b"0", os.stat_result(told), 0, b"", (0, 0), {})

    def _header(
        self,
        name: bytes,
        kind: bytes,
        info: os.stat_result,
        size: int,
        link: bytes,
        device: tuple[int, int],
        records: dict[bytes, bytes],
    ) -> None:
        mtime = max(0, int(info.st_mtime))
        if self._epoch is not None:
            mtime = min(mtime, self._epoch)
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
        told_size = size
        if size > _MOST_SIZE:
            records[b"size"], told_size = b"%d" % size, 0
        if mtime > _MOST_SIZE:
            records[b"mtime"], mtime = b"%d" % mtime, _MOST_SIZE
        if records:
            text = b"".join(_record(key, records[key]) for key in sorted(records))
            head = _block(b"PaxHeaders", 0o644, 0, 0, len(text), mtime, b"x", b"", b"", (0, 0))
            self._write(head + text + bytes(-len(text) % _BLOCK))
        bits = stat.S_IMODE(info.st_mode)
        self._write(_block(short, bits, uid, gid, told_size, mtime, kind, link, prefix, device))

    def _content(self, name: bytes, path: bytes, size: int) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            left = size
            while left:
                data = os.read(fd, min(left, _CHUNK))
                if not data:
                    raise Unpackable(f"/{os.fsdecode(name)} became shorter while it was read")
                self._write(data)
                left -= len(data)
        finally:
            os.close(fd)
        if size % _BLOCK:
            self._write(bytes(-size % _BLOCK))

    def _write(self, data: bytes) -> None:
        self.size += len(data)
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._out(bytes(self._buffer))
        self._buffer.clear()


def is_opaque(path: bytes) -> bool:
    """Whether a folder of an upper directory hides those of the same name below."""
    for prefix in _OVERLAY:
        try:
            if os.getxattr(path, f"{prefix}opaque", follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _is_of_file(attribute: str) -> bool:
    """Whether an attribute belongs to the file rather than to this host."""
    return attribute == "security.capability" or attribute.startswith(
        ("user.", "system.posix_acl_")
    )


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


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def pack(request: dict[str, Any], out: int) -> dict[str, Any]:
    """Do what was asked for.

    :param request: ``trees`` (the top first), ``epoch``, ``layer``, ``hash``, ``gzip``.
    :param out: descriptor that is written to; negative: only looked at.
    """
    plain = hashlib.sha256() if request["hash"] else None
    packed = hashlib.sha256()
    written = 0

    def write_packed(data: bytes) -> None:
        nonlocal written
        packed.update(data)
        written += len(data)
        _write_all(out, data)

    sinks = [] if plain is None else [_Sink(plain.update)]
    compressor = _Gzip(write_packed) if request["gzip"] else None
    if compressor is not None:
        sinks.append(_Sink(compressor.put))
    elif out >= 0:
        sinks.append(_Sink(lambda data: _write_all(out, data)))

    def put(data: bytes) -> None:
        for sink in sinks:
            sink.put(data)

    tar = Tar(put, epoch=request["epoch"], is_layer=request["layer"])
    sys.setrecursionlimit(10_000)  # a path may have 2,000 folders
    tar.add([os.fsencode(tree) for tree in request["trees"]])
    tar.end()
    for sink in sinks:
        sink.close()
    if compressor is not None:
        compressor.close()
    return {
        "digest": None if plain is None else f"sha256:{plain.hexdigest()}",
        "size": tar.size,
        "entries": tar.entries,
        "packed_digest": f"sha256:{packed.hexdigest()}" if request["gzip"] else None,
        "packed_size": written if request["gzip"] else tar.size,
    }


def _end_with_owner() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> None:
    """Answer one request."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(0, 1)
        if not data:
            return
        line += data
    threading.Thread(target=_end_with_owner, daemon=True).start()
    request = json.loads(line)
    try:
        answer = pack(request, request["out"])
    except Unpackable as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"error": str(error), "errno": error.errno}
    os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
