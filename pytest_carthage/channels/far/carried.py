"""What is carried between clients' descriptors and streams of an agent far away."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import socket
import stat
from collections import deque
from collections.abc import Callable

from pytest_carthage.channels.far.inside.streams import PLACE
from pytest_carthage.channels.far.inside.wire import (
    CREDIT,
    DATA,
    END,
    MOST,
    RESET,
    SEEK,
    SHOWN,
    WINDOW,
)
from pytest_carthage.channels.far.link import Link
from pytest_carthage.channels.far.window import PIECE
from pytest_carthage.fabric.wire.server import Server

__all__ = ["Content", "Filled", "Inlet", "Outlet", "opened_anew"]


#: what is less goes over the stream as fast
_WORTH = 128 << 10


#: what a file may have whose size the kernel there does not tell, as those in /proc
_MOST_UNTOLD = 64 << 20


def opened_anew(fd: int) -> tuple[int, bool]:
    """A descriptor of one's own for what a client has open, and whether it never blocks.

    A pipe or a terminal is opened once more: whether it blocks is not to change for the client.

    :raises OSError: nobody has the other end any more.
    """
    info = os.fstat(fd)
    is_terminal = stat.S_ISCHR(info.st_mode) and os.isatty(fd)
    if not (stat.S_ISFIFO(info.st_mode) or is_terminal):
        if stat.S_ISSOCK(info.st_mode):
            with socket.socket(fileno=os.dup(fd)) as sock:
                made = sock.dup()
            return made.detach(), False
        return os.dup(fd), False
    import fcntl

    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    flags = access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return os.open(f"/proc/self/fd/{fd}", flags), True


class _End:
    """One end of a stream; which of these mean something is up to its kind."""

    def __init__(self, link: Link, stream: int) -> None:
        self._link = link
        self.stream = stream
        link.carried[stream] = self

    def data(self, data: bytes) -> None:
        """Something has come."""

    def seek(self, offset: int) -> None:
        """What comes next is of that place."""

    def end(self) -> None:
        """Nothing more comes."""

    def credit(self, count: int) -> None:
        """More may be sent."""

    def taken(self, place: int) -> None:
        """What stood at a place in the window has been taken."""

    def reset(self, number: int) -> None:
        """The other end is closed."""
        self.close()

    def update(self) -> None:
        """There is room to send again, or none any more."""

    def close(self) -> None:
        """Nobody is there any more."""
        self._link.carried.pop(self.stream, None)


class _Watched(_End):
    """One end that is a descriptor of this process."""

    def __init__(self, link: Link, server: Server, stream: int, fd: int) -> None:
        super().__init__(link, stream)
        self._server = server
        self.fd = fd
        info = os.fstat(fd)
        #: by which a client knows its pipe
        self.inode = info.st_ino
        self._is_pipe = stat.S_ISFIFO(info.st_mode)
        self._is_socket = stat.S_ISSOCK(info.st_mode)
        #: files and some devices are always ready, and cannot be watched
        self._is_file = stat.S_ISREG(info.st_mode) or stat.S_ISBLK(info.st_mode)
        self._events = 0

    def _watch(self, events: int) -> None:
        if events == self._events or self._is_file:
            return
        selector = self._server.selector
        try:
            if not events:
                selector.unregister(self.fd)
            elif self._events:
                selector.modify(self.fd, events, self._ready)
            else:
                selector.register(self.fd, events, self._ready)
        except PermissionError:  # epoll(7) takes no such device
            self._is_file = True
            events = 0
        self._events = events

    def _ready(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close the descriptor."""
        super().close()
        if self.fd >= 0:
            self._watch(0)
            os.close(self.fd)
            self.fd = -1


