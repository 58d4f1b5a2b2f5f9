"""Names that the kernel takes, and hardware addresses: unique, and the same every time."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from itertools import count

__all__ = ["bridge_name", "mac_address", "port_name"]

_LONGEST_BYTES = 15  # IFNAMSIZ - 1, linux/if.h


def bridge_name(network: str, taken: Collection[str]) -> str:
    """Name of a network's bridge in the fabric: readable where it fits."""
    return _unique("br", network, taken)


def port_name(machine: str, interface: str, taken: Collection[str]) -> str:
    """Name of the fabric's end of a link: readable where it fits."""
    return _unique(machine, interface, taken)


def mac_address(layout: str, machine: str, interface: str, taken: Collection[str]) -> str:
    """A locally administered unicast address (IEEE 802, bits of the first byte)."""
    for digest in _digests(layout, machine, interface):
        number = [digest[0] & 0xFC | 0x02, *digest[1:6]]
        mac = ":".join(f"{byte:02x}" for byte in number)
        if mac not in taken:
            return mac
    raise AssertionError("digests do not end")


def _unique(prefix: str, name: str, taken: Collection[str]) -> str:
    readable = f"{prefix}-{name}"
    if readable.isascii() and len(readable) <= _LONGEST_BYTES and readable not in taken:
        return readable
    for digest in _digests(prefix, name):
        suffix = digest.hex()[:8]
        start = "".join(c for c in prefix if c.isascii())[: _LONGEST_BYTES - 1 - len(suffix)]
        short = f"{start}-{suffix}"
        if short not in taken:
            return short
    raise AssertionError("digests do not end")


def _digests(*parts: str) -> Iterator[bytes]:
    for attempt in count():
        yield hashlib.sha256("\0".join([*parts, str(attempt)]).encode()).digest()
