"""The relay: one process that carries a cable's frames, and treats them on their way.

For what the kernel cannot do to a link: without netem (tc-netem(8)) it neither delays frames
nor doubles nor corrupts them. Frames pass with what offloads have left to do (PACKET_VNET_HDR,
packet(7); ``struct virtio_net_hdr``, linux/virtio_net.h), so that their checksums and their
segmentation stay right, and a transfer takes few of them.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import random
import select
import socket
import struct
from typing import Any, NoReturn

from pytest_carthage import clock
from pytest_carthage.fabric.qdisc import queue_bytes

_SOL_PACKET = 263
_PACKET_AUXDATA, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 8, 15, 23
_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 8 << 20
_LARGEST = 1 << 17
#: frames that may wait at the same time in one direction, in bytes
_MOST_WAITING = 64 << 20
_AT_ONCE = 64

_AUXDATA = struct.Struct("=IIIHHHH")
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
_VLAN = 0x8100

_OFFLOADS = struct.Struct("=BBHHHH")
_NEEDS_CSUM = 1
_GSO_NONE, _GSO_TCPV4, _GSO_TCPV6, _GSO_ECN = 0, 1, 4, 0x80


def tap(interface: str) -> socket.socket:
    """A socket that takes all frames which arrive at an interface, and sends any.

    :raises OSError: there is no such interface, or the kernel refused.
    """
    sock = socket.socket(
        socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
    )
    try:
        sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except PermissionError:  # in a user namespace: as much as net.core.rmem_max allows
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.bind((interface, _ETH_P_ALL))
    except BaseException:
        sock.close()
        raise
    return sock


class _Way:
    """One direction: from where to where, and what happens on it."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.waiting: list[tuple[float, int, bytes]] = []
        self.waiting_bytes = 0
        self._order = 0
        #: when the narrow part of the link is free again
        self._free = 0.0
        self.treat(None)

    def treat(self, spec: dict[str, Any] | None) -> None:
        """Change what happens; what waits is sent at its time, or at once without a spec."""
        spec = spec or {}
        self._plain = not any(value for key, value in spec.items() if key != "seed")
        self._loss = spec.get("loss", 0.0)
        self._delay_s = spec.get("delay_s", 0.0)
        self._jitter_s = spec.get("jitter_s", 0.0)
        self._rate_bps = spec.get("rate_bps", 0.0)
        self._duplicate = spec.get("duplicate", 0.0)
        self._corrupt = spec.get("corrupt", 0.0)
        self._random = random.Random(spec.get("seed", 0))
        if self._plain:
            self.send_due(float("inf"))

    def carry(self) -> None:
        """Take what has arrived, and send it or put it into the queue."""
        for _ in range(_AT_ONCE):
            frame = _receive(self.source)
            if frame is None:
                return
            if self._plain:
                _send(self.target, frame)
                continue
            if self._loss and self._random.random() < self._loss:
                continue
            copies = 2 if self._duplicate and self._random.random() < self._duplicate else 1
            for _ in range(copies):
                if self._corrupt and self._random.random() < self._corrupt:
                    for part in corrupted(frame, self._random):
                        self._queue(part)
                else:
                    self._queue(frame)

    def _queue(self, frame: bytes) -> None:
        due = now = clock.monotonic_s()
        if self._rate_bps:
            begin = max(now, self._free)
            if (begin - now) * self._rate_bps / 8 > queue_bytes(self._rate_bps):
                return
            due = self._free = begin + (len(frame) - _OFFLOADS.size) * 8 / self._rate_bps
        if self._delay_s or self._jitter_s:
            spread = self._jitter_s * (2 * self._random.random() - 1)
            due += max(0.0, self._delay_s + spread)
        if due <= now:
            _send(self.target, frame)
        elif self.waiting_bytes < _MOST_WAITING:
            self._order += 1
            heapq.heappush(self.waiting, (due, self._order, frame))
            self.waiting_bytes += len(frame)

    def send_due(self, now: float) -> None:
        """Send whatever has waited long enough."""
        waiting = self.waiting
        while waiting and waiting[0][0] <= now:
            _, _, frame = heapq.heappop(waiting)
            self.waiting_bytes -= len(frame)
            _send(self.target, frame)

    def drain(self) -> None:
        """Forget what arrived before the cable led through here."""
        while _receive(self.source) is not None:
            pass


def _receive(sock: socket.socket) -> bytes | None:
    """The next frame behind its offloads; None: there is none now."""
    try:
        frame, ancillary, _, _ = sock.recvmsg(_LARGEST, 64)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in (errno.ENETDOWN, errno.ENETUNREACH):
            return None  # the cable is pulled
        raise
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA and len(data) >= _AUXDATA.size:
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(data)
            if status & _TP_STATUS_VLAN_VALID:
                if not status & _TP_STATUS_VLAN_TPID_VALID:
                    tpid = _VLAN
                return _tagged(frame, tci, tpid)
    return frame


