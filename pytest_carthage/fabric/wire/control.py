"""What a fabric and a machine's agent say to each other: whole messages, which wait for nobody.

Each is one packet of a SOCK_SEQPACKET pair: it goes whole or not at all, so that a machine that
takes nothing any more keeps nobody waiting.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from pytest_carthage.fabric.wire import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_BYTES = 1 << 16
_MOST_FDS = 1
_ANCILLARY = socket.CMSG_SPACE((_MOST_FDS + 1) * 4)


class Control:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        #: of the kind SOCK_SEQPACKET
        self.sock = sock

    @classmethod
    def pair(cls) -> tuple[Control, Control]:
        """Two ends that belong together."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(near), cls(far)

    def fileno(self) -> int:
        """Its descriptor, to wait for a message."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close this end."""
        self.sock.close()

    def send(self, message: frames.Message, fds: Sequence[int] = ()) -> None:
        """Send a message, with at most one descriptor.

        :raises frames.Crowded: its descriptor cannot go now.
        :raises OSError: the other end is gone, or takes nothing now.
        """
        frames.begin(self.sock, json.dumps(message, separators=(",", ":")).encode(), fds)

    def receive(self) -> tuple[frames.Message, list[int]]:
        """Receive the message that is there.

        :raises BlockingIOError: there is none.
        :raises frames.Closed: the other end is gone, or sent what is no message.
        """
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(
                _MOST_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError as error:
            raise frames.Closed(str(error)) from error
        fds = frames.descriptors(ancillary)
        try:
            if not data:
                raise frames.Closed("closed")
            if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or len(fds) > _MOST_FDS:
                raise frames.Malformed("a message that is too long, or has too many descriptors")
            return frames.unpack(data, None), fds
        except BaseException:
            frames.close_all(fds)
            raise
