"""What is carried between descriptors of this machine and streams of the deputy's."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import TYPE_CHECKING

from pytest_carthage.channels.far.inside.wire import (
    CREDIT,
    DATA,
    END,
    MOST,
    RESET,
    SHOWN,
    WINDOW,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.channels.far.inside.loop import Loop

#: one frame of this is what a virtio port takes at once (32 KiB)
CHUNK = (32 << 10) - 16
#: what may wait to be sent before nothing more is read that would have to wait, too
_CROWD = 256 << 10
NUMBER = struct.Struct("!Q")
#: streams that begin here have larger numbers, those of the deputy's smaller ones
_OWN = 1 << 31
#: place and length of what stands in the window
PLACE = struct.Struct("!QI")


class Port:
    """The way out."""

    def __init__(self, fd: int, loop: Loop) -> None:
        self.fd = fd
        self._loop = loop
        self._parts: list[bytes] = []
        self._first = 0
        self.waiting = 0

    @property
    def is_crowded(self) -> bool:
        """Whether more would have to wait for long."""
        return self.waiting > _CROWD

    def send(self, data: bytes) -> None:
        """Send, or keep until there is room."""
        if not self._parts:
            sent = self._write(data)
            if sent == len(data):
                return
            data = data[sent:] if sent else data
            self._loop.watch(self.fd, select.POLLOUT, self._flush)
        self._parts.append(data)
        self.waiting += len(data)

    def _write(self, data: bytes) -> int:
        done = 0
        while done < len(data):
            try:
                done += os.write(self.fd, data[done:] if done else data)
            except BlockingIOError:
                break
            except OSError:  # nobody is there; who comes next says hello
                return len(data)
        return done

    def _flush(self) -> None:
        while self._parts:
            part = self._parts[self._first]
            sent = self._write(part)
            self.waiting -= sent
            if sent < len(part):
                self._parts[self._first] = part[sent:]
                break
            self._first += 1
            if self._first == len(self._parts):
                self._parts, self._first = [], 0
        if not self._parts:
            self._loop.unwatch(self.fd)

    def forget(self) -> None:
        """What waits is of an earlier time."""
        if self._parts:
            self._loop.unwatch(self.fd)
        self._parts, self._first, self.waiting = [], 0, 0


class Source:
    """A descriptor that is read to a stream, as far as the other end takes it."""

    def __init__(self, streams: Streams, stream: int, fd: int, kind: str) -> None:
        self._streams = streams
        self.stream = stream
        self.fd = fd
        self._is_stream = kind != "datagrams"
        self._credit = WINDOW
        #: bytes that are still to be carried before :attr:`reached` is called
        self._left = -1
        self._reached: Callable[[], None] | None = None
        self._is_watched = False
        self.update()

    def when_carried(self, count: int, call: Callable[[], None]) -> None:
        """Call a function when the next so many bytes have been carried, or it has ended."""
        if self.fd < 0 or count <= 0:
            call()
            return
        self._left, self._reached = count, call

    def credit(self, count: int) -> None:
        """The other end takes more."""
        self._credit += count
        self.update()

    def update(self) -> None:
        """Read or do not, by what the other end takes."""
        wanted = self.fd >= 0 and self._credit > 0 and not self._streams.is_paused
        if wanted and not self._is_watched:
            self._streams.loop.watch(self.fd, select.POLLIN, self._readable)
        elif not wanted and self._is_watched:
            self._streams.loop.unwatch(self.fd)
        self._is_watched = wanted

    def _readable(self) -> None:
        try:
            data = os.read(self.fd, min(CHUNK, self._credit) if self._is_stream else MOST)
        except BlockingIOError:
            return
        except OSError as error:
            if not self._is_stream:  # that nobody takes datagrams is told by the next, see udp(7)
                return
            if error.errno != errno.EIO:  # a terminal that nobody has open
                self._streams.reset(self.stream, error.errno or 0)
            data = b""
        if not data and self._is_stream:
            self.close()
            self._streams.port.send(frame(END, self.stream))
            return
        self._credit -= len(data)
        self._streams.port.send(frame(DATA, self.stream, data))
        if self._credit <= 0:
            self.update()
        if self._reached is not None:
            self._left -= len(data)
            if self._left <= 0:
                self._has_reached()

    def _has_reached(self) -> None:
        call, self._reached = self._reached, None
        if call is not None:
            call()

    def close(self) -> None:
        """Read no more."""
        if self.fd < 0:
            return
        if self._is_watched:
            self._streams.loop.unwatch(self.fd)
            self._is_watched = False
        os.close(self.fd)
        self.fd = -1
        self._streams.sources.pop(self.stream, None)
        self._has_reached()


class Sink:
    """A descriptor that is written what comes on a stream."""

    def __init__(self, streams: Streams, stream: int, fd: int, kind: str) -> None:
        """:param kind: "pipe", "stream" or "datagrams"."""
        self._streams = streams
        self.stream = stream
        self.fd = fd
        self._kind = kind
        self._parts: list[bytes] = []
        self._given = 0
        self._is_ended = self._is_watched = False

    def data(self, data: bytes) -> None:
        """Write, or keep it until there is room."""
        self._parts.append(data)
        if not self._is_watched:
            self._write()

    def seek(self, offset: int) -> None:
        """It is no file: there are no places in it."""

    def shown(self, place: int, count: int) -> None:
        """It is no file: nothing of it is in the window."""

    def end(self) -> None:
        """Nothing more comes."""
        self._is_ended = True
        if not self._parts:
            self.close()

    def _write(self) -> None:
        while self._parts:
            data = self._parts[0]
            try:
                count = os.write(self.fd, data)
            except BlockingIOError:
                if not self._is_watched:
                    self._is_watched = True
                    self._streams.loop.watch(self.fd, select.POLLOUT, self._write)
                return
            except OSError as error:
                if self._kind == "datagrams":  # one is lost, as they may be
                    count = len(data)
                else:
                    self._streams.reset(self.stream, error.errno or 0)
                    self._is_ended, self._parts = True, []
                    break
            if count < len(data):
                self._parts[0] = data[count:]
            else:
                del self._parts[0]
            self._given += count
            if self._given >= WINDOW // 4:
                self._streams.grant(self.stream, self._given)
                self._given = 0
        if self._is_watched:
            self._is_watched = False
            self._streams.loop.unwatch(self.fd)
        if self._is_ended:
            self.close()

    def close(self) -> None:
        """Write no more."""
        if self.fd < 0:
            return
        if self._is_watched:
            self._streams.loop.unwatch(self.fd)
        if self._kind == "stream":
            try:
                sock = socket.socket(fileno=os.dup(self.fd))
                sock.shutdown(socket.SHUT_WR)
                sock.close()
            except OSError:
                pass  # it is not connected any more
        os.close(self.fd)
        self.fd = -1
        self._streams.sinks.pop(self.stream, None)


class Streams:
    """All that are open."""

    def __init__(self, loop: Loop, port: Port) -> None:
        self.loop = loop
        self.port = port
        self.sources: dict[int, Source] = {}
        self.sinks: dict[int, Sink] = {}
        self.is_paused = False
        self._last = _OWN
        loop.each_turn = self._turn

    def own_number(self) -> int:
        """A number for a stream that begins here."""
        self._last = self._last + 1 if self._last < 0xFFFFFFFF else _OWN
        return self._last

    def source(self, stream: int, fd: int, kind: str = "pipe") -> Source:
        """Carry what a descriptor gives, which is this one's now."""
        os.set_blocking(fd, False)
        made = self.sources[stream] = Source(self, stream, fd, kind)
        return made

    def sink(self, stream: int, fd: int, kind: str = "pipe") -> Sink:
        """Have a descriptor take what comes, which is this one's now."""
        os.set_blocking(fd, False)
        made = self.sinks[stream] = Sink(self, stream, fd, kind)
        return made

    def reset(self, stream: int, number: int) -> None:
        """Tell that nobody is at this end any more."""
        self.port.send(frame(RESET, stream, NUMBER.pack(number)))

    def grant(self, stream: int, count: int) -> None:
        """Tell how much more is taken."""
        self.port.send(frame(CREDIT, stream, NUMBER.pack(count)))

    def take(self, kind: int, stream: int, payload: bytes) -> None:
        """Take a frame of a stream; of one that is over it means nothing."""
        if kind == CREDIT:
            source = self.sources.get(stream)
            if source is not None:
                source.credit(NUMBER.unpack(payload)[0])
        elif kind == RESET:
            self.drop(stream)
        else:
            sink = self.sinks.get(stream)
            if sink is None:
                return
            if kind == DATA:
                sink.data(payload)
            elif kind == END:
                sink.end()
            elif kind == SHOWN:
                sink.shown(*PLACE.unpack(payload))
            else:
                sink.seek(NUMBER.unpack(payload)[0])

    def drop(self, stream: int) -> None:
        """Nobody is at its other end."""
        for streams in (self.sources, self.sinks):
            carried = streams.get(stream)
            if carried is not None:
                carried.close()

    def close(self) -> None:
        """All are over."""
        for stream in [*self.sources, *self.sinks]:
            self.drop(stream)

    def _turn(self) -> None:
        if self.port.is_crowded != self.is_paused:
            self.is_paused = not self.is_paused
            for source in list(self.sources.values()):
                source.update()
