"""Names that the kernel takes: unique, and the same every time."""

from __future__ import annotations

from collections.abc import Collection

from pytest_carthage.model.addresses.hardware import digests

__all__ = ["bridge_name", "port_name"]

_LONGEST_BYTES = 15  # IFNAMSIZ - 1, linux/if.h


def bridge_name(network: str, taken: Collection[str]) -> str:
    """Name of a network's bridge in the fabric: readable where it fits."""
    return _unique("br", network, taken)


def port_name(machine: str, interface: str, taken: Collection[str]) -> str:
    """Name of the fabric's end of a link: readable where it fits."""
    return _unique(machine, interface, taken)


def _unique(prefix: str, name: str, taken: Collection[str]) -> str:
    readable = f"{prefix}-{name}"
    if readable.isascii() and len(readable) <= _LONGEST_BYTES and readable not in taken:
        return readable
    for digest in digests(prefix, name):
        suffix = digest.hex()[:8]
        start = "".join(c for c in prefix if c.isascii())[: _LONGEST_BYTES - 1 - len(suffix)]
        short = f"{start}-{suffix}"
        if short not in taken:
            return short
    raise AssertionError("digests do not end")
