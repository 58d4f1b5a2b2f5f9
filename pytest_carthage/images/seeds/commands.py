"""The network of a machine as commands of ip(8), for those who have nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.images.seeds.wiring import Wire, Wiring

__all__ = [
    "DHCP_SCRIPT",
    "creation",
    "flooding",
    "network_script",
    "route_command",
    "settings",
    "settings_of",
]

_SCRIPT = """#!/bin/sh
# how this machine's links are configured; a command that fails is told, and the others are run
ip=$(command -v ip) || ip='@BUSYBOX@ ip'
set_() { echo "$2" > "/proc/sys/$1" 2>/dev/null || :; }
"""
_BUSYBOX = "/run/carthage/busybox"
#: goes on in the background where no server answers yet
_DHCP = (
    "udhcpc -b -S -t 20 -T 1 -A 3 -s /run/carthage/dhcp "
    "-p /run/carthage/udhcpc.{name}.pid -i {name}"
)

#: what the client of DHCP in busybox runs when it was told something, see its udhcpc
DHCP_SCRIPT = """#!/bin/sh
address=$ip
ip=$(command -v ip) || ip='/run/carthage/busybox ip'
case $1 in
    deconfig) $ip -4 addr flush dev "$interface" ;;
    bound | renew)
        $ip -4 addr flush dev "$interface"
        $ip addr add "$address/$mask" brd + dev "$interface"
        for router in $router; do $ip route add default via "$router" dev "$interface"; done
        if [ -n "$dns" ]; then
            {
                [ -z "$domain" ] || echo "search $domain"
                for server in $dns; do echo "nameserver $server"; done
            } > /etc/resolv.conf
        fi
        ;;
esac
"""


def network_script(wiring: Wiring) -> str:
    """A script that configures all links."""
    lines = ["$ip link set lo up"]
    lines += [
        f"$ip addr add {address}/{128 if ':' in address else 32} dev lo"
        for address in wiring.loopback
    ]
    lines += [f"set_ {name} {value}" for name, value in settings(wiring)]
    for wire in wiring.wires:
        lines += _link(wire)
    lines += [
        f"$ip {route_command(wire, route)}"
        for wire in wiring.wires
        if wire.up
        for route in wire.routes
    ]
    lines += [
        f"{_BUSYBOX} {_DHCP.format(name=wire.name)} > /dev/null 2>&1"
        for wire in wiring.wires
        if 4 in wire.dhcp and wire.up
    ]
    return "\n".join([_SCRIPT.replace("@BUSYBOX@", _BUSYBOX), *lines, ""])


def _link(wire: Wire) -> Iterator[str]:
    link, name = wire.spec, wire.name
    for command in creation(wire):
        yield f"$ip {command}"
    if link["mtu"] is not None and link["kind"] in ("bridged", "trunk"):
        yield f"$ip link set {name} mtu {link['mtu']}"
    yield from (f"set_ {setting} {value}" for setting, value in settings_of(wire))
    if wire.up:
        yield f"$ip link set {name} up"
    for command in flooding(wire):
        yield f"bridge {command}"
    for address in link["addresses"]:
        broadcast = "" if ":" in address else " brd +"
        yield f"$ip addr add {address}{broadcast} dev {name}"


def settings(wiring: Wiring) -> Iterator[tuple[str, str]]:
    """What is set of the whole machine, by its place below ``/proc/sys``."""
    if wiring.forward:
        yield "net/ipv4/ip_forward", "1"
        yield "net/ipv6/conf/all/forwarding", "1"


def settings_of(wire: Wire) -> Iterator[tuple[str, str]]:
    """What is set of a link."""
    place = f"net/ipv6/conf/{wire.name}"
    yield f"{place}/accept_ra", "2" if wire.spec["accept_ra"] else "0"
    yield f"{place}/disable_ipv6", "0" if wire.spec["ipv6"] else "1"
    if wire.spec["ipv6"]:
        yield f"{place}/accept_dad", "0"


def creation(wire: Wire) -> Iterator[str]:
    """What makes an interface that is no card, as the arguments of ip(8)."""
    link, name = wire.spec, wire.name
    over = f"link {link['over'][0]} " if link["over"] else ""
    mtu = f" mtu {link['mtu']}" if link["mtu"] is not None else ""
    if link["kind"] == "vlan":
        yield f"link add {over}name {name} type vlan id {link['vlan']}"
        yield f"link set {name} address {link['mac']}{mtu}"
    elif link["kind"] == "vxlan":
        dev = f" dev {link['over'][0]}" if link["over"] else ""
        yield (
            f"link add {name} address {link['mac']}{mtu} type vxlan id {link['vni']} "
            f"local {link['local']} dstport 4789{dev}"
        )
    elif link["kind"] == "gre":
        yield f"link add {name}{mtu} type gre local {link['local']} remote {link['remotes'][0]}"
    elif link["kind"] == "bond":
        yield f"link add {name} address {link['mac']}{mtu} type bond mode active-backup miimon 100"
        for member in link["members"]:
            yield f"link set {member['interface']} down"
            yield f"link set {member['interface']} master {name}"


def flooding(wire: Wire) -> Iterator[str]:
    """Where a VXLAN sends what is for all, as commands of bridge(8)."""
    for remote in wire.spec["remotes"] if wire.spec["kind"] == "vxlan" else ():
        yield f"fdb append 00:00:00:00:00:00 dev {wire.name} dst {remote}"


def route_command(wire: Wire, route: object) -> str:
    """A route, as the arguments of ip(8)."""
    given: dict[str, object] = dict(route)  # type: ignore[call-overload]
    words = ["route", "add", str(given["destination"] or "default"), "via", str(given["via"])]
    words += ["dev", wire.name] if given["interface"] or given["onlink"] else []
    words += ["onlink"] if given["onlink"] else []
    words += ["metric", str(given["metric"])] if given["metric"] is not None else []
    family = "-6 " if ":" in str(given["via"]) else ""
    return family + shlex.join(words)
