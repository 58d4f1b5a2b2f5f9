"""What the processes of a run say to each other: JSON frames, with descriptors beside them.

A frame is a 4-byte big-endian length and a JSON object. Descriptors travel as SCM_RIGHTS with
the frame's first byte (unix(7)); ``"fds"`` in the object counts them. A request holds ``id``
and ``op``; its reply the same ``id`` and ``ok``; a refusal has ``error`` and maybe ``errno``.

To a fabric (``fabric.sock``):

=============  ==========================================  ===================================
op             fields                                      answer
=============  ==========================================  ===================================
``channel``    machine                                     this connection is now the agent's
``networks``   networks: [{bridge, mtu, kind}]
``machines``   machines: [spec], hosts: text               made: {name: {pid, netns}}
``attach``     machine, pid, env, user                     the agent is inside the container
``root``       machine, lower, upper, work                 path: its root file system
``stop``       machine                                     its processes are gone, links stay
``start``      machine                                     a stopped ``process`` machine runs
``plug``       machine, up                                 its links are in service, or not
``remove``     machine                                     gone, links too
``underlay``   name                                        a namespace for a span's tunnel
``cable``      name, mtu; fd of the other underlay
``tunnel``     name, local, remote, vni, bridge, mtu       interface: its end on the bridge
``untunnel``   name                                        gone, with its underlay
``spawn``      name, argv, env, log, cwd                   pid
``inside``     machine, argv, env; fds 0, 1, 2             status (host program, its network)
``socket``     machine, family, type, proto, bind,         a socket of that network
               listen, connect
``hosts``      text                                        ``/etc/hosts`` of machines to come
``status``                                                 machines, networks
``disturb``    kind, and what it takes (see disturb.py)    number
``heal``       number                                      that fault is over
=============  ==========================================  ===================================

To an agent:

=============  ==========================================  ===================================
``run``        argv, user, group, cwd, env, tty, rows,     job, pid; with tty: the pty's master
               cols; fds 0, 1, 2 unless tty
``wait``       job                                         status (negative: the signal)
``kill``       job, signal
``open``       path, flags, mode, user                     a descriptor
``stat``       path                                        mode, uid, gid, size, mtime
``listdir``    path                                        names
``mkdirs``     path, mode, user
``symlink``    path, target
``chmod``      path, mode
``chown``      path, user
``socket``     family, type, proto, bind: [address,        a socket; with host (instead of family):
               port], listen: backlog, connect: [address,  address
               port] (is begun, not waited for), host
``lookup``     host                                        address, by ``/etc/hosts``
``listening``                                              listening: sockets that wait for peers
``observe``                                                processes, listening, addresses...
``ping``
=============  ==========================================  ===================================
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = struct.Struct("!I")
_MOST_FDS = 16
_MOST_BYTES = 64 * 1024 * 1024
_ANCILLARY = socket.CMSG_SPACE(_MOST_FDS * 4)

Message = dict[str, Any]


class Closed(ConnectionError):
    """The other end is gone."""


def pack(message: Message, fds: Sequence[int] = ()) -> bytes:
    """A frame's bytes, for those who send it themselves."""
    if fds:
        message = {**message, "fds": len(fds)}
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEADER.pack(len(body)) + body


def begin(sock: socket.socket, data: bytes, fds: Sequence[int]) -> bytes:
    """Send the beginning of a frame with its descriptors; returns what is left to send.

    :raises BlockingIOError: a non-blocking socket takes nothing now.
    """
    if not fds:
        return data[sock.send(data) :]
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    return data[sock.sendmsg([data], [rights]) :]


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one frame on a blocking socket.

    :raises Closed: the other end is gone.
    """
    try:
        rest = begin(sock, pack(message, fds), fds)
        if rest:
            sock.sendall(rest)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Closed(str(error)) from error


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def receive(sock: socket.socket) -> tuple[Message, list[int]]:
    """Receive exactly one frame from a blocking socket, and not a byte more.

    :raises Closed: the other end is gone.
    """
    try:
        head, ancillary, _, _ = sock.recvmsg(4, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        fds = _descriptors(ancillary)
        while 0 < len(head) < 4:
            head += _some(sock, 4 - len(head))
        if not head:
            raise Closed("closed")
        (size,) = _HEADER.unpack(head)
        if size > _MOST_BYTES:
            raise Closed(f"a frame of {size} bytes")
        parts = []
        while size:
            parts.append(_some(sock, size))
            size -= len(parts[-1])
    except ConnectionResetError as error:
        raise Closed(str(error)) from error
    return json.loads(b"".join(parts)), fds


def _some(sock: socket.socket, most: int) -> bytes:
    data = sock.recv(min(most, 1 << 20))
    if not data:
        raise Closed("closed in the middle of a frame")
    return data


class Decoder:
    """Takes frames apart that arrive in arbitrary pieces (for event loops)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []

    def read(self, sock: socket.socket) -> list[tuple[Message, list[int]]]:
        """Read what there is from a non-blocking socket; return the frames that are whole.

        :raises Closed: the other end is gone.
        :raises BlockingIOError: there was nothing to read.
        """
        try:
            data, ancillary, _, _ = sock.recvmsg(1 << 16, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError as error:
            raise Closed(str(error)) from error
        self._fds += _descriptors(ancillary)
        if not data:
            raise Closed("closed")
        self._buffer += data
        frames = []
        while len(self._buffer) >= 4:
            (size,) = _HEADER.unpack_from(self._buffer)
            if len(self._buffer) < 4 + size:
                break
            message = json.loads(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            count = message.get("fds", 0)
            fds, self._fds = self._fds[:count], self._fds[count:]
            frames.append((message, fds))
        return frames

    def close(self) -> None:
        """Close descriptors that nobody fetched."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


def connect(path: str) -> socket.socket:
    """Connect to a UNIX socket, however long its path is (108 bytes are the kernel's limit)."""
    folder, name = os.path.split(path)
    fd = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(f"/proc/self/fd/{fd}/{name}")
        except BaseException:
            sock.close()
            raise
        return sock
    finally:
        os.close(fd)


def listen(path: str) -> socket.socket:
    """Listen on a UNIX socket that only its owner can use."""
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        try:
            sock.bind(f"/proc/self/fd/{fd}/{name}")
        finally:
            os.umask(previous)
        sock.listen(128)
        return sock
    finally:
        os.close(fd)
