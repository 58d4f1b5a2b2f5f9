"""Telling neighbours that an address is somebody else's now: gratuitous ARP, unsolicited NA.

See RFC 5227, section 3, and RFC 4861, section 7.2.6.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_NEIGHBOUR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000
_TARGET_LINK_LAYER_ADDRESS = 2
_ALL_NODES = "ff02::1"


def announce(interface: str, addresses: Iterable[str]) -> None:
    """Announce addresses (as in ``10.0.0.1/24``) of an interface of the caller's namespace.

    :raises OSError: they cannot be sent.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as sock:
        sock.bind((interface, 0))
        mac: bytes = sock.getsockname()[4]
        for text in addresses:
            address = ip_interface(text).ip
            if isinstance(address, IPv4Address):
                sock.send(arp(mac, address))
            else:
                _advertise(interface, mac, address)


def arp(mac: bytes, address: IPv4Address) -> bytes:
    """A frame that asks everybody for one's own address."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    body += mac + address.packed + bytes(6) + address.packed
    return _BROADCAST + mac + struct.pack("!H", _ETH_P_ARP) + body


def _advertise(interface: str, mac: bytes, address: IPv6Address) -> None:
    message = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE) + address.packed
    message += struct.pack("!BB", _TARGET_LINK_LAYER_ADDRESS, 1) + mac
    index = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        # whoever gets it believes only what has not come through a router
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.bind((str(address), 0, 0, index))
        sock.sendto(message, (_ALL_NODES, 0, 0, index))
