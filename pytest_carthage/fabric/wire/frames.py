"""What the processes of a run say to each other: JSON frames, with descriptors beside them.

A frame is a 4-byte big-endian length and a JSON object. Descriptors travel as SCM_RIGHTS with
the frame's first byte (unix(7)); ``"fds"`` in the object counts them. A request holds ``id``
and ``op``; its reply the same ``id`` and ``ok``; a refusal has ``error`` and maybe ``errno``.
What a reply has to have is told by :mod:`.replies`.

To a fabric (``fabric.sock``):

=============  ==========================================  ===================================
op             fields                                      answer
=============  ==========================================  ===================================
``channel``    machine                                     this connection is now the agent's
``hello``                                                  operations: names of them
``networks``   networks: [NetworkSpec], see ..spec
``machines``   machines: [MachineSpec], hosts: text        made: {name: {pid, netns}}
``attach``     machine, pid, env, user                     the agent is inside the container
``deputy``     machine; fd of its control socket           from now on it answers for the machine
``root``       machine, lower, upper, work                 path: its root file system
``stop``       machine                                     its processes are gone, links stay
``start``      machine                                     a stopped ``process`` machine runs
``booted``     machine, timeout_s                          booted: its init has started everything
``ended``      machine                                     how, status, at_s, last: told when its
                                                           first process ends by itself
``oom``        machine                                     kills: processes that the kernel has
                                                           killed in it for want of memory
``plug``       machine, up                                 its links are in service, or not
``tap``        machine, port, offloads                     a descriptor of that tap device
``remove``     machine                                     gone, with links and faults
``underlay``   name                                        a namespace for a span's tunnel
``cable``      name, mtu; fd of the other underlay
``tunnel``     name, local, remote, vni, bridge, mtu       interface: its end on the bridge
``untunnel``   name                                        gone, with its underlay
``spawn``      argv, env, log, cwd; with a mount           pid
               namespace of its own: mounts:
               [MountSpec], unmounts: paths
``inside``     machine, argv, env; fds 0, 1, 2             status (host program, its network)
``socket``     machine, family, type, proto, bind,         a socket of that network
               listen, connect
``station``    machine, addresses: others that its         a PID namespace of its own, which ends
               loopback answers for                        with the fabric
``hosts``      text                                        ``/etc/hosts`` of machines to come
``status``                                                 machines, networks, faults
``disturb``    kind, and what it takes (see disturb.py)    number
``heal``       number                                      that fault is over
``cancel``     request                                     none: nobody waits for that request
                                                           any more; what it began is ended
=============  ==========================================  ===================================

To an agent:

=============  ==========================================  ===================================
``run``        argv, user, group, cwd, env, tty, rows,     job, pid; with tty: the pty's master
               cols; fds 0, 1, 2 unless tty
``sftp``       user; fds 0, 1, 2                           job, pid: serves files there
``wait``       job                                         status (negative: the signal)
``kill``       job, signal
``open``       path, flags, mode, user                     a descriptor; with commit, of a copy
``commit``     number, keep                                that copy is the file now, or thrown away
``stat``       path                                        mode, uid, gid, size, mtime, and
                                                           perhaps mtime_ns
``listdir``    path                                        names
``mkdirs``     path, mode, user                            perhaps made: it was not there
``symlink``    path, target, user, mtime_ns
``link``       path, target                                one more name of the target
``settle``     path, mode, mtime_ns, attributes:           it has all of these
               {name: hex}
``chmod``      path, mode
``chown``      path, user
``socket``     family, type, proto, bind: [address,        a socket; with host (instead of family):
               port], listen: backlog, connect: [address,  address
               port] (is begun, not waited for), host
``lookup``     host                                        address, by ``/etc/hosts``
``connect``    host, port, protocol, timeout_s             a connected socket; address
``datagrams``  host, port, timeout_s                       the same for UDP: a packet is a datagram
``listen``     to, address, port                           listener, address, port: who connects
                                                           there is carried to the socket ``to``
``unlisten``   listener
``echo``       host, timeout_s                             seconds of an ICMP echo
``listening``                                              listening: sockets that wait for peers
``holders``    inodes of pipes                             holders: [{pid, args, ...}]
``observe``                                                processes, listening, addresses...
``settings``                                               changed: name to value of what was set
                                                           without effect
``ping``
``cancel``     request                                     none: nobody waits for that request
                                                           any more; what it began is ended
=============  ==========================================  ===================================

To the recorder of serial consoles (``consoles.sock``):

=============  ==========================================  ===================================
``record``     machine, path: where its serial port
               connects to, log: of what it prints
``forget``     machine                                     who is attached is hung up
``settle``     machine                                     its log has all that it has printed
``console``    machine, lines: of what was printed last    a socket that is attached;
                                                           is_connected: the machine is there;
                                                           others: how many are attached, too
=============  ==========================================  ===================================
"""

