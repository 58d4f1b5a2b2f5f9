"""Frames between a deputy and the agent far away; both ends use this.

A frame is a head (kind, stream, length), a payload, and one byte that shows that it came whole:
who answers at the other end may have been replaced in the middle of one. What does not end like
that is no frame, and nothing counts any more until a mark comes:

* the deputy says *hello* with a number of its own, behind as many zeros as a frame is long,
* the agent answers *welcome* with that number; whatever came before it is of an earlier time,
* an agent that has just begun says *here*, so that a deputy of its predecessor's hears of it; so
  does one that was sent what is no frame.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

HEAD = struct.Struct("!BII")
TAIL = b"\xa5"
#: kinds: a message's part, and its last one; content of a stream, its end; how much more may be
#: sent on it; nobody reads, or writes, it any more; where in a file its content goes on; where in
#: the window some of it stands, and how much; that this has been taken
PART, MESSAGE, DATA, END, CREDIT, RESET, SEEK, SHOWN, TAKEN = range(1, 10)
#: bytes of a frame's payload at most
MOST = 1 << 16
#: how much may be under way on a stream
WINDOW = 1 << 20
#: of a message
MOST_MESSAGE = 16 << 20
MARK_BYTES = 32
NUMBER_BYTES = 16
HELLO, WELCOME, HERE = b"\0carthage hello.", b"\0carthage welcom", b"\0carthage here.."
#: more than what is left of a frame that somebody else has begun
PAD = bytes(HEAD.size + MOST + 1)


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame's bytes."""
    return HEAD.pack(kind, stream, len(payload)) + payload + TAIL


def message_frames(record: dict[str, Any]) -> bytes:
    """A message as frames."""
    data = json.dumps(record, separators=(",", ":")).encode("ascii")
    parts = []
    while len(data) > MOST:
        parts.append(frame(PART, 0, data[:MOST]))
        data = data[MOST:]
    parts.append(frame(MESSAGE, 0, data))
    return b"".join(parts)


class FrameReader:
    """Takes frames apart that arrive in pieces; reads into a buffer of its own."""

    def __init__(self, marks: Sequence[bytes]) -> None:
        """:param marks: that are looked for where there is no frame."""
        self._marks = marks
        self._size = 4 * len(PAD)
        self._buffer = bytearray(self._size)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self.is_synced = False
        #: whether there came what is neither a frame nor the zeros before a mark
        self.is_spoilt = False

    def room(self) -> memoryview:
        """Where to read into; tell :meth:`took` how much came."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._size - self._end < len(PAD):
            length = self._end - self._start
            self._view[:length] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, length
        return self._view[self._end :]

    def took(self, count: int) -> None:
        """So much was read into it."""
        self._end += count

    def next(self) -> tuple[int, int, bytes] | None:
        """Kind, stream and payload of the next frame; None: more has to come.

        Kind 0 is a mark: its payload is the mark with its number.
        """
        while True:
            if not self.is_synced:
                return self._next_mark()
            there = self._end - self._start
            if there < HEAD.size:
                return None
            kind, stream, length = HEAD.unpack_from(self._buffer, self._start)
            if not (PART <= kind <= TAKEN and length <= MOST):
                self._lose(kind)
                continue
            if there <= HEAD.size + length:
                return None
            begin = self._start + HEAD.size
            if self._buffer[begin + length] != TAIL[0]:
                self._lose(self._buffer[begin + length])
                continue
            self._start = begin + length + 1
            return kind, stream, bytes(self._view[begin : begin + length])

    def _lose(self, byte: int) -> None:
        self.is_synced = False
        self.is_spoilt = byte != 0

    def _next_mark(self) -> tuple[int, int, bytes] | None:
        at = [self._buffer.find(mark, self._start, self._end) for mark in self._marks]
        first = min([index for index in at if index >= 0] or [-1])
        if first < 0:
            self._start = max(self._start, self._end - MARK_BYTES)
            return None
        self._start = first
        if self._end - first < MARK_BYTES:
            return None
        self._start += MARK_BYTES
        self.is_synced, self.is_spoilt = True, False
        return 0, 0, bytes(self._view[first : first + MARK_BYTES])


class MessageReader:
    """Puts messages together."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def take(self, kind: int, payload: bytes) -> Any:
        """The message that is whole with this payload; None: it is not.

        :raises ValueError: it is none.
        """
        self._size += len(payload)
        if self._size > MOST_MESSAGE:
            raise ValueError("a message that is too long")
        self._parts.append(payload)
        if kind == PART:
            return None
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        return json.loads(data.decode("ascii"))
