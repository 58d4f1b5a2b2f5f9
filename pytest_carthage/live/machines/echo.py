"""An ICMP echo over a socket that lives in a machine: it needs no ``ping`` of its own there."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

from pytest_carthage import clock

__all__ = ["echo", "wanted"]

# RFC 792 and RFC 4443: types of request and reply
_REQUEST_4, _REPLY_4 = 8, 0
_REQUEST_6, _REPLY_6 = 128, 129


def wanted(address: str) -> tuple[int, int, int]:
    """Family, type and protocol of the socket for an address."""
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6
    return socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP


async def echo(sock: socket.socket, address: str) -> float:
    """Send one echo request and wait, for ever, for its reply; returns the seconds between.

    :param sock: as :func:`wanted`; it is made non-blocking.
    :raises OSError: there is no route to the address.
    """
    six = ":" in address
    request = _packet(_REQUEST_6 if six else _REQUEST_4, checked=not six)
    reply = _REPLY_6 if six else _REPLY_4
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    begin = clock.monotonic_s()
    await loop.sock_sendto(sock, request, _target(address))
    while True:
        received = await loop.sock_recv(sock, 2048)
        if not six:
            received = received[4 * (received[0] & 0x0F) :]  # without the IP header, raw(7)
        # the socket hears all replies on the machine; ours has our random content
        if received[:1] == bytes([reply]) and received[4:] == request[4:]:
            return clock.monotonic_s() - begin


def _target(address: str) -> tuple[str, int] | tuple[str, int, int, int]:
    """An address as a socket takes it, which has a zone by its number only, see ip(7)."""
    plain, _, zone = address.partition("%")
    return (plain, 0, 0, int(zone)) if zone else (plain, 0)


def _packet(kind: int, *, checked: bool) -> bytes:
    """An echo request with random content; the kernel itself adds IPv6's checksum, raw(7)."""
    content = os.urandom(36)  # identifier, sequence number, data
    checksum = _checksum(struct.pack("!BBH", kind, 0, 0) + content) if checked else 0
    return struct.pack("!BBH", kind, 0, checksum) + content


def _checksum(data: bytes) -> int:
    """The internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