class Inlet(_Watched):
    """A descriptor that is read to a stream, as far as the other end takes it."""

    def __init__(
        self,
        link: Link,
        server: Server,
        stream: int,
        fd: int,
        on_end: Callable[[], None] | None = None,
        back: Outlet | None = None,
    ) -> None:
        """Begin.

        :param back: the other way of a connection: if it is closed as a whole, that is, too.
        """
        super().__init__(link, server, stream, fd)
        self._credit = WINDOW
        self._on_end = on_end
        self._back = back
        self.update()

    def credit(self, count: int) -> None:
        """More may be sent."""
        self._credit += count
        self.update()

    def update(self) -> None:
        """There is room to send again, or none any more."""
        is_wanted = self.fd >= 0 and self._credit > 0 and not self._link.is_crowded
        self._watch(selectors.EVENT_READ if is_wanted else 0)
        if self._is_file and is_wanted:
            self._server.soon(self._ready)

    def _ready(self) -> None:
        if self.fd < 0 or self._credit <= 0 or self._link.is_crowded:
            return
        count = min(MOST, self._credit)
        try:
            if self._is_socket:
                with socket.socket(fileno=os.dup(self.fd)) as sock:
                    data = sock.recv(MOST, socket.MSG_DONTWAIT)
            else:
                data = os.read(self.fd, count)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._link.send(END, self.stream)
            if self._back is not None and self._is_hung_up():
                self._back.broken()
            self.close()
            return
        self._credit -= len(data)
        self._link.send(DATA, self.stream, data)
        if self._credit <= 0 or self._is_file:
            self.update()

    def _is_hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, 0)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Nobody is there any more."""
        super().close()
        call, self._on_end = self._on_end, None
        if call is not None:
            call()


class Outlet(_Watched):
    """A descriptor that is written what comes on a stream."""

    def __init__(
        self,
        link: Link,
        server: Server,
        stream: int,
        fd: int,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(link, server, stream, fd)
        self._parts: deque[bytes] = deque()
        self._waiting = self._given = 0
        self._is_ended = False
        self._on_end = on_end
        self._on_flushed: list[Callable[[], None]] = []
        self._rest()

    def when_flushed(self, call: Callable[[], None]) -> None:
        """Call a function when all that has come is written, or nobody reads it any more."""
        if self._parts and self.fd >= 0:
            self._on_flushed.append(call)
        else:
            call()

    def data(self, data: bytes) -> None:
        """Something has come."""
        if self.fd < 0:
            return
        self._waiting += len(data)
        if self._waiting > 2 * WINDOW:
            raise ValueError("more than it was granted")
        self._parts.append(data)
        if len(self._parts) == 1:
            self._write()

    def end(self) -> None:
        """Nothing more comes."""
        self._is_ended = True
        if not self._parts:
            self.close()

    def _ready(self) -> None:
        if self._parts:
            self._write()
        elif self._is_pipe:  # that it is ready to be read means that nobody reads from it
            self.broken()

    def _write(self) -> None:
        try:
            while self._parts:
                data = self._parts[0]
                count = self._write_some(data)
                self._waiting -= count
                self._given += count
                if count == len(data):
                    self._parts.popleft()
                else:
                    self._parts[0] = data[count:]
        except BlockingIOError:
            self._watch(selectors.EVENT_WRITE)
        except OSError:
            self.broken()
            return
        if self._given >= WINDOW // 4:
            self._link.send_number(CREDIT, self.stream, self._given)
            self._given = 0
        if self._parts:
            return
        self._flushed()
        if self._is_ended:
            self.close()
        else:
            self._rest()

    def _write_some(self, data: bytes) -> int:
        if self._is_socket:
            with socket.socket(fileno=os.dup(self.fd)) as sock:
                return sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self.fd, data)

    def _rest(self) -> None:
        self._watch(selectors.EVENT_READ if self._is_pipe else 0)

    def broken(self) -> None:
        """Nobody reads it any more."""
        self._link.send_number(RESET, self.stream, errno.EPIPE)
        self.close()

    def _flushed(self) -> None:
        calls, self._on_flushed = self._on_flushed, []
        for call in calls:
            call()

    def close(self) -> None:
        """Nobody is there any more."""
        if self.fd >= 0 and self._is_socket:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.fd)) as sock:
                sock.shutdown(socket.SHUT_WR)
        super().close()
        self._parts.clear()
        self._flushed()
        call, self._on_end = self._on_end, None
        if call is not None:
            call()


class Filled(_End):
    """A file of this process that is filled with what comes."""

    def __init__(
        self, link: Link, stream: int, fd: int, done: Callable[[OSError | None], None]
    ) -> None:
        super().__init__(link, stream)
        self._fd = fd
        self._at = self._given = self._sum = 0
        #: bytes; what brings more is no file of the size that was told
        self.most = _MOST_UNTOLD
        self._done: Callable[[OSError | None], None] | None = done

    def data(self, data: bytes) -> None:
        """Something has come."""
        self._sum += len(data)
        if self._sum > self.most:
            raise ValueError("a file that is larger than it was said to be")
        view = memoryview(data)
        try:
            while view:
                count = os.pwrite(self._fd, view, self._at)
                self._at, view = self._at + count, view[count:]
        except OSError as error:
            self._link.send_number(RESET, self.stream, error.errno or errno.EIO)
            self._finish(error)
            return
        self._given += len(data)
        if self._given >= WINDOW // 4:
            self._link.send_number(CREDIT, self.stream, self._given)
            self._given = 0

    def seek(self, offset: int) -> None:
        """What comes next is of that place."""
        self._at = offset

    def end(self) -> None:
        """Nothing more comes."""
        if self._at > os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, self._at)
        self._finish(None)

    def reset(self, number: int) -> None:
        """The other end is closed."""
        self._finish(OSError(number, os.strerror(number)))

    def close(self) -> None:
        """Nobody is there any more."""
        self._finish(OSError(errno.EIO, "its agent is gone"))

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._done = None
        if self.stream in self._link.carried:
            self._link.send_number(RESET, self.stream, 0)
        super().close()

    def _finish(self, error: OSError | None) -> None:
        super().close()
        done, self._done = self._done, None
        if done is not None:
            done(error)


class Content(_End):
    """A file of this process whose content is sent, but for its holes."""

    def __init__(self, link: Link, server: Server, stream: int, fd: int) -> None:
        """:param fd: is closed when all is sent."""
        super().__init__(link, stream)
        self._server = server
        self._fd = fd
        info = os.fstat(fd)
        self._size = info.st_size
        self._at = self._hole = 0
        self._credit = WINDOW
        self._is_waiting = self._is_over = False
        #: places in the window
        self._shown: set[int] = set()
        self.update()

    def credit(self, count: int) -> None:
        """More may be sent."""
        self._credit += count
        self.update()

    def update(self) -> None:
        """There is room to send again, or none any more."""
        if not self._is_waiting:
            self._is_waiting = True
            self._server.soon(self._go_on)

    def _go_on(self) -> None:
        self._is_waiting = False
        while self._fd >= 0 and self._credit > 0 and not self._link.is_crowded:
            if self._at >= self._hole:
                self._skip()
            if self._link.window.is_open and self._hole - self._at >= _WORTH:
                if not self._show():
                    return
                continue
            data = os.pread(self._fd, min(MOST, self._credit, self._hole - self._at), self._at)
            if not data:
                self._link.send(END, self.stream)
                os.close(self._fd)
                self._fd, self._is_over = -1, True
                if not self._shown:
                    self.close()
                return
            self._at += len(data)
            self._credit -= len(data)
            self._link.send(DATA, self.stream, data)

    def _show(self) -> bool:
        """Send the next part through the window; returns whether there was room."""
        window = self._link.window
        count = min(PIECE, self._hole - self._at)
        place = window.put(self._fd, self._at, count)
        if place is None:
            window.when_free(self.update)
            return False
        self._at += count
        self._shown.add(place)
        self._link.send(SHOWN, self.stream, PLACE.pack(place, count))
        return True

    def taken(self, place: int) -> None:
        """What stood at a place in the window has been taken."""
        if place not in self._shown:
            raise ValueError("it took what was not shown")
        self._shown.discard(place)
        self._link.window.free(place)
        if self._is_over and not self._shown:
            self.close()

    def _skip(self) -> None:
        """Go on where there is content; see lseek(2)."""
        try:
            start = os.lseek(self._fd, self._at, os.SEEK_DATA)
            self._hole = os.lseek(self._fd, start, os.SEEK_HOLE)
        except OSError:  # nothing but a hole follows, if anything
            start = self._hole = self._size
        if start != self._at:
            self._at = start
            self._link.send_number(SEEK, self.stream, start)

    def close(self) -> None:
        """Nobody is there any more."""
        super().close()
        shown, self._shown = self._shown, set()
        for place in shown:
            self._link.window.free(place)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