def _tagged(frame: bytes, tci: int, tpid: int) -> bytes:
    """Put an 802.1Q tag back, which the kernel keeps beside a frame that it received."""
    at = _OFFLOADS.size + 12
    flags, kind, length, size, start, offset = _OFFLOADS.unpack_from(frame)
    if flags & _NEEDS_CSUM:
        start += 4
    if kind:
        length += 4
    head = _OFFLOADS.pack(flags, kind, length, size, start, offset)
    return head + frame[_OFFLOADS.size : at] + struct.pack("!HH", tpid, tci) + frame[at:]


def _send(sock: socket.socket, frame: bytes) -> None:
    try:
        sock.send(frame)
    except OSError:
        pass  # full, pulled or gone: a cable loses frames then


def _sum(data: bytes) -> int:
    """Internet checksum (RFC 1071), not yet complemented."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _finished(frame: bytearray, start: int, offset: int) -> None:
    """Write the checksum that an offload would write; the pseudo header's sum is there."""
    value = ~_sum(bytes(frame[start:])) & 0xFFFF
    struct.pack_into("!H", frame, start + offset, value or 0xFFFF)


def segments(frame: bytes) -> list[bytes]:
    """What goes over a wire for this frame: packets with complete checksums, no offloads left.

    :raises ValueError: it is of a kind that cannot be taken apart here.
    """
    flags, kind, _, size, start, offset = _OFFLOADS.unpack_from(frame)
    body = frame[_OFFLOADS.size :]
    plain = _OFFLOADS.pack(0, 0, 0, 0, 0, 0)
    if kind & ~_GSO_ECN == _GSO_NONE:
        whole = bytearray(body)
        if flags & _NEEDS_CSUM:
            _finished(whole, start, offset)
        return [plain + whole]
    if kind & ~_GSO_ECN not in (_GSO_TCPV4, _GSO_TCPV6) or not flags & _NEEDS_CSUM:
        raise ValueError("not a TCP segment")
    header = start + (body[start + 12] >> 4) * 4
    network = _network_header(body)
    (sequence,) = struct.unpack_from("!I", body, start + 4)
    made: list[bytes] = []
    for at in range(header, len(body), size):
        data = body[at : at + size]
        part = bytearray(body[:header] + data)
        last = at + size >= len(body)
        struct.pack_into("!I", part, start + 4, (sequence + at - header) & 0xFFFFFFFF)
        if not last:
            part[start + 13] &= ~0x09 & 0xFF  # FIN and PSH are the last one's
        length = len(part) - start
        if kind & ~_GSO_ECN == _GSO_TCPV4:
            struct.pack_into("!H", part, network + 2, len(part) - network)
            (number,) = struct.unpack_from("!H", part, network + 4)
            struct.pack_into("!H", part, network + 4, (number + len(made)) & 0xFFFF)
            struct.pack_into("!H", part, network + 10, 0)
            value = ~_sum(bytes(part[network:start])) & 0xFFFF
            struct.pack_into("!H", part, network + 10, value)
            addresses = bytes(part[network + 12 : network + 20])
        else:
            struct.pack_into("!H", part, network + 4, len(part) - network - 40)
            addresses = bytes(part[network + 8 : network + 40])
        pseudo = _sum(addresses + struct.pack("!II", length, socket.IPPROTO_TCP))
        struct.pack_into("!H", part, start + offset, pseudo)
        _finished(part, start, offset)
        made.append(plain + part)
    return made


def _network_header(body: bytes) -> int:
    at = 12
    while body[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return at + 2


def corrupted(frame: bytes, chance: random.Random) -> list[bytes]:
    """The frame as it goes over a wire, with one bit of one of its packets turned.

    A packet that cannot be taken apart is lost: its receiver would drop it.
    """
    try:
        parts = segments(frame)
    except (ValueError, IndexError, struct.error):
        return []
    number = chance.randrange(len(parts))
    part = bytearray(parts[number])
    first = _OFFLOADS.size + 14  # a wrong hardware address would be a loss, not a corruption
    if len(part) > first:
        part[chance.randrange(first, len(part))] ^= 1 << chance.randrange(8)
    parts[number] = bytes(part)
    return parts


def serve(control: socket.socket, port: socket.socket, splice: socket.socket) -> NoReturn:
    """Carry frames between ``port`` and ``splice`` until ``control`` is closed.

    Each message on ``control`` (JSON: what happens ``to`` and ``from`` the machine) is
    answered when it is in force; nothing is carried before the first one.
    """
    to, from_ = _Way(splice, port), _Way(port, splice)
    began = False
    watched: list[socket.socket] = [control]
    while True:
        now = clock.monotonic_s()
        due = min((way.waiting[0][0] for way in (to, from_) if way.waiting), default=None)
        # select(2), since the others wait for whole milliseconds
        ready, _, _ = select.select(
            watched, (), (), None if due is None else min(max(0.0, due - now), 60.0)
        )
        if control in ready:
            message = control.recv(1 << 16)
            if not message:
                os._exit(0)
            specs = json.loads(message)
            if not began:
                for way in (to, from_):
                    way.drain()
                watched = [control, port, splice]
                began = True
            to.treat(specs["to"])
            from_.treat(specs["from"])
            control.send(b"ok")
        if splice in ready:
            to.carry()
        if port in ready:
            from_.carry()
        if to.waiting or from_.waiting:
            now = clock.monotonic_s()
            to.send_due(now)
            from_.send_due(now)
