"""Taps: packet sockets in the namespaces of a fabric, which see what passes (packet(7)).

A socket belongs to the namespace in which the fabric made it, so that nothing runs there: the
frames come to this process. It is listening when it is opened, and what was sent before a call of
:meth:`Tap.read` is in what that call gives.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import socket
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_carthage.errors import HostError, Problem

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel

__all__ = [
    "Interface",
    "Seen",
    "Tap",
    "compile_filter",
    "interfaces_of",
    "lack_of_tcpdump",
    "open_socket",
]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: linux/if_ether.h, linux/if_packet.h, linux/if_arp.h, asm-generic/socket.h, bits/ioctls.h
_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _STATISTICS, _AUXDATA = 1, 6, 8
_MR_PROMISC = 1
_OUTGOING = 4
_ETHER, _LOOPBACK = 1, 772
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_SIOCGIFINDEX = 0x8933
#: linux/rtnetlink.h, linux/if_link.h
_NEWLINK, _GETLINK, _DUMP_REQUEST = 16, 18, 0x301
_IFLA_ADDRESS, _IFLA_IFNAME, _IFF_UP = 1, 3, 0x1
_VLAN_VALID, _VLAN_TPID_VALID = 0x10, 0x40
_AUX = struct.Struct("=IIIHHHH")
_TIME = struct.Struct("=qq")
_LARGEST = 1 << 18
_BUFFER_BYTES = 8 << 20


class Seen(NamedTuple):
    """One frame, as a tap gives it."""

    time_ns: int
    #: name of the interface on which it was seen
    interface: str
    #: whether the namespace sent it by that interface
    is_outgoing: bool
    #: the frame; one is made up around the packets of an interface that has none
    data: bytes


class Interface(NamedTuple):
    """One interface of a network namespace."""

    number: int
    name: str
    mac: bytes
    is_up: bool
    is_ethernet: bool


def lack_of_tcpdump() -> Problem | None:
    """What is missing for filters, which tcpdump compiles."""
    if shutil.which("tcpdump", path=_PATH):
        return None
    return Problem(
        who="capture",
        what="no tcpdump, which makes filters of what pcap-filter(7) describes",
        remedy="apt-get install tcpdump",
        packages=("tcpdump",),
    )


async def compile_filter(fabric: Channel, text: str) -> bytes:
    """Compile a filter as pcap-filter(7) describes it, for live packets of Ethernet.

    :raises ValueError: it is none, in tcpdump's own words.
    :raises HostError: there is no tcpdump.
    """
    problem = lack_of_tcpdump()
    if problem is not None:
        raise HostError([problem])
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # in the fabric: only with a live interface it knows how this kernel tells of VLANs
        reply, _ = await fabric.request(
            "inside",
            fds=(null, out_write, error_write),
            argv=["tcpdump", "-ddd", "-i", "lo", "--", text],
            env={"PATH": _PATH, "LC_ALL": "C"},
        )
    finally:
        for fd in (null, out_write, error_write):
            os.close(fd)
        # a program has at most some hundred lines: they fit into a pipe
        with os.fdopen(out_read) as out, os.fdopen(error_read, errors="replace") as told:
            lines, complaint = out.read().splitlines(), told.read().strip()
    if reply["status"]:
        raise ValueError(complaint.removeprefix("tcpdump: ").partition("\n")[0])
    instructions = [tuple(map(int, line.split())) for line in lines[1:]]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


async def open_socket(
    fabric: Channel, machine: str | None, family: int, kind: int, protocol: int = 0
) -> socket.socket:
    """A socket of a machine's network namespace, or of the fabric's own; non-blocking."""
    _, fds = await fabric.request(
        "socket", machine=machine, family=family, type=kind, proto=protocol
    )
    sock = socket.socket(fileno=fds[0])
    sock.setblocking(False)
    return sock


class Tap:
    """One packet socket, read by whoever asks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lost = 0
        self._buffer = bytearray(_LARGEST)

    @classmethod
    async def open(
        cls,
        fabric: Channel,
        machine: str | None,
        interface: str | None,
        *,
        program: bytes = b"",
        is_promiscuous: bool = False,
    ) -> Tap:
        """Watch one interface in a machine or in the fabric; all of them where it is None.

        :raises OSError: there is no such interface.
        """
        sock = await open_socket(fabric, machine, socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            return cls.on(sock, interface, program=program, is_promiscuous=is_promiscuous)
        except BaseException:
            sock.close()
            raise

    @classmethod
    def on(
        cls,
        sock: socket.socket,
        interface: str | None,
        *,
        program: bytes = b"",
        is_promiscuous: bool = False,
    ) -> Tap:
        """Watch with a packet socket that receives nothing yet (protocol 0)."""
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        if program:
            attach(sock, program)
        if interface is not None and is_promiscuous:
            request = struct.pack("=iHH8s", index_of(sock, interface), _MR_PROMISC, 0, bytes(8))
            sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
        # from now on it receives
        _bind(sock, index_of(sock, interface) if interface is not None else 0)
        return cls(sock)

    def fileno(self) -> int:
        """The socket's descriptor, to wait for frames."""
        return self._sock.fileno()

    @property
    def lost(self) -> int:
        """Frames that the kernel dropped, since they were not taken in time."""
        if self._sock.fileno() >= 0:
            counts = self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 8)
            self._lost += struct.unpack("=II", counts)[1]
        return self._lost

    def read(self, most: int | None = None) -> Iterator[Seen]:
        """Take the frames that are there, at most so many."""
        count = 0
        space = socket.CMSG_SPACE(_AUX.size) + socket.CMSG_SPACE(_TIME.size)
        while most is None or count < most:
            try:
                size, ancillary, _, address = self._sock.recvmsg_into([self._buffer], space)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # told once; it goes on when it is up again
                    continue
                raise
            count += 1
            yield _seen(bytes(memoryview(self._buffer)[:size]), ancillary, address)

    def close(self) -> None:
        """Stop watching; what was not read is gone."""
        _ = self.lost
        self._sock.close()


