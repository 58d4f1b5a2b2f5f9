"""Links that are configured at once, as whoever has them in his files does it a moment later."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["configure_link"]

# see rtnetlink(7)
_ACKNOWLEDGED = 0x0005
_CREATED = 0x0500
_NEWLINK, _NEWADDR, _NEWROUTE = 16, 20, 24
_UP = 1
_LINK_MTU = 4
_ADDR_ADDRESS, _ADDR_LOCAL, _ADDR_BROADCAST, _ADDR_FLAGS = 1, 2, 4, 8
_NO_DAD = 2
_ROUTE_DESTINATION, _ROUTE_INTERFACE, _ROUTE_GATEWAY, _ROUTE_PRIORITY = 1, 4, 5, 6
_MAIN_TABLE, _STATIC, _OF_LINK, _UNICAST = 254, 4, 253, 1
_HOP_ON_LINK = 4


def configure_link(link: Mapping[str, Any]) -> list[str]:
    """Set up a card; tells what could not be done.

    :param link: ``name``; ``mtu`` or None; ``settings``: pairs of a path below ``/proc/sys`` and
        what is written there; ``addresses`` with their prefixes; ``routes``, as the plan has them.
    """
    failed = []
    name = link["name"]
    for path, value in link["settings"]:
        try:
            with open("/proc/sys/" + path, "w") as file:
                file.write(value)
        except OSError:
            pass  # a kernel without IPv6 has none
    index = socket.if_nametoindex(name)
    up = struct.pack("=BBHiII", 0, 0, 0, index, _UP, _UP)
    if link["mtu"] is not None:
        up += _of_link(_LINK_MTU, struct.pack("=I", link["mtu"]))
    questions = [("up", _NEWLINK, 0, up)]
    for address in link["addresses"]:
        questions.append((address, _NEWADDR, _CREATED, _address(address, index)))
    for route in link["routes"]:
        text = "route to " + (route["destination"] or "all")
        questions.append((text, _NEWROUTE, _CREATED, _route(route, index)))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.settimeout(10)
        for text, kind, flags, body in questions:
            head = struct.pack("=IHHII", 16 + len(body), kind, _ACKNOWLEDGED | flags, 1, 0)
            kernel.sendall(head + body)
            (error,) = struct.unpack_from("=i", kernel.recv(4096), 16)
            if error:
                failed.append(name + ": " + text + ": " + os.strerror(-error))
    return failed


def _of_link(kind: int, value: bytes) -> bytes:
    """An attribute, see rtnetlink(7)."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _address(text: str, index: int) -> bytes:
    ip, _, length = text.partition("/")
    prefix = int(length)
    family, raw = _packed(ip)
    body = struct.pack("=BBBBi", family, prefix, 0, 0, index)
    body += _of_link(_ADDR_LOCAL, raw) + _of_link(_ADDR_ADDRESS, raw)
    if family == socket.AF_INET6:
        return body + _of_link(_ADDR_FLAGS, struct.pack("=I", _NO_DAD))
    if prefix < 31:
        (number,) = struct.unpack(">I", raw)
        raw = struct.pack(">I", number | (0xFFFFFFFF >> prefix))
        body += _of_link(_ADDR_BROADCAST, raw)
    return body


def _route(route: Mapping[str, Any], index: int) -> bytes:
    destination, via = route["destination"], route["via"]
    family, _ = _packed((via or destination or "0.0.0.0").partition("/")[0])
    prefix, attributes = 0, _of_link(_ROUTE_INTERFACE, struct.pack("=i", index))
    if destination is not None:
        network, _, length = destination.partition("/")
        raw = _packed(network)[1]
        prefix = int(length or len(raw) * 8)
        attributes += _of_link(_ROUTE_DESTINATION, raw)
    if via is not None:
        attributes += _of_link(_ROUTE_GATEWAY, _packed(via)[1])
    if route["metric"] is not None:
        attributes += _of_link(_ROUTE_PRIORITY, struct.pack("=I", route["metric"]))
    scope = _OF_LINK if via is None and family == socket.AF_INET else 0
    flags = _HOP_ON_LINK if route["onlink"] else 0
    head = (family, prefix, 0, 0, _MAIN_TABLE, _STATIC, scope, _UNICAST, flags)
    return struct.pack("=BBBBBBBBI", *head) + attributes
