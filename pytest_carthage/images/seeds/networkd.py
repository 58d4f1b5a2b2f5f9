"""The network of a machine as systemd-networkd is told: links by their MAC addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_carthage.images.seeds.values import FileInSeed, text

if TYPE_CHECKING:
    from pytest_carthage.images.seeds.wiring import Wire, Wiring

__all__ = ["networkd_files"]

#: sorts before what an image has, of which the first that matches counts
_FOLDER = "etc/systemd/network/05-carthage-"
_UNITS = "etc/systemd/system/"
_WAIT = "systemd-networkd-wait-online.service"
_WANTED = {
    "multi-user.target.wants/systemd-networkd.service": "systemd-networkd.service",
    "sockets.target.wants/systemd-networkd.socket": "systemd-networkd.socket",
    f"network-online.target.wants/{_WAIT}": _WAIT,
    "dbus-org.freedesktop.network1.service": "systemd-networkd.service",
}
_KINDS = {"vlan": "vlan", "vxlan": "vxlan", "bond": "bond", "gre": "gre"}


def networkd_files(wiring: Wiring) -> dict[str, FileInSeed]:
    """Path to file."""
    files: dict[str, FileInSeed] = {}
    for link, target in _WANTED.items():
        files[f"{_UNITS}{link}"] = FileInSeed(target=f"/lib/systemd/system/{target}")
    if not any(wire.planned.required and wire.up for wire in wiring.wires):
        # it waits for one link at least, for two minutes
        files[f"{_UNITS}{_WAIT}"] = FileInSeed(target="/dev/null")
    members = {
        member["interface"]: wire.name for wire in wiring.wires for member in wire.spec["members"]
    }
    macs = {card.interface: card.mac for card in wiring.cards}
    for name, mac in macs.items():
        files[f"{_FOLDER}{name}.link"] = text(
            f"[Match]\nPermanentMACAddress={mac}\n\n[Link]\nName={name}\n"
        )
    for name, bond in members.items():
        files[f"{_FOLDER}{name}.network"] = text(
            f"[Match]\nPermanentMACAddress={macs[name]}\n\n"
            f"[Link]\nRequiredForOnline=no\n\n[Network]\nBond={bond}\n"
        )
    for wire in wiring.wires:
        if wire.spec["kind"] in _KINDS:
            files[f"{_FOLDER}{wire.name}.netdev"] = text("\n".join(_netdev(wire)))
        match = f"Name={wire.name}"
        if wire.name in macs:
            match = f"PermanentMACAddress={macs[wire.name]}"
        files[f"{_FOLDER}{wire.name}.network"] = text("\n".join(_network(wire, wiring, match)))
    if wiring.loopback:
        lines = ["[Match]", "Name=lo", "", "[Network]"]
        for address in wiring.loopback:  # else it is one of all that are of its class
            lines.append(f"Address={address}/{128 if ':' in address else 32}")
        files[f"{_FOLDER}lo.network"] = text("\n".join([*lines, ""]))
    return files


def _network(wire: Wire, wiring: Wiring, match: str) -> Iterator[str]:
    link = wire.spec
    yield from ("[Match]", match, "", "[Link]")
    if link["mtu"] is not None:
        yield f"MTUBytes={link['mtu']}"
    if not wire.planned.required or not wire.up:
        yield "RequiredForOnline=no"
    if not wire.up:
        yield "ActivationPolicy=manual"
    yield from ("", "[Network]")
    dhcp = {(): "no", (4,): "ipv4", (6,): "ipv6", (4, 6): "yes"}[tuple(sorted(wire.dhcp))]
    yield f"DHCP={dhcp}"
    yield f"IPv6AcceptRA={'yes' if link['accept_ra'] else 'no'}"
    yield f"LinkLocalAddressing={'ipv6' if link['ipv6'] else 'no'}"
    # the plan has ruled out that an address is there twice (RFC 4862, section 5.4)
    yield "IPv6DuplicateAddressDetection=0"
    if wiring.forward:
        yield "IPForward=yes"
    for above in wiring.wires:
        kind = above.spec["kind"]
        if wire.name in above.spec["over"] and kind in ("vlan", "vxlan", "gre"):
            key = {"vlan": "VLAN", "vxlan": "VXLAN", "gre": "Tunnel"}[kind]
            yield f"{key}={above.name}"
    if 4 in wire.dhcp:
        # a server knows a machine by its MAC address
        yield from ("", "[DHCPv4]", "ClientIdentifier=mac")
    for address in link["addresses"]:
        yield from ("", "[Address]", f"Address={address}")
        if ":" in address:
            yield "DuplicateAddressDetection=none"
    for route in wire.routes:
        yield from ("", "[Route]", f"Gateway={route['via']}")
        if route["destination"] is not None:
            yield f"Destination={route['destination']}"
        if route["onlink"]:
            yield "GatewayOnLink=yes"
        if route["metric"] is not None:
            yield f"Metric={route['metric']}"
    for remote in link["remotes"] if link["kind"] == "vxlan" else ():
        yield from ("", "[BridgeFDB]", "MACAddress=00:00:00:00:00:00", f"Destination={remote}")
        yield "AssociatedWith=self"
    yield ""


def _netdev(wire: Wire) -> Iterator[str]:
    link = wire.spec
    yield from ("[NetDev]", f"Name={wire.name}", f"Kind={_KINDS[link['kind']]}")
    if link["kind"] != "gre":
        yield f"MACAddress={link['mac']}"
    if link["mtu"] is not None:
        yield f"MTUBytes={link['mtu']}"
    if link["kind"] == "vlan":
        yield from ("", "[VLAN]", f"Id={link['vlan']}")
    elif link["kind"] == "vxlan":
        yield from ("", "[VXLAN]", f"VNI={link['vni']}", f"Local={link['local']}")
        yield from ("DestinationPort=4789", "MacLearning=yes")
    elif link["kind"] == "bond":
        yield from ("", "[Bond]", "Mode=active-backup", "MIIMonitorSec=0.1")
    else:
        yield from ("", "[Tunnel]", f"Local={link['local']}", f"Remote={link['remotes'][0]}")
    yield ""