def index_of(sock: socket.socket, interface: str) -> int:
    """Index of an interface in the namespace of a socket.

    :raises OSError: there is none of this name.
    """
    request = struct.pack("=16si20x", interface.encode(), 0)
    answer = fcntl.ioctl(sock, _SIOCGIFINDEX, request)
    return int(struct.unpack_from("=i", answer, 16)[0])


def _bind(sock: socket.socket, index: int) -> None:
    """Receive all frames of an interface; with the index 0 of all, which Python cannot say."""
    address = struct.pack(
        "=HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), index, 0, 0, 0, b""
    )
    library = ctypes.CDLL(None, use_errno=True)
    if library.bind(sock.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, f"bind a packet socket: {os.strerror(number)}")


def attach(sock: socket.socket, program: bytes) -> None:
    """Have a socket receive only what a classic BPF program lets through."""
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a length, and a pointer at its natural place
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def _seen(data: bytes, ancillary: list[tuple[int, int, bytes]], address: Any) -> Seen:
    interface, protocol, kind, hardware, _ = address
    time_ns = 0
    for level, what, value in ancillary:
        if level == _SOL_PACKET and what == _AUXDATA:
            status, _, _, _, _, tag, ethertype = _AUX.unpack(value[: _AUX.size])
            if status & _VLAN_VALID and len(data) >= 12:
                # the kernel has taken the tag off
                tag_protocol = ethertype if status & _VLAN_TPID_VALID else 0x8100
                data = data[:12] + struct.pack("!HH", tag_protocol, tag) + data[12:]
        elif level == socket.SOL_SOCKET and what == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIME.unpack(value)
            time_ns = seconds * 10**9 + nanoseconds
    if hardware not in (_ETHER, _LOOPBACK):
        data = bytes(12) + struct.pack("!H", protocol) + data
    return Seen(time_ns, interface, kind == _OUTGOING, data)


def interfaces_of(sock: socket.socket) -> list[Interface]:
    """All interfaces of the namespace of a route socket (rtnetlink(7))."""
    sock.settimeout(5.0)
    body = bytes(16)
    sock.send(struct.pack("=IHHII", 16 + len(body), _GETLINK, _DUMP_REQUEST, 1, 0) + body)
    interfaces: list[Interface] = []
    while True:
        data = sock.recv(1 << 17)
        offset = 0
        while offset + 16 <= len(data):
            size, kind = struct.unpack_from("=IH", data, offset)
            if kind != _NEWLINK or size < 32:
                return interfaces
            _, hardware, number, flags, _ = struct.unpack_from("=BxHiII", data, offset + 16)
            values = dict(_attributes(data[offset + 32 : offset + size]))
            interfaces.append(
                Interface(
                    number=number,
                    name=values.get(_IFLA_IFNAME, b"?\0")[:-1].decode(),
                    mac=values.get(_IFLA_ADDRESS, b""),
                    is_up=bool(flags & _IFF_UP),
                    is_ethernet=hardware == _ETHER,
                )
            )
            offset += size + -size % 4


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += size + -size % 4