from __future__ import annotations

import array
import errno
import json
import os
import resource
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = struct.Struct("!I")
#: a frame with more descriptors, or of more bytes, is refused, whoever sends it
MOST_FDS = 16
MOST_BYTES = 64 * 1024 * 1024
# room for one more than is taken: whoever sends too many is found out
_ANCILLARY = socket.CMSG_SPACE((MOST_FDS + 1) * 4)
_PIECE = 1 << 20
# flags as plain numbers, with which Python is several times faster than with an enumeration's
_CLOEXEC, _CTRUNC = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)

Message = dict[str, Any]


class Closed(ConnectionError):
    """The other end is gone."""


class Malformed(Closed):
    """What the other end sent is no frame: nobody knows where the next one would begin."""


class Crowded(OSError):
    """Descriptors cannot go now: too many of this user's are on their way, see ETOOMANYREFS.

    They are counted over all processes of a user, which root of every machine is the same of;
    nothing was sent, and the connection is what it was.
    """

    def __init__(self) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        super().__init__(
            errno.ETOOMANYREFS,
            f"the kernel passes no more descriptors on: more than {most} (ulimit -n) of this user "
            "were sent and not received yet, see unix(7)",
        )


def pack(message: Message, fds: Sequence[int] = ()) -> bytes:
    """A frame's bytes, for those who send it themselves.

    :raises ValueError: it is too large, or has too many descriptors; nothing was sent.
    """
    if len(fds) > MOST_FDS:
        raise ValueError(f"{len(fds)} descriptors, more than the {MOST_FDS} that a frame takes")
    if fds:
        message = {**message, "fds": len(fds)}
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MOST_BYTES:
        raise ValueError(f"{len(body)} bytes, more than the {MOST_BYTES} that a frame takes")
    return _HEADER.pack(len(body)) + body


def unpack(body: bytes | bytearray, count: int | None) -> Message:
    """The message that a frame's body is.

    :param count: of descriptors that came with it; None: it does not tell how many there are.
    :raises Malformed: it is none, or was sent with another number of descriptors.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"a frame that is no JSON: {error}") from None
    if not isinstance(message, dict):
        raise Malformed(f"a frame that is no object but {type(message).__name__}")
    announced = message.get("fds", 0)
    if count is None:
        return message
    if type(announced) is not int or announced != count:
        raise Malformed(f"a frame of {announced!r} descriptors with {count}")
    return message


def begin(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int]) -> int:
    """Send the beginning of a frame with its descriptors; returns how many bytes went.

    :raises Crowded: its descriptors cannot go now; nothing was sent.
    """
    if not fds:
        return sock.send(data)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    try:
        return sock.sendmsg([data], [rights])
    except OSError as error:
        if error.errno == errno.ETOOMANYREFS:
            raise Crowded from None
        raise


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one frame on a blocking socket.

    :raises ValueError: it is too large; nothing was sent.
    :raises Crowded: its descriptors cannot go now; nothing was sent.
    :raises Closed: the other end is gone.
    """
    data = pack(message, fds)
    try:
        sent = begin(sock, data, fds)
        if sent < len(data):
            sock.sendall(memoryview(data)[sent:])
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Closed(str(error)) from error


def descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came beside some data, see recvmsg(2)."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors; one that is closed already is none of our business."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def receive(sock: socket.socket) -> tuple[Message, list[int]]:
    """Receive exactly one frame from a blocking socket, and not a byte more.

    :raises Closed: the other end is gone.
    :raises TimeoutError: the socket's own time limit was reached; what is left of the frame
        cannot be received any more.
    """
    decoder = Decoder()
    try:
        while True:
            frame = decoder.read(sock)
            if frame is not None:
                return frame
    except BaseException:
        decoder.close()
        raise


