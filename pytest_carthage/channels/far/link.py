"""The stream to an agent far away: requests, what is carried beside them, and who is there."""

from __future__ import annotations

import os
import selectors
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pytest_carthage.channels.far.inside.streams import NUMBER
from pytest_carthage.channels.far.inside.wire import (
    CREDIT,
    DATA,
    END,
    HELLO,
    HERE,
    MESSAGE,
    NUMBER_BYTES,
    PAD,
    PART,
    RESET,
    SEEK,
    TAKEN,
    WELCOME,
    FrameReader,
    MessageReader,
    frame,
    message_frames,
)
from pytest_carthage.channels.far.window import PIECE, SERIAL, WINDOW_BYTES, Window
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Server

__all__ = ["Carried", "FarError", "Line", "Link"]

#: how long to wait before it is tried again to reach who does not answer: at first, and at last
_AGAIN_S, _AGAIN_MOST_S = 0.05, 1.0
#: what may wait to be sent before nothing more is read that would have to wait, too
_CROWD = 512 << 10
_READS = 32


class FarError(OSError):
    """The agent refused a request, or is gone."""

    def __str__(self) -> str:
        """Its words, as the agent says them."""
        return str(self.args[1])


class Line(Protocol):
    """A way to an agent."""

    #: whether who is at its other end may be replaced in the middle of a frame
    is_shared: bool

    def open(self) -> socket.socket:
        """A new stream to it.

        :raises OSError: there is none now.
        """
        ...

    def why(self) -> str:
        """Why a stream has ended, or was not opened; empty: nobody knows."""
        ...


class Carried(Protocol):
    """One end of a stream."""

    def data(self, data: bytes) -> None:
        """Something has come."""
        ...

    def seek(self, offset: int) -> None:
        """What comes next is of that place in a file."""
        ...

    def end(self) -> None:
        """Nothing more comes."""
        ...

    def credit(self, count: int) -> None:
        """More may be sent."""
        ...

    def taken(self, place: int) -> None:
        """What stood at a place in the window has been taken."""
        ...

    def reset(self, number: int) -> None:
        """The other end is closed; with its errno, or 0."""
        ...

    def update(self) -> None:
        """There is room to send again, or none any more."""
        ...

    def close(self) -> None:
        """Nobody is there any more."""
        ...


class _Asked:
    """A request, and who is told its answer."""

    def __init__(self, done: Callable[[Message | FarError], None]) -> None:
        self.done = done


