"""An asyncio client of a fabric or an agent: many requests under way on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import frames, replies

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    Answer = asyncio.Future[tuple[dict[str, Any], list[int]]]

#: how long nothing may come from the other end while it is asked for something: then it is looked
#: whether it is there, and has as long to say so
SILENCE_S = 20.0
#: channels of this process that are open
_open: set[AsyncChannel] = set()
#: the longest that a fabric or an agent may take to say that it is there
_CONNECT_S = 60.0


class _Request:
    """A request that was asked, and who waits for its answer."""

    def __init__(self, op: str, fields: Mapping[str, object], answer: Answer) -> None:
        self.op = op
        self.fields = fields
        self.answer = answer


class AsyncChannel:
    """One connection, used from one event loop.

    A request whose caller is cancelled is taken back: it is not sent if it has not begun to be,
    and else the other end is told, which ends what it began. Others are not touched by that.
    """

    def __init__(self, sock: socket.socket, who: str) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._who = who
        self._loop = asyncio.get_running_loop()
        self._last = 0
        self._decoder = frames.Decoder()
        self._requests: dict[int, _Request] = {}
        self._outbox = frames.Outbox(sock)
        self._closed: str | None = None
        self._end = asyncio.Event()
        #: what is asked to see whether the other end is there; None: that is not seen
        self.pulse: str | None = None
        #: tells whether the other end is meant not to answer now
        self.is_excused: Callable[[], bool] = _never
        self._heard_s = clock.monotonic_s()
        #: looks at how long nothing has come, while something is asked
        self._watch: asyncio.TimerHandle | None = None
        self._feeling: asyncio.Task[None] | None = None
        #: operations that the other end says it has; None: it was not asked
        self.operations: frozenset[str] | None = None
        #: what a deputy says by which way it reaches its machine
        self.way: str | None = None
        self._loop.add_reader(sock.fileno(), self._readable)
        _open.add(self)

    @property
    def closed(self) -> bool:
        """Whether the other end is gone."""
        return self._closed is not None

    async def until_closed(self) -> None:
        """Return when either end has closed it."""
        await self._end.wait()

    def close(self, reason: str = "closed", *, is_unread: bool = False) -> None:
        """Close the connection; requests under way fail.

        :param is_unread: the other end has not read what was sent last.
        """
        if self._closed is not None:
            return
        self._closed = reason
        self._end.set()
        _open.discard(self)
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._decoder.close()
        self._outbox.close()
        if self._watch is not None:
            self._watch.cancel()
        requests, self._requests = self._requests, {}
        for number, request in requests.items():
            if not request.answer.done():
                error = FabricError(f"{self._who}: {reason}")
                error.is_unsent = is_unread and number == self._last
                request.answer.set_exception(error)

    # answers

    def _readable(self) -> None:
        self._heard_s = clock.monotonic_s()
        try:
            frame = self._decoder.read(self._sock)
            if frame is not None:
                self._take(*frame)
        except frames.Malformed as error:
            self.close(f"it sent {error}, and is not talked to any more")
        except frames.Closed as error:
            # the kernel says so of a socket that is closed with something in it, see unix(7)
            is_reset = isinstance(error.__cause__, ConnectionResetError)
            self.close("it is gone", is_unread=is_reset)
        except OSError as error:
            self.close(f"it is gone ({error.strerror or error})")

    def _take(self, message: frames.Message, fds: list[int]) -> None:
        """Give an answer to who waits for it.

        :raises frames.Malformed: it answers nothing that was ever asked.
        """
        number = message.get("id")
        try:
            if type(number) is not int or not 0 < number <= self._last:
                raise frames.Malformed(f"a reply to {number!r:.40}, which nobody asked")
            request = self._requests.get(number)
            if request is None:
                return  # who asked was cancelled
            replies.check(request.op, request.fields, message, len(fds))
            if request.answer.done():
                return
            del self._requests[number]
            if message["ok"]:
                request.answer.set_result((message, fds))
                fds = []
            else:
                error = FabricError(f"{self._who}: {message['error']}")
                error.errno = message["errno"]
                request.answer.set_exception(error)
        finally:
            frames.close_all(fds)

    # requests

    async def hello(self, machine: str) -> None:
        """Have this be the connection to a machine's agent, and learn what that can do.

        :raises FabricError: there is no such machine, or it does not answer.
        """
        reply, _ = await self.request("channel", machine=machine)
        self.operations = frozenset(reply["operations"])
        way = reply.get("way")
        self.way = way if isinstance(way, str) else None
        self.pulse = "ping" if "ping" in self.operations else None

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask and wait for the answer; the caller closes the descriptors that come with it.

        :raises FabricError: refused, with the reason and maybe ``errno``; or the other end
            is gone, or answered what is no answer.
        """
        if self._closed is not None:
            raise self._unsent()
        self._last += 1
        number = self._last
        try:
            data = frames.pack({"id": number, "op": op, **fields}, fds)
        except ValueError as error:
            raise FabricError(f"{self._who}: {op!r} cannot be asked: {error}") from error
        answer: Answer = self._loop.create_future()
        self._requests[number] = _Request(op, fields, answer)
        try:
            frame = self._post(data, fds)
        except frames.Crowded as error:
            del self._requests[number]
            refused = FabricError(f"{self._who}: {op!r} cannot be asked: {error.strerror}")
            refused.errno = error.errno
            raise refused from error
        if frame is None:
            answer.exception()  # it is told here
            raise self._unsent()
        if self.pulse is not None and self._watch is None and self._feeling is None:
            self._heard_s = clock.monotonic_s()
            self._look_later()
        try:
            return await answer
        except asyncio.CancelledError:
            self._take_back(number, frame, answer)
            raise
        finally:
            self._requests.pop(number, None)

    # silence

    def _look_later(self) -> None:
        left_s = max(0.0, self._heard_s + SILENCE_S - clock.monotonic_s())
        self._watch = self._loop.call_later(left_s, self._look)

    def _look(self) -> None:
        """Look whether the other end has said anything of late; it is asked if it has not."""
        self._watch = None
        if self._closed is not None or not self._requests:
            return
        is_silent = clock.monotonic_s() - self._heard_s >= SILENCE_S
        if is_silent and self._feeling is None:
            self._feeling = self._loop.create_task(self._feel())
            self._feeling.add_done_callback(self._felt)
        elif self._feeling is None:
            self._look_later()

    def _felt(self, task: asyncio.Task[None]) -> None:
        self._feeling = None
        if self._closed is None and self._requests and self._watch is None:
            self._look_later()

    async def _feel(self) -> None:
        """Ask whether the other end is there; what waits for it fails if it does not say so."""
        assert self.pulse is not None
        asked = dict(self._requests)
        with contextlib.suppress(FabricError, TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await self.request(self.pulse)
        if clock.monotonic_s() - self._heard_s < 2 * SILENCE_S or self.is_excused():
            return
        for request in asked.values():
            if not request.answer.done():
                error = FabricError(
                    f"{self._who}: it has answered nothing for {2 * SILENCE_S:g} s, and was asked "
                    f"for {request.op!r}: it was stopped, or this host has no time for it"
                )
                error.is_silence = True
                request.answer.set_exception(error)

    def _unsent(self) -> FabricError:
        """The error of a request that the other end has not got, since it is gone."""
        error = FabricError(f"{self._who}: {self._closed}")
        error.is_unsent = True
        return error

    def _take_back(self, number: int, frame: frames.Frame, answer: Answer) -> None:
        """Nobody waits for this answer any more; never waits itself."""
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            frames.close_all(answer.result()[1])  # it came in the same turn of the loop
        if self._closed is None and not self._outbox.withdraw(frame):
            self._last += 1
            self._post(frames.pack({"id": self._last, "op": "cancel", "request": number}), ())

    def _post(self, data: bytes, fds: Sequence[int]) -> frames.Frame | None:
        """Send a frame; returns it, or None: the other end is gone, and all know it.

        :raises frames.Crowded: its descriptors cannot go now.
        """
        waited = bool(self._outbox)
        try:
            frame = self._outbox.post(data, fds)
        except frames.Crowded:
            raise
        except OSError as error:
            self.close(f"it is gone ({error.strerror or error})")
            return None
        if self._outbox and not waited:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        return frame

    def _writable(self) -> None:
        try:
            self._outbox.flush()
        except OSError as error:
            self.close(f"it is gone ({error.strerror or error})")
            return
        if not self._outbox:
            self._loop.remove_writer(self._sock.fileno())


def _leave_to_parent() -> None:
    """In a process that was forked: hold none of the parent's connections open.

    Its environments end when the other ends see that it is gone; and a descriptor that is watched
    is watched for both, so that nothing is said to the event loop.
    """
    for channel in _open:
        channel._closed = "it is the parent's of this process, which was forked"
        channel._sock.close()
    _open.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def _never() -> bool:
    return False


async def connect(path: str, who: str, machine: str | None = None) -> AsyncChannel:
    """Connect to a fabric or supervisor, or through a fabric to a machine's agent.

    :raises FabricError: nobody answers there, or there is no such machine.
    """
    try:
        channel = AsyncChannel(frames.connect(path), who)
    except OSError as error:
        raise FabricError(f"{who}: no answer on its socket ({error.strerror})") from error
    if machine is not None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await channel.hello(machine)
        except TimeoutError:
            channel.close()
            raise FabricError(f"{who}: no answer within {_CONNECT_S:g} s") from None
        except BaseException:
            channel.close()
            raise
    return channel
