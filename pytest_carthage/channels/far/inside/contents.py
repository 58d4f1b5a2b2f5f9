"""Contents of files: read to the deputy, and written as it sends them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from pytest_carthage.channels.far.inside.jobs import owner_of
from pytest_carthage.channels.far.inside.streams import CHUNK, NUMBER
from pytest_carthage.channels.far.inside.wire import DATA, END, SEEK, TAKEN, WINDOW, frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pytest_carthage.channels.far.inside.streams import Streams
    from pytest_carthage.channels.far.inside.window import FarWindow


#: a length that is a multiple of this suits each disk
_ALIGNED = 4096


def touch(message: Mapping[str, Any]) -> dict[str, Any]:
    """Make sure that a file can be written, with mode and owner; its content stays."""
    path, flags, mode = message["path"], message["flags"], message.get("mode")
    kept = os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    fd = os.open(path, flags & kept | os.O_CLOEXEC | os.O_NONBLOCK, mode or 0o644)
    try:
        if message.get("user"):  # first: a new owner takes the set-user-ID bit away
            os.fchown(fd, *owner_of(message["user"]))
        if mode is not None and flags & os.O_CREAT:
            os.fchmod(fd, mode)
    finally:
        os.close(fd)
    return {}


class FileSource:
    """A file that is read to a stream; holes are left out."""

    def __init__(self, streams: Streams, message: Mapping[str, Any]) -> None:
        """:raises OSError: it is not there, or no file."""
        path = message["path"]
        self._streams = streams
        self.stream = message["streams"][0]
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            info = os.fstat(self.fd)
            if stat.S_ISDIR(info.st_mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            if not stat.S_ISREG(info.st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        except BaseException:
            os.close(self.fd)
            raise
        #: of a file that grows this is what it has now; None: the kernel does not say
        self._size = info.st_size or None
        self._has_holes = info.st_blocks * 512 < info.st_size
        self._credit = WINDOW
        self._at = self._hole = 0
        self._is_waiting = False
        streams.sources[self.stream] = self  # type: ignore[assignment]
        self.reply = {"size": info.st_size, "mode": info.st_mode}
        self.update()

    def credit(self, count: int) -> None:
        """More may be sent."""
        self._credit += count
        self.update()

    def update(self) -> None:
        """Go on, with the next turn, unless there is no room."""
        if not self._is_waiting:
            self._is_waiting = True
            self._streams.loop.later(0, self._go_on)

    def _go_on(self) -> None:
        self._is_waiting = False
        while self.fd >= 0 and self._credit > 0 and not self._streams.port.is_crowded:
            self._step()

    def _step(self) -> None:
        count = min(CHUNK, self._credit)
        try:
            if self._size is not None:
                if self._has_holes and self._at >= self._hole:
                    self._skip()
                count = min(count, self._size - self._at)
                if self._has_holes:
                    count = min(count, self._hole - self._at)
            data = os.pread(self.fd, count, self._at) if count > 0 else b""
        except OSError as error:
            self._streams.reset(self.stream, error.errno or errno.EIO)
            self.close()
            return
        if data:
            self._at += len(data)
            self._credit -= len(data)
            self._streams.port.send(frame(DATA, self.stream, data))
        else:
            self._streams.port.send(frame(END, self.stream))
            self.close()

    def _skip(self) -> None:
        """Go on where there is content; see lseek(2)."""
        try:
            start = os.lseek(self.fd, self._at, os.SEEK_DATA)
            self._hole = os.lseek(self.fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            start = self._hole = self._size or 0  # nothing but a hole follows
        if start != self._at:
            self._at = start
            self._streams.port.send(frame(SEEK, self.stream, NUMBER.pack(start)))

    def close(self) -> None:
        """Read no more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._streams.sources.pop(self.stream, None)


class FileSink:
    """A file that is written what comes; its end is answered when all is there."""

    def __init__(
        self,
        streams: Streams,
        window: FarWindow,
        message: Mapping[str, Any],
        done: Callable[[BaseException | None], None],
    ) -> None:
        self._streams = streams
        self._window = window
        self._path = message["path"]
        self.stream = message["streams"][0]
        self._done = done
        flags = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        self.fd = os.open(self._path, flags)
        #: whether it may take content from where it lies, as files on a disk do
        self._takes_directly = True
        self._given = 0
        self._size = message["size"]
        streams.sinks[self.stream] = self  # type: ignore[assignment]

    def data(self, data: bytes) -> None:
        """Write it."""
        if self.fd < 0:
            return
        if not self._written(data):
            return
        self._given += len(data)
        if self._given >= WINDOW // 4:
            self._streams.grant(self.stream, self._given)
            self._given = 0

    def _written(self, data: bytes | memoryview) -> bool:
        """Write it; returns whether that was possible."""
        try:
            while len(data):
                data = data[os.write(self.fd, data) :]
        except OSError as error:
            self._finish(error)
            return False
        return True

    def shown(self, place: int, count: int) -> None:
        """Write what stands in the window."""
        if self.fd < 0:
            return
        try:
            data = self._given_directly(self._window.read(place, count))
        except OSError as error:
            self._finish(error)
            return
        if self._written(data):
            self._streams.port.send(frame(TAKEN, self.stream, NUMBER.pack(place)))

    def _given_directly(self, data: memoryview) -> memoryview:
        """Have the disk fetch content from where it lies; returns what it does not take like that.

        A copy in the kernel's cache, and its way to the disk, takes an emulated processor five
        times as long as the rest of it all.
        """
        whole = len(data) - len(data) % _ALIGNED
        if not (self._takes_directly and whole):
            return data
        done = 0
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_DIRECT)
            while done < whole:
                done += os.write(self.fd, data[done:whole])
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            # it is no file, its file system has no such way, or it goes on amid a sector
            self._takes_directly = False
        finally:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags)
        return data[done:]

    def seek(self, offset: int) -> None:
        """A hole follows, up to there."""
        if self.fd >= 0:
            os.lseek(self.fd, offset, os.SEEK_SET)

    def end(self) -> None:
        """All has come."""
        if self.fd < 0:
            return
        try:
            if self._size > os.fstat(self.fd).st_size:
                os.ftruncate(self.fd, self._size)
        except OSError as error:
            self._finish(error)
        else:
            self._finish(None)

    def _finish(self, error: OSError | None) -> None:
        if error is not None:
            error = OSError(error.errno, error.strerror, self._path)
        self.close()
        self._done(error)

    def close(self) -> None:
        """Write no more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._streams.sinks.pop(self.stream, None)
