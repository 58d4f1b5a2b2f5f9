"""Frames between a tap device here and the card of a machine elsewhere.

QEMU speaks of frames over a stream so: four bytes with the length, the highest first, and the
frame. Source: net/socket.c of QEMU.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

__all__ = ["carry"]

_LENGTH = struct.Struct("!I")
#: the longest frame that QEMU takes, see NET_BUFSIZE
_LARGEST = 4096 + 65536
_PIECE = 1 << 17
#: bytes that wait for the other end; frames that come meanwhile wait at the tap, which loses them
#: as a card does whose queue is full
_WAITING = 1 << 18


def carry(tap: int, sock: socket.socket) -> None:
    """Carry frames both ways, until the stream ends.

    :param tap: a descriptor that is read and written without waiting, a frame at a time.
    :raises ValueError: what comes is no frame of QEMU's.
    :raises OSError: the stream is broken, or the tap is gone.
    """
    _forget(tap)
    sock.setblocking(False)
    come, waiting = bytearray(), bytearray()
    poll = select.poll()
    while True:
        poll.register(tap, select.POLLIN if len(waiting) < _WAITING else 0)
        poll.register(sock, select.POLLIN | (select.POLLOUT if waiting else 0))
        for fd, events in poll.poll():
            if fd == tap and events & select.POLLIN:
                _take(tap, waiting)
            elif fd == tap and events:
                raise OSError("the tap is gone")
            elif events & ~select.POLLOUT:
                try:
                    data = sock.recv(_PIECE)
                except BlockingIOError:
                    continue
                if not data:
                    return
                come += data
                _give(come, tap)
        if waiting:
            with contextlib.suppress(BlockingIOError):
                del waiting[: sock.send(waiting)]


def _forget(tap: int) -> None:
    """What came while nobody was there is not said later."""
    try:
        while os.read(tap, _LARGEST):
            pass
    except BlockingIOError:
        pass


def _take(tap: int, waiting: bytearray) -> None:
    try:
        while len(waiting) < _WAITING:
            frame = os.read(tap, _LARGEST)
            waiting += _LENGTH.pack(len(frame)) + frame
    except BlockingIOError:
        pass


def _give(come: bytearray, tap: int) -> None:
    at = 0
    while len(come) - at >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(come, at)
        if length > _LARGEST:
            raise ValueError(f"a frame of {length} bytes")
        end = at + _LENGTH.size + length
        if len(come) < end:
            break
        # its queue may be full, or its cable pulled: a frame is lost
        with contextlib.suppress(OSError):
            os.write(tap, come[at + _LENGTH.size : end])
        at = end
    del come[:at]
