"""A small loop that answers frames: shared by the supervisor, the fabric and the agents."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import wire

if TYPE_CHECKING:
    import socket

#: answers a request; None as a reply means: answered later, or handed over
Handler = Callable[["Connection", wire.Message, list[int]], "Reply | None"]


class Reply:
    """What a handler answers: fields, and descriptors that are closed once they are sent."""

    def __init__(self, fds: tuple[int, ...] = (), /, **fields: Any) -> None:
        self.fds = fds
        self.fields = fields


class Connection:
    """One client."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        #: called once when the client is gone
        self.on_close: list[Callable[[], None]] = []

    def answer(self, request: int, reply: Reply) -> None:
        """Send a reply; a client that is gone meanwhile is closed."""
        self._send({"id": request, "ok": True, **reply.fields}, reply.fds)

    def refuse(self, request: int, error: BaseException | str) -> None:
        """Send a refusal."""
        number = error.errno if isinstance(error, OSError) else None
        text = str(error) or type(error).__name__
        self._send({"id": request, "ok": False, "error": text, "errno": number}, ())

    def _send(self, message: wire.Message, fds: tuple[int, ...]) -> None:
        try:
            wire.send(self.sock, message, fds)
        except OSError:
            self.server.drop(self)
        finally:
            for fd in fds:
                os.close(fd)


class Server:
    """Waits for clients, frames, children and descriptors, in one thread."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.handlers: dict[str, Handler] = {}
        #: called with each child that ended and its wait status
        self.on_child: Callable[[int, int], None] = lambda pid, status: None
        self.running = True
        #: seconds between calls of ``on_idle``; None: never
        self.tick_s: float | None = None
        self.on_idle: Callable[[], None] = lambda: None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._wake_read, self._reap)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def own_descriptors(self) -> list[int]:
        """Descriptors that a forked child has to close."""
        fds = [key.fd for key in self.selector.get_map().values()]
        if isinstance(self.selector, selectors.EpollSelector):
            fds.append(self.selector.fileno())
        return [*fds, self._wake_write]

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        """Call a function whenever a descriptor is readable."""
        self.selector.register(fd, selectors.EVENT_READ, readable)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor."""
        self.selector.unregister(fd)

    def listen(self, sock: socket.socket) -> None:
        """Accept clients on a listening socket."""

        def accept() -> None:
            client, _ = sock.accept()
            self.adopt(client)

        self.watch(sock.fileno(), accept)

    def adopt(self, sock: socket.socket) -> Connection:
        """Serve a connected socket."""
        sock.settimeout(30.0)
        connection = Connection(sock, self)
        self.selector.register(sock.fileno(), selectors.EVENT_READ, lambda: self._serve(connection))
        return connection

    def release(self, connection: Connection) -> socket.socket:
        """Stop serving a connection without closing it."""
        self.selector.unregister(connection.sock.fileno())
        return connection.sock

    def drop(self, connection: Connection) -> None:
        """Close a connection and tell who wanted to know."""
        if connection.sock.fileno() < 0:
            return
        self.release(connection)
        connection.sock.close()
        for call in connection.on_close:
            call()

    def _serve(self, connection: Connection) -> None:
        try:
            message, fds = wire.receive(connection.sock)
        except (OSError, ValueError):
            self.drop(connection)
            return
        request = message.get("id", 0)
        try:
            handler = self.handlers.get(message.get("op", ""))
            if handler is None:
                raise LookupError(f"unknown operation {message.get('op')!r}")
            reply = handler(connection, message, fds)
        except Exception as error:  # the client is told; this process must go on
            known = isinstance(error, (OSError, LookupError, ValueError))
            connection.refuse(request, error if known else f"{type(error).__name__}: {error}")
        else:
            if reply is not None:
                connection.answer(request, reply)
        finally:
            for fd in fds:
                try:
                    os.close(fd)
                except OSError:
                    pass

    def _reap(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.on_child(pid, status)

    def stop(self) -> None:
        """Have :meth:`run` return; safe in a signal handler."""
        self.running = False

    def run(self) -> None:
        """Serve until ``running`` is false."""
        while self.running:
            for key, _ in self.selector.select(self.tick_s):
                if key.fd in self.selector.get_map():
                    key.data()
            if self.tick_s is not None:
                self.on_idle()
