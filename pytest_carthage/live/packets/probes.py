"""Probes: packets that carry a token, in every form in which one could leave a layout."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

__all__ = ["arp", "dns", "echo", "frame", "framed", "solicitation", "source_of", "syn"]

AnyAddress: TypeAlias = IPv4Address | IPv6Address

_EVERYBODY = b"\xff" * 6
_UDP, _TCP, _ICMP6 = 17, 6, 58
_PORT = 33434  # nobody listens there


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _pseudo(source: AnyAddress, destination: AnyAddress, protocol: int, size: int) -> bytes:
    """What transport protocols check besides their own bytes (RFC 9293, RFC 8200)."""
    ends = source.packed + destination.packed
    if source.version == 4:
        return ends + struct.pack("!BBH", 0, protocol, size)
    return ends + struct.pack("!IxxxB", size, protocol)


def _packet(source: AnyAddress, destination: AnyAddress, protocol: int, body: bytes) -> bytes:
    if source.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 255)
        return head + source.packed + destination.packed + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    head += source.packed + destination.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def echo(token: bytes, version: int) -> bytes:
    """An echo request (RFC 792, RFC 4443); the kernel adds IPv6's checksum, raw(7)."""
    if version == 6:
        return struct.pack("!BBHHH", 128, 0, 0, 1, 1) + token
    body = struct.pack("!HH", 1, 1) + token
    return struct.pack("!BBH", 8, 0, checksum(struct.pack("!BBH", 8, 0, 0) + body)) + body


def syn(token: bytes, source: AnyAddress, destination: AnyAddress, port: int) -> bytes:
    """The first segment of a TCP connection, with data."""
    head = struct.pack("!HHIIBBHHH", _PORT, port, 1, 0, 5 << 4, 0x02, 1024, 0, 0)
    segment = head + token
    value = checksum(_pseudo(source, destination, _TCP, len(segment)) + segment)
    return segment[:16] + struct.pack("!H", value) + segment[18:]


def dns(token: bytes) -> bytes:
    """A query for a name that is the token (RFC 1035)."""
    label = token.hex().encode()
    name = bytes([len(label)]) + label + b"\x07example\0"
    return token[:2] + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + name + struct.pack("!HH", 1, 1)


def arp(token: bytes, mac: bytes, target: IPv4Address) -> bytes:
    """An ARP frame that asks for an address and claims none (RFC 5227), the token behind it."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + bytes(4) + bytes(6) + target.packed
    return _EVERYBODY + mac + b"\x08\x06" + body + token.ljust(18, b"\0")


def solicitation(token: bytes, mac: bytes, target: IPv6Address) -> bytes:
    """A frame that asks for a neighbour (RFC 4861), the token in its nonce (RFC 3971)."""
    last = target.packed[-3:]
    group = IPv6Address(bytes.fromhex("ff02000000000000000000" + "01ff") + last)
    body = struct.pack("!BBHI", 135, 0, 0, 0) + target.packed
    body += struct.pack("!BB", 14, 2) + token.ljust(14, b"\0")
    nobody = IPv6Address(0)
    value = checksum(_pseudo(nobody, group, _ICMP6, len(body)) + body)
    body = body[:2] + struct.pack("!H", value) + body[4:]
    return b"\x33\x33\xff" + last + mac + b"\x86\xdd" + _packet(nobody, group, _ICMP6, body)


def frame(
    token: bytes, mac: bytes, source: AnyAddress, destination: AnyAddress, port: int
) -> bytes:
    """A UDP packet to one address in a frame to everybody: it needs neither route nor neighbour."""
    body = struct.pack("!HHHH", _PORT, port, 8 + len(token), 0) + token
    value = checksum(_pseudo(source, destination, _UDP, len(body)) + body) or 0xFFFF
    body = body[:6] + struct.pack("!H", value) + body[8:]
    kind = b"\x08\x00" if source.version == 4 else b"\x86\xdd"
    return _EVERYBODY + mac + kind + _packet(source, destination, _UDP, body)


def source_of(door: socket.socket, to: str) -> AnyAddress | None:
    """The address that a machine would send from; None: it has no way there."""
    try:
        door.connect((to, 9))
    except OSError:
        return None
    address = ip_address(door.getsockname()[0].partition("%")[0])
    # back to where it was, connect(2): Python has no way to say so
    nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
    ctypes.CDLL(None).connect(door.fileno(), nowhere, len(nowhere))
    return address


def framed(
    mac: bytes, own: Sequence[AnyAddress], address: AnyAddress, port: int
) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """What to send by one interface whatever the routes say: protocol, and a frame of a token.

    :param own: addresses of the interface.
    """
    if isinstance(address, IPv4Address):
        yield "ARP", lambda token: arp(token, mac, address)
    else:
        yield "neighbour solicitation", lambda token: solicitation(token, mac, address)
    source = next((one for one in own if one.version == address.version), None)
    if source is not None:
        yield (
            f"UDP over IPv{address.version}, in a frame to everybody",
            lambda token: frame(token, mac, source, address, port),
        )
