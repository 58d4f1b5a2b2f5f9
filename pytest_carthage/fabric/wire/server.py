"""A small loop that answers frames: shared by the supervisor, the fabric and the agents."""

from __future__ import annotations

import errno
import heapq
import os
import selectors
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_carthage import clock
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.steps import Steps, Wait

if TYPE_CHECKING:
    import socket

T = TypeVar("T")

#: answers a request; None as a reply means: answered later, or handed over
#: steps answer when they are done
Handler = Callable[["Connection", frames.Message, list[int]], "Reply | Steps[Reply | None] | None"]


class Reply:
    """What a handler answers: fields, and descriptors that are closed once they are sent."""

    def __init__(self, fds: tuple[int, ...] = (), /, **fields: Any) -> None:
        self.fds = fds
        self.fields = fields


class Connection:
    """One client."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.server = server
        #: called once when the client is gone
        self.on_close: list[Callable[[], None]] = []
        #: why everything that it asks is refused; None: it is not
        self.refusal: BaseException | None = None
        self._decoder = frames.Decoder()
        self._outbox = frames.Outbox(sock)

    def answer(self, request: int, reply: Reply) -> None:
        """Send a reply; a client that is gone meanwhile is closed."""
        self._send({"id": request, "ok": True, **reply.fields}, reply.fds)

    def refuse(self, request: int, error: BaseException | str) -> None:
        """Send a refusal."""
        number = error.errno if isinstance(error, OSError) else None
        text = str(error) or type(error).__name__
        self._send({"id": request, "ok": False, "error": text, "errno": number}, ())

    def _send(self, message: frames.Message, fds: tuple[int, ...]) -> None:
        try:
            if self.sock.fileno() < 0:
                return
            try:
                data = frames.pack(message, fds)
            except ValueError as error:
                self.refuse(message["id"], f"its answer does not fit: {error}")
                return
            try:
                self._outbox.post(data, fds)
            except frames.Crowded as error:
                self.refuse(message["id"], error)
                return
            if self._outbox:
                self.server.await_room(self)
        except OSError:
            self.server.drop(self)
        finally:
            frames.close_all(fds)

    def receive(self) -> tuple[frames.Message, list[int]] | None:
        """The next request; None: it is not whole yet.

        :raises OSError: the client is gone, or sent what is none.
        """
        return self._decoder.read(self.sock)

    def flush(self) -> bool:
        """Send what waits to be sent; returns whether nothing is left.

        :raises OSError: the client is gone.
        """
        self._outbox.flush()
        return not self._outbox

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._outbox

    def close(self) -> None:
        """Close it, with the descriptors that were on their way."""
        self.sock.close()
        self._decoder.close()
        self._outbox.close()


class _Work:
    """Steps that are under way."""

    def __init__(
        self, server: Server, steps: Steps[Any], done: Callable[[Any, Exception | None], None]
    ) -> None:
        self._server = server
        self._steps = steps
        self._done = done
        #: of the wait that is under way; what comes of an earlier one is too late
        self._number = 0

    def resume(self, value: Any = None) -> None:
        """Go on to the next wait, or to the end."""
        self._number += 1
        try:
            wait = self._steps.send(value)
        except StopIteration as stop:
            self._done(stop.value, None)
        except Exception as error:
            self._done(None, error)
        else:
            self._await(wait, self._number)

    def _await(self, wait: Wait, number: int) -> None:
        server = self._server

        def over(value: Any) -> None:
            """The wait is over; others that are under way in this turn are not interrupted."""
            if number != self._number:
                return
            self._number += 1  # only the first counts
            if wait.fd >= 0:
                server.unwatch(wait.fd)
            if wait.pid:
                server.children.pop(wait.pid, None)
            server.soon(lambda: self.resume(value))

        if wait.fd >= 0:
            server.watch(wait.fd, lambda: over(True))
        if wait.pid:
            server.children[wait.pid] = over
        if wait.turn is not None:
            wait.turn.waiting.append(over)
        if wait.limit_s is not None:
            server.later(wait.limit_s, lambda: over(None))


class Server:
    """Waits for clients, frames, children and descriptors, in one thread."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.handlers: dict[str, Handler] = {}
        #: called with each child that ended and its wait status
        self.on_child: Callable[[int, int], None] = lambda pid, status: None
        #: child to who waits for its end, and is called with its wait status instead
        self.children: dict[int, Callable[[int], None]] = {}
        self.running = True
        self._soon: deque[Callable[[], None]] = deque()
        #: (time, order, what is to be done then)
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        #: seconds between calls of ``on_idle``; None: never
        self.tick_s: float | None = None
        self.on_idle: Callable[[], None] = lambda: None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.watch(self._wake_read, self._reap)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def own_descriptors(self) -> list[int]:
        """Descriptors that a forked child has to close."""
        fds = [key.fd for key in self.selector.get_map().values()]
        if isinstance(self.selector, selectors.EpollSelector):
            fds.append(self.selector.fileno())
        return [*fds, self._wake_write, self._spare]

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        """Call a function whenever a descriptor is readable."""
        self.selector.register(fd, selectors.EVENT_READ, readable)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor."""
        self.selector.unregister(fd)

    def soon(self, call: Callable[[], None]) -> None:
        """Call a function when everything of this turn is done."""
        self._soon.append(call)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function after some time."""
        self._order += 1
        heapq.heappush(self._later, (clock.monotonic_s() + seconds, self._order, call))

    def work(
        self, steps: Steps[T], done: Callable[[T | None, Exception | None], None] | None = None
    ) -> None:
        """Do work step by step; the first step is done at once.

        :param done: is called with the result, or with the error; without it that is printed.
        """
        _Work(self, steps, done or _print_error).resume()

    def listen(self, sock: socket.socket) -> None:
        """Accept clients on a listening socket."""
        sock.setblocking(False)

        def accept() -> None:
            try:
                client, _ = sock.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away(sock)
                return  # else it has left again
            self.adopt(client)

        self.watch(sock.fileno(), accept)

    def _turn_away(self, sock: socket.socket) -> None:
        """Without a descriptor for it, a client would wait for ever, and we spin: it is hung up."""
        os.close(self._spare)
        try:
            client, _ = sock.accept()
            client.close()
        except OSError:
            pass
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def adopt(self, sock: socket.socket) -> Connection:
        """Serve a connected socket."""
        connection = Connection(sock, self)
        self.selector.register(sock.fileno(), selectors.EVENT_READ, lambda: self._serve(connection))
        return connection

    def await_room(self, connection: Connection) -> None:
        """Send the rest as soon as the client takes it; until then, take nothing from it either."""

        def writable() -> None:
            try:
                if not connection.flush():
                    return
            except OSError:
                self.drop(connection)
                return
            self.selector.modify(
                connection.sock.fileno(), selectors.EVENT_READ, lambda: self._serve(connection)
            )

        self.selector.modify(connection.sock.fileno(), selectors.EVENT_WRITE, writable)

    def release(self, connection: Connection) -> socket.socket:
        """Stop serving a connection without closing it.

        :raises ValueError: answers to it are still on their way.
        """
        if not connection.is_idle:
            raise ValueError("answers are still on their way; take them first")
        self.selector.unregister(connection.sock.fileno())
        return connection.sock

    def turn_down(self, connection: Connection, error: BaseException) -> None:
        """Serve a connection that was released by refusing whatever it asks."""
        connection.refusal = error
        self.watch(connection.sock.fileno(), lambda: self._serve(connection))

    def drop(self, connection: Connection) -> None:
        """Close a connection and tell who wanted to know."""
        if connection.sock.fileno() < 0:
            return
        self.selector.unregister(connection.sock.fileno())
        connection.close()
        for call in connection.on_close:
            self._call(call)

    def _serve(self, connection: Connection) -> None:
        try:
            frame = connection.receive()
        except OSError:
            self.drop(connection)
            return
        if frame is None:
            return
        message, fds = frame
        request = message.get("id")
        if type(request) is not int:  # nobody could be told what becomes of it
            frames.close_all(fds)
            self.drop(connection)
            return

        def finish(reply: Reply | None, error: Exception | None) -> None:
            if error is not None:
                known = isinstance(error, (OSError, LookupError, ValueError))
                connection.refuse(request, error if known else f"{type(error).__name__}: {error}")
            elif reply is not None:
                connection.answer(request, reply)
            frames.close_all(fds)

        if connection.refusal is not None:
            if message.get("op") != "cancel":  # which is never answered
                connection.refuse(request, connection.refusal)
            frames.close_all(fds)
            return
        try:
            handler = self.handlers.get(message.get("op", ""))
            if handler is None:
                raise LookupError(f"unknown operation {message.get('op')!r}")
            reply = handler(connection, message, fds)
        except Exception as error:  # the client is told; this process must go on
            finish(None, error)
        else:
            if isinstance(reply, Generator):
                self.work(reply, finish)
            else:
                finish(reply, None)

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
            waits = self.children.pop(pid, None)
            if waits is not None:
                waits(status)
            else:
                self.on_child(pid, status)

    def stop(self) -> None:
        """Have :meth:`run` return; safe in a signal handler."""
        self.running = False

    def run(self) -> None:
        """Serve until ``running`` is false."""
        while self.running:
            for key, _ in self.selector.select(self._until_next()):
                if key.fd in self.selector.get_map():
                    self._call(key.data)
            now = clock.monotonic_s()
            while self._later and self._later[0][0] <= now:
                self._call(heapq.heappop(self._later)[2])
            while self._soon:
                self._call(self._soon.popleft())
            if self.tick_s is not None:
                self._call(self.on_idle)

    def _until_next(self) -> float | None:
        """Seconds until something is to be done even if nothing happens."""
        times = [] if self.tick_s is None else [self.tick_s]
        if self._later:
            times.append(max(0.0, self._later[0][0] - clock.monotonic_s()))
        return min(times, default=None)

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # one client's trouble; the others are still served
            traceback.print_exc()


def _print_error(result: object, error: Exception | None) -> None:
    if error is not None:
        traceback.print_exception(error)
