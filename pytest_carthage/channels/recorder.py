"""The recorder: the process of an environment that has the serial consoles of its machines.

It listens where a machine's serial port connects to, so that nothing is lost that is printed, and
nobody who looks at a console can keep its machine waiting. What is printed goes to the machine's
log (:mod:`.console_log`), and to whoever is attached; what they type goes to the machine. Several
may be attached: all see the same, and each one can type.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_carthage.channels.console_log import ConsoleLog
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Reply, Server

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Recorder", "serve"]

_PIECE = 1 << 16
#: bytes of what was printed last, for who attaches
_LAST = 64 << 10
#: bytes that wait for somebody who does not read; more are left out
_WAITING = 256 << 10
#: bytes that were typed and that a machine has not taken; nothing more is read until it has
_TYPED = 4 << 10


class _Stream:
    """A socket that is read and written without waiting for it.

    :param heard: is given what comes.
    :param ended: the other end is gone.
    """

    def __init__(
        self,
        server: Server,
        sock: socket.socket,
        heard: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._server = server
        self._sock = sock
        self._heard = heard
        self._ended = ended
        self._waiting = bytearray()
        #: bytes that were left out, which is to be told
        self._left_out = 0
        self._reads = True
        server.watch(sock.fileno(), self._ready)

    @property
    def waiting(self) -> int:
        """Bytes that the other end has not taken."""
        return len(self._waiting)

    def post(self, data: bytes) -> None:
        """Send it as soon as the other end takes it; what that never takes is left out."""
        if len(self._waiting) + len(data) > _WAITING:
            self._left_out += len(data)
            return
        if self._left_out:
            self._waiting += b"\r\n[%d bytes are left out here]\r\n" % self._left_out
            self._left_out = 0
        self._waiting += data
        self._flush()

    def read(self, reads: bool) -> None:
        """Take what comes, or leave it where it is."""
        if reads != self._reads:
            self._reads = reads
            self._watch()

    def close(self) -> None:
        """Let go of it."""
        if self._sock.fileno() >= 0:
            if self._is_watched:
                self._server.unwatch(self._sock.fileno())
            self._sock.close()

    @property
    def _is_watched(self) -> bool:
        return self._sock.fileno() in self._server.selector.get_map()

    def take(self) -> bool:
        """Take a piece of what came, or the end; returns whether there was any."""
        try:
            data = self._sock.recv(_PIECE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._heard(data)
        else:
            self._end()
        return bool(data)

    def _ready(self) -> None:
        if self._reads:
            self.take()
        if self._sock.fileno() >= 0:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: self._sock.send(self._waiting)]
        except BlockingIOError:
            pass
        except OSError:  # told when it is read
            self._waiting.clear()
        self._watch()

    def _watch(self) -> None:
        """Be called when there is something to be done."""
        events = selectors.EVENT_READ * self._reads | selectors.EVENT_WRITE * bool(self._waiting)
        selector, number = self._server.selector, self._sock.fileno()
        if self._is_watched:
            if not events:
                selector.unregister(number)
            elif selector.get_key(number).events != events:
                selector.modify(number, events, self._ready)
        elif events:
            selector.register(number, events, self._ready)

    def _end(self) -> None:
        self.close()
        self._ended()


class _Console:
    """The serial console of one machine."""

    def __init__(self, server: Server, path: str, log: str) -> None:
        self.path = path
        self._server = server
        self._log = ConsoleLog(log)
        self._last = bytearray()
        self._machine: _Stream | None = None
        self._attached: list[_Stream] = []
        self._listening = _listen(path)
        self._listening.setblocking(False)
        server.watch(self._listening.fileno(), self._accept)

    @property
    def is_connected(self) -> bool:
        """Whether its machine is there."""
        return self._machine is not None

    @property
    def attached(self) -> int:
        """How many are attached."""
        return len(self._attached)

    def attach(self, lines: int) -> int:
        """Attach somebody, who is given the last lines first; returns their end."""
        ours, theirs = socket.socketpair()
        stream = _Stream(self._server, ours, self._typed, lambda: self._detach(stream))
        self._attached.append(stream)
        stream.post(_last_lines(bytes(self._last), lines))
        return theirs.detach()

    def settle(self) -> None:
        """Take all that the machine has printed by now."""
        while self._machine is not None and self._machine.take():
            pass

    def close(self) -> None:
        """Let go of it: the machine is gone."""
        self._server.unwatch(self._listening.fileno())
        self._listening.close()
        if self._machine is not None:
            self._machine.close()
        for stream in self._attached:
            stream.close()
        self._log.close()
        _unlink(self.path)

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except OSError:
            return  # it has left again
        if self._machine is not None:  # one that is started again, before the end was seen
            self._machine.close()
        self._machine = _Stream(self._server, sock, self._printed, self._gone)

    def _printed(self, data: bytes) -> None:
        self._log.write(data)
        self._last += data
        del self._last[:-_LAST]
        for stream in self._attached:
            stream.post(data)

    def _gone(self) -> None:
        self._machine = None
        self._regulate()

    def _typed(self, data: bytes) -> None:
        if self._machine is not None:
            self._machine.post(data)
            self._regulate()

    def _regulate(self) -> None:
        """Read what is typed only while the machine takes it."""
        if self._machine is None or self._machine.waiting < _TYPED:
            reads = True
        else:
            reads = False
            self._server.later(0.02, self._regulate)
        for stream in self._attached:
            stream.read(reads)

    def _detach(self, stream: _Stream) -> None:
        if stream in self._attached:
            self._attached.remove(stream)


def _last_lines(data: bytes, count: int) -> bytes:
    """The end of what was printed: that many lines, and what was begun after them."""
    return b"\n".join(data.split(b"\n")[-count - 1 :]) if count else b""


class Recorder:
    """Answers who asks for consoles, see :mod:`pytest_carthage.fabric.wire.frames`."""

    def __init__(self) -> None:
        self.server = Server()
        self._consoles: dict[str, _Console] = {}
        self.server.handlers = {
            "record": self._record,
            "forget": self._forget,
            "settle": self._settle,
            "console": self._console,
        }

    def _record(self, connection: Connection, message: Message, fds: list[int]) -> Reply:
        name, path = message["machine"], message["path"]
        if name not in self._consoles:
            self._consoles[name] = _Console(self.server, path, message["log"])
        return Reply()

    def _forget(self, connection: Connection, message: Message, fds: list[int]) -> Reply:
        console = self._consoles.pop(message["machine"], None)
        if console is not None:
            console.close()
        return Reply()

    def _settle(self, connection: Connection, message: Message, fds: list[int]) -> Reply:
        console = self._consoles.get(message["machine"])
        if console is not None:
            console.settle()
        return Reply()

    def _console(self, connection: Connection, message: Message, fds: list[int]) -> Reply:
        console = self._consoles.get(message["machine"])
        if console is None:
            raise OSError(errno.ENOENT, _nobody(message["machine"], self._consoles))
        others = console.attached
        end = console.attach(message["lines"])
        return Reply((end,), is_connected=console.is_connected, others=others)


def _nobody(machine: str, having: Iterable[str]) -> str:
    names = ", ".join(having) or "none"
    return f"machine {machine!r} has no serial console here; those that have one: {names}"


def _listen(path: str) -> socket.socket:
    """Listen in place of a recorder that there was."""
    _unlink(path)
    return frames.listen(path)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108  a lean process has no paths


def serve(path: str) -> None:
    """Serve on a UNIX socket until the process is ended: entry of the recorder."""
    recorder = Recorder()
    recorder.server.listen(_listen(path))
    recorder.server.run()