class Link:
    """Speaks with whatever agent is there, and with its successors."""

    def __init__(self, server: Server, line: Line, window: Window) -> None:
        self._server = server
        #: through which files go to the machine, where it sees it
        self.window = window
        self._line = line
        self._sock: socket.socket | None = None
        self._frames = FrameReader((WELCOME, HERE))
        self._messages = MessageReader()
        self._number = b""
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._is_writing = self._is_paused = False
        self._last = self._last_stream = 0
        self._asked: dict[int, _Asked] = {}
        #: asked while nobody is there
        self._early: dict[int, bytes] = {}
        self.carried: dict[int, Carried] = {}
        self._again_s = _AGAIN_S
        self._is_over = False
        #: what the agent says of itself; None: it is not there
        self.facts: Message | None = None
        #: is called with what it says without being asked
        self.on_news: Callable[[Message], None] = lambda message: None
        #: is called when it has gone, with why
        self.on_lost: Callable[[str], None] = lambda why: None

    # requests

    def ask(self, op: str, done: Callable[[Message | FarError], None], /, **fields: Any) -> int:
        """Ask; returns the number of the request. Who is not there yet is asked when it is."""
        self._last += 1
        number = self._last
        data = message_frames({"id": number, "op": op, **fields})
        self._asked[number] = _Asked(done)
        if self.facts is None:
            self._early[number] = data
        else:
            self._send(data)
        return number

    def tell(self, op: str, /, **fields: Any) -> None:
        """Ask for what is done in any case."""
        if self.facts is not None:
            self.ask(op, lambda reply: None, **fields)

    def take_back(self, number: int) -> None:
        """Nobody waits for this answer any more: what was begun for it ends."""
        if self._asked.pop(number, None) is not None and self._early.pop(number, None) is None:
            self.tell("cancel", request=number)

    # streams

    def new_stream(self) -> int:
        """A number for a stream."""
        self._last_stream = self._last_stream % 0x7FFFFFFF + 1
        return self._last_stream

    @property
    def is_crowded(self) -> bool:
        """Whether what is read now would have to wait."""
        return self._out_bytes > _CROWD or self.facts is None

    def send(self, kind: int, stream: int, payload: bytes = b"") -> None:
        """Send a frame of a stream."""
        if self.facts is not None:
            self._send(frame(kind, stream, payload))

    def send_number(self, kind: int, stream: int, number: int) -> None:
        """Send a frame whose payload is a number."""
        self.send(kind, stream, NUMBER.pack(number))

    # the socket

    def start(self) -> None:
        """Reach for the agent, for as long as it takes, or until :meth:`end`."""
        if self._is_over:
            return
        try:
            sock = self._line.open()
        except OSError as error:
            self._give_up_early(self._line.why() or str(error))
            self._server.later(self._again_s, self.start)
            self._again_s = min(2 * self._again_s, _AGAIN_MOST_S)
            return
        sock.setblocking(False)
        self._sock = sock
        self._frames = FrameReader((WELCOME, HERE))
        self._server.selector.register(sock.fileno(), selectors.EVENT_READ, self._ready)
        self._hello()

    def end(self) -> None:
        """Reach for it no more."""
        self._is_over = True
        self._gone()

    def _hello(self) -> None:
        self._number = os.urandom(NUMBER_BYTES)
        self._send((PAD if self._line.is_shared else b"") + HELLO + self._number)

    def _send(self, data: bytes) -> None:
        if self._sock is None:
            return
        self._out.append(memoryview(data))
        self._out_bytes += len(data)
        if not self._is_writing:
            self._flush()

    def _ready(self) -> None:
        if self._is_writing:
            self._flush()
        self._read()

    def _flush(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            while self._out:
                sent = sock.send(self._out[0])
                self._out_bytes -= sent
                if sent == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._server.soon(self._gone)
            return
        if self._is_writing != bool(self._out):
            self._is_writing = not self._is_writing
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._is_writing else 0)
            self._server.selector.modify(sock.fileno(), events, self._ready)
        self._look_at_room()

    def _look_at_room(self) -> None:
        if self._is_paused != self.is_crowded:
            self._is_paused = not self._is_paused
            for carried in list(self.carried.values()):
                carried.update()

    def _read(self) -> None:
        for _ in range(_READS):
            sock = self._sock
            if sock is None:
                return
            try:
                count = sock.recv_into(self._frames.room())
            except BlockingIOError:
                return
            except OSError:
                count = 0
            if not count:
                self._gone()
                return
            self._frames.took(count)
            while (taken := self._frames.next()) is not None:
                try:
                    self._take(*taken)
                except Exception as error:  # it is foreign input: whatever it has led to
                    kind = type(error).__name__
                    self._gone(f"its agent sent what makes no sense ({kind}: {error})")
                    return
            if self._frames.is_spoilt:
                self._frames.is_spoilt = False
                self._lost("its agent sent what is no frame")
                self._hello()

    def _gone(self, why: str = "") -> None:
        """The stream has ended; what was asked is not answered any more."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._server.selector.unregister(sock.fileno())
        sock.close()
        self._is_writing = False
        why = why or self._line.why() or "its agent is gone"
        self._lost(why)
        self._give_up_early(why)
        self._server.later(self._again_s, self.start)
        self._again_s = min(2 * self._again_s, _AGAIN_MOST_S)

    def _give_up_early(self, why: str) -> None:
        """Who was asked before it was there is not about to come; on a port it may be."""
        if self._line.is_shared:
            return
        early, self._early = self._early, {}
        for number in early:
            self._asked.pop(number).done(FarError(None, why))

    def _lost(self, why: str) -> None:
        self._out.clear()
        self._out_bytes = 0
        was_there, self.facts = self.facts is not None, None
        for carried in list(self.carried.values()):
            carried.close()
        self.carried.clear()
        self.window.close()
        for number in [number for number in self._asked if number not in self._early]:
            self._asked.pop(number).done(FarError(None, why))
        if was_there:
            self.on_lost(why)

    # what comes

    def _take(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == 0:
            self._take_mark(payload)
        elif kind in (PART, MESSAGE):
            message = self._messages.take(kind, payload)
            if message is not None:
                self._take_message(message)
        elif (carried := self.carried.get(stream)) is not None:
            if kind == DATA:
                carried.data(payload)
            elif kind == END:
                carried.end()
            elif kind == CREDIT:
                carried.credit(_number(payload))
            elif kind == RESET:
                carried.reset(_number(payload))
            elif kind == SEEK:
                carried.seek(_number(payload))
            elif kind == TAKEN:
                carried.taken(_number(payload))

    def _take_mark(self, mark: bytes) -> None:
        if mark.startswith(HERE):
            self._lost("its agent has begun anew")
            self._frames.is_synced = False
            self._hello()
        elif mark[-NUMBER_BYTES:] != self._number:
            self._frames.is_synced = False  # to somebody else
        else:
            self._messages = MessageReader()

    def _take_message(self, message: Any) -> None:
        number = message.get("id")
        if number is None:
            if self.facts is None:
                self._begin(message)
            else:
                self.on_news(message)
            return
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        if message["ok"] is True:
            asked.done(message)
        else:
            code = message.get("errno")
            error = FarError(code if type(code) is int else None, str(message["error"]))
            asked.done(error)

    def _open_window(self) -> None:
        """Have the agent look whether it sees what is written in the window."""
        sign = self.window.sign()
        if not sign:
            return

        def looked(reply: Message | FarError) -> None:
            if not isinstance(reply, FarError) and reply["is_open"] is True:
                self.window.open()

        self.ask(
            "window",
            looked,
            sign=sign.decode("latin-1"),
            serial=SERIAL,
            bytes=WINDOW_BYTES,
            piece=PIECE,
        )

    def _begin(self, facts: Message) -> None:
        """An agent is there."""
        self.facts = facts
        self._again_s = _AGAIN_S
        self._open_window()
        early, self._early = self._early, {}
        for data in early.values():
            self._send(data)
        self._look_at_room()


def _number(payload: bytes) -> int:
    if len(payload) != NUMBER.size:
        raise ValueError("a number of another size")
    (number,) = NUMBER.unpack(payload)
    return int(number)
