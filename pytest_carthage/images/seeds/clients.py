"""Who asks servers for addresses in a machine that its seed configures: what its image has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.images.exports.boot.merged import locate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_carthage.images.seeds.wiring import Wiring

__all__ = ["lacking_client"]

_SYSTEMD = ("usr/lib/systemd/systemd", "lib/systemd/systemd")
_IFUPDOWN = ("sbin/ifup", "usr/sbin/ifup")
_NETWORKD = ("usr/lib/systemd/systemd-networkd", "lib/systemd/systemd-networkd")
_UDEV = ("usr/lib/systemd/systemd-udevd", "lib/systemd/systemd-udevd")
#: of those that ifup(8) starts
_CLIENTS = tuple(
    f"{folder}/{name}"
    for folder in ("sbin", "usr/sbin", "bin", "usr/bin")
    for name in ("dhclient", "dhcpcd", "udhcpc", "pump")
)


def lacking_client(wiring: Wiring, trees: Sequence[Path]) -> str:
    """Why a link of a machine will never have the address that it asks for, with a remedy.

    :param trees: folders of its image, the top first.
    :returns: empty where somebody asks.
    """

    def has(names: Sequence[str]) -> bool:
        return any(locate(trees, name) is not None for name in names)

    asking = [(wire, version) for wire in wiring.wires for version in wire.dhcp if wire.up]
    if not asking:
        return ""
    if has(_SYSTEMD) and has(_IFUPDOWN):
        if has(_CLIENTS):
            return ""
        why, remedy = "ifupdown without a client", 'packages=["isc-dhcp-client"]'
    else:
        if has(_SYSTEMD) and has(_NETWORKD) and has(_UDEV):
            return ""
        # busybox, which has no other client
        asking = [(wire, version) for wire, version in asking if version == 6]
        why = "neither ifupdown nor systemd-networkd with udev"
        remedy = 'packages=["systemd-sysv", "udev"], or slaac=True'
    if not asking:
        return ""
    wire, version = asking[0]
    protocol = "DHCP" if version == 4 else "DHCPv6"
    link = f"link {wire.name!r} to network {wire.planned.network!r}"
    return f"{link} asks by {protocol}, and its image has {why}; try: {remedy}"
