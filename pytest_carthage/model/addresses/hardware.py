"""Hardware addresses: unique in a layout, and the same every time."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from ipaddress import IPv6Address, IPv6Network
from itertools import count

__all__ = ["digests", "from_mac", "mac_address"]


def mac_address(layout: str, machine: str, interface: str, taken: Collection[str]) -> str:
    """A locally administered unicast address (IEEE 802, bits of the first byte)."""
    for digest in digests(layout, machine, interface):
        number = [digest[0] & 0xFC | 0x02, *digest[1:6]]
        mac = ":".join(f"{byte:02x}" for byte in number)
        if mac not in taken:
            return mac
    raise AssertionError("digests do not end")


def from_mac(mac: str, subnet: IPv6Network) -> IPv6Address:
    """The address that a host derives in an advertised prefix (RFC 4291, appendix A)."""
    number = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([number[0] ^ 0x02]) + number[1:3] + b"\xff\xfe" + number[3:]
    return IPv6Address(int(subnet.network_address) | int.from_bytes(identifier, "big"))


def digests(*parts: str) -> Iterator[bytes]:
    """Digests of some names, one after the other, for when the first is taken."""
    for attempt in count():
        yield hashlib.sha256("\0".join([*parts, str(attempt)]).encode()).digest()
