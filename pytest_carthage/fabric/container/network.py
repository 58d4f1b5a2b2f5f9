"""The network of a machine that starts again: as planned, without what was done in it by hand.

The namespace stays, since others look into it (captures, gates), and so do the cables, with what
the fabric does to their other ends. All else goes, as it does with a server's power.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pytest_carthage.fabric import memory, netlink

if TYPE_CHECKING:
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.spec import MachineSpec

_SETTINGS = "/proc/sys/net"
#: settings per interface are in folders of these
_PER_INTERFACE = ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh")
#: an interface's own, which a plan sets, or from which the kernel makes addresses at once
_OWN = frozenset({"addr_gen_mode", "bc_forwarding", "forwarding", "mc_forwarding", "stable_secret"})
_MOST_BYTES = 1 << 12

_LINK = struct.Struct("=BxHiII")
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_DELADDR, _GETADDR = 21, 22
_DELROUTE, _GETROUTE = 25, 26
_DELRULE, _GETRULE = 33, 34
_DELQDISC = 37
_ADDRESS, _IFNAME, _MTU, _PRIORITY = 1, 3, 4, 6
_UP = 1
#: rules that each namespace has: of the tables local, main and default
_RULES = (0, 32766, 32767)
_BY_KERNEL = 2
#: disciplines at the way out and at the way in, see tc(8)
_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
_USUAL_MTU = 1500
_SCOPE_HOST = 254


class _Cable(NamedTuple):
    """An end of a cable in a machine."""

    mac: str | None
    mtu: int


#: path below net to value, of a namespace in which nobody has done anything, once looked up
_pristine: dict[str, str] = {}


def look_up(home: Home) -> None:
    """Look at the settings of a namespace that is new; they are kept."""
    if not _pristine:
        fd = home.new_network()
        try:
            with home.visit(fd):
                _pristine.update(_settings())
        finally:
            os.close(fd)


def cables(spec: MachineSpec) -> dict[str, _Cable]:
    """The ends of cables that a machine has, by their names in it."""
    found = {}
    for link in spec["links"]:
        mtu = link["mtu"] or _USUAL_MTU
        if link["kind"] in ("bridged", "trunk", "macvlan"):
            found[link["interface"]] = _Cable(link["mac"], mtu)
        for member in link["members"]:
            found[member["interface"]] = _Cable(None, mtu)
    return found


def clear(kept: Mapping[str, _Cable]) -> set[str]:
    """Undo what was done in the network namespace that the caller is in.

    :param kept: interfaces that stay, out of service and without addresses.
    :returns: those of them that are not there: renamed, or removed.
    """
    missing = set(kept)
    loopback = socket.if_nametoindex("lo")
    with memory.opened(socket.NETLINK_ROUTE) as sock:
        for body in memory.ask(sock, _GETLINK, memory.DUMP, bytes(_LINK.size)):
            _, _, index, _, _ = _LINK.unpack_from(body)
            values = dict(memory.attributes(body, _LINK.size))
            name = values.get(_IFNAME, b"?\0")[:-1].decode()
            if index == loopback:
                continue
            if name not in kept:
                memory.ask(sock, _DELLINK, memory.CHANGE, _LINK.pack(0, 0, index, 0, 0))
                continue
            missing.discard(name)
            changed = _LINK.pack(0, 0, index, 0, _UP)
            cable = kept[name]
            if cable.mac is not None:
                changed += memory.attribute(_ADDRESS, bytes.fromhex(cable.mac.replace(":", "")))
            changed += memory.attribute(_MTU, struct.pack("=I", cable.mtu))
            memory.ask(sock, _NEWLINK, memory.CHANGE, changed)
            for parent in (_ROOT, _INGRESS):
                body = struct.pack("=BxxxiIII", 0, index, 0, parent, 0)
                memory.ask(sock, _DELQDISC, memory.CHANGE, body)
        for body in memory.ask(sock, _GETADDR, memory.DUMP, bytes(8)):
            _, _, _, scope, index = struct.unpack_from("=BBBBi", body)
            if index != loopback or scope != _SCOPE_HOST:
                memory.ask(sock, _DELADDR, memory.CHANGE, body)
        for body in memory.ask(sock, _GETROUTE, memory.DUMP, bytes(12)):
            if body[5] != _BY_KERNEL:
                memory.ask(sock, _DELROUTE, memory.CHANGE, body)
        for body in memory.ask(sock, _GETRULE, memory.DUMP, bytes(12)):
            priority = dict(memory.attributes(body, 12)).get(_PRIORITY, bytes(4))
            if struct.unpack("=I", priority)[0] not in _RULES:
                memory.ask(sock, _DELRULE, memory.CHANGE, body)
    memory.forget_connections()
    memory.forget_neighbours()
    netlink.flush_tables()
    _reset_settings()
    return missing


def _settings() -> dict[str, str]:
    """Settings of the network namespace that the caller is in, by their paths below net."""
    found = {}
    for folder, _, files in os.walk(_SETTINGS):
        for name in files:
            path = f"{folder}/{name}"
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    found[path.removeprefix(f"{_SETTINGS}/")] = os.read(fd, _MOST_BYTES).decode()
                finally:
                    os.close(fd)
            except (OSError, ValueError):
                continue  # it is only written, or there is no such thing any more
    return found


def _reset_settings() -> None:
    for path, value in _settings().items():
        folder, name = os.path.split(path)
        group = os.path.dirname(folder)
        wanted = _pristine.get(path)
        if wanted is None and group in _PER_INTERFACE and name not in _OWN:
            wanted = _pristine.get(f"{group}/default/{name}")
        if wanted is None or wanted == value:
            continue
        try:
            with open(f"{_SETTINGS}/{path}", "w") as file:
                file.write(wanted)
        except OSError:
            continue  # the kernel's own, or the host's