class Decoder:
    """Takes frames apart that arrive in arbitrary pieces; it never reads beyond a frame's end."""

    def __init__(self) -> None:
        self._head = b""
        self._body = bytearray()
        self._fds: list[int] = []

    def read(self, sock: socket.socket) -> tuple[Message, list[int]] | None:
        """Read what there is of a frame; return it once it is whole, and None until then.

        :raises Closed: the other end is gone.
        """
        try:
            if len(self._head) < _HEADER.size:
                self._read_head(sock)
            (size,) = _HEADER.unpack(self._head)
            while len(self._body) < size:
                data = sock.recv(min(size - len(self._body), _PIECE))
                if not data:
                    raise Closed("closed in the middle of a frame")
                self._body += data
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            raise Closed(str(error)) from error
        message = unpack(self._body, len(self._fds))
        fds = self._fds
        self._head, self._body, self._fds = b"", bytearray(), []
        return message, fds

    def _read_head(self, sock: socket.socket) -> None:
        while len(self._head) < _HEADER.size:
            data, ancillary, flags, _ = sock.recvmsg(
                _HEADER.size - len(self._head), _ANCILLARY, _CLOEXEC
            )
            self._fds += descriptors(ancillary)
            if flags & _CTRUNC or len(self._fds) > MOST_FDS:
                raise Malformed(f"a frame of more than {MOST_FDS} descriptors")
            if not data:
                raise Closed("closed in the middle of a frame" if self._head else "closed")
            self._head += data
        (size,) = _HEADER.unpack(self._head)
        if size > MOST_BYTES:
            raise Malformed(f"a frame of {size} bytes, more than {MOST_BYTES}")

    def close(self) -> None:
        """Close descriptors that nobody fetched."""
        close_all(self._fds)
        self._fds.clear()


class Frame:
    """A frame on its way out."""

    def __init__(self, data: bytes, fds: Sequence[int]) -> None:
        self.rest = memoryview(data)
        self.fds = tuple(fds)
        #: whether a part of it has gone, and with it the descriptors
        self.is_begun = False


class Outbox:
    """Frames on their way out of a non-blocking socket: what has begun to go goes out whole.

    It owns the descriptors of what it could not send at once.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames: deque[Frame] = deque()

    def __bool__(self) -> bool:
        """Whether anything is still to be sent."""
        return bool(self._frames)

    def post(self, data: bytes, fds: Sequence[int]) -> Frame:
        """Send a frame behind those that wait; what cannot go now goes with :meth:`flush`.

        :raises Crowded: its descriptors cannot go now; the others are not touched by that.
        :raises OSError: the other end is gone.
        """
        frame = Frame(data, fds)
        if not self._frames and self._send(frame):
            return frame
        if not frame.is_begun:
            frame.fds = tuple(map(os.dup, frame.fds))  # the caller may close its own any time
        self._frames.append(frame)
        return frame

    def flush(self) -> None:
        """Send what the socket takes now.

        :raises OSError: the other end is gone.
        """
        while self._frames and self._send(self._frames[0], ours=True):
            self._frames.popleft()

    def _send(self, frame: Frame, *, ours: bool = False) -> bool:
        """Send what the socket takes of a frame; returns whether it is out."""
        while frame.rest:
            try:
                sent = begin(self._sock, frame.rest, () if frame.is_begun else frame.fds)
            except BlockingIOError:
                return False
            frame.rest = frame.rest[sent:]
            if not frame.is_begun:
                frame.is_begun = True
                if ours:
                    close_all(frame.fds)
        return True

    def withdraw(self, frame: Frame) -> bool:
        """Take a frame back; returns whether that was possible: nothing of it had gone."""
        if frame.is_begun or frame not in self._frames:
            return False
        self._frames.remove(frame)
        close_all(frame.fds)
        return True

    def close(self) -> None:
        """Forget what was not sent."""
        for frame in self._frames:
            if not frame.is_begun:
                close_all(frame.fds)
        self._frames.clear()


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
