"""The network of a machine as ifupdown is told, see interfaces(5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_carthage.images.seeds.commands import creation, flooding, route_command, settings_of
from pytest_carthage.images.seeds.values import FileInSeed, text

if TYPE_CHECKING:
    from pytest_carthage.images.seeds.wiring import Wire, Wiring

__all__ = ["ifupdown_files"]


def ifupdown_files(wiring: Wiring) -> dict[str, FileInSeed]:
    """Path to file."""
    lines = ["auto lo", "iface lo inet loopback"]
    for address in wiring.loopback:
        prefix = 128 if ":" in address else 32
        lines.append(f"    up ip addr add {address}/{prefix} dev lo || true")
    for wire in wiring.wires:
        lines += ["", *_stanzas(wire)]
    return {"etc/network/interfaces": text("\n".join([*lines, ""]))}


def _stanzas(wire: Wire) -> Iterator[str]:
    link, name = wire.spec, wire.name
    if wire.up:
        yield f"auto {name}"
    # one stanza for what is done once; those that ask come after it
    yield f"iface {name} inet manual"
    for command in creation(wire):
        yield f"    pre-up ip {command}"
    if link["mtu"] is not None:
        yield f"    pre-up ip link set {name} mtu {link['mtu']}"
    for setting, value in settings_of(wire):
        yield f"    pre-up echo {value} > /proc/sys/{setting} || true"
    yield f"    pre-up ip link set {name} up"
    for command in flooding(wire):
        yield f"    up bridge {command}"
    for address in link["addresses"]:
        broadcast = "" if ":" in address else " brd +"
        yield f"    up ip addr add {address}{broadcast} dev {name}"
    for route in wire.routes:
        yield f"    up ip {route_command(wire, route)}"
    yield f"    down ip link set {name} down"
    if link["kind"] not in ("bridged", "trunk"):
        yield f"    post-down ip link delete {name} || true"
    for version in wire.dhcp:
        yield f"iface {name} {'inet' if version == 4 else 'inet6'} dhcp"
