"""What FRR's daemons say in one machine, at one time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import TaskError
from pytest_carthage.roles.frr.answers import Answers
from pytest_carthage.roles.frr.protocols import Protocol, isis, ospf, ospf6

if TYPE_CHECKING:
    from pytest_carthage.roles.served import Served

__all__ = ["Survey", "survey"]

# Only daemons that run are asked: vtysh has an error for the others.
_SURVEY = """\
cd /run/frr || exit
for path in /sys/class/net/*; do
    echo "carrier ${path##*/} $(cat "$path/carrier" 2>&- || echo 0)"
done
ask() { echo "== $*"; vtysh -c "$*" 2>&1; }
ask show watchfrr
ask show interface json
if [ -S ospfd.vty ]; then
    ask show ip ospf json
    ask show ip ospf interface json
    ask show ip ospf neighbor json
    ask show ip ospf database router json
fi
if [ -S ospf6d.vty ]; then
    ask show ipv6 ospf6 json
    ask show ipv6 ospf6 interface json
    ask show ipv6 ospf6 neighbor json
    ask show ipv6 ospf6 database router detail json
    ask show running-config ospf6d
fi
if [ -S isisd.vty ]; then
    ask show isis summary json
    ask show isis interface json
    ask show isis neighbor json
    ask show isis hostname
    ask show isis database detail
    ask show running-config isisd
fi
if [ -S bgpd.vty ]; then
    ask show bgp vrf all neighbors json
fi
ask show ip route vrf all json
ask show ipv6 route vrf all json
"""

_DOWN = re.compile(r"^ {2}(\w+) +(?!Up\b)(\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One machine's daemons."""

    protocols: Mapping[str, Protocol]
    #: what zebra, BGP and the watchdog are about to do, in words
    pending: tuple[str, ...]
    #: the routes that were chosen: prefix, protocol and next hops
    routes: frozenset[tuple[str, ...]]


async def survey(machine: Served) -> Survey:
    """Ask all daemons that run.

    :raises TaskError: FRR does not run, or says what cannot be read.
    """
    done = await machine.run(_SURVEY, check=False)
    head, *parts = done.stdout.split("\n== ")
    if not parts:
        raise TaskError(
            f"machine {machine.name!r}: FRR does not run ({done.stderr.strip() or 'no /run/frr'}); "
            "try: roles=[FrrRouter(...)], or machine.run('systemctl start frr')"
        )
    rows = [line.split() for line in head.splitlines()]
    answers = Answers(
        {command: text for command, _, text in (part.partition("\n") for part in parts)},
        {row[1]: row[2] == "1" for row in rows if len(row) == 3},
        machine.name,
    )
    pending = [*_watchdog(answers), *_links(answers), *_bgp(answers), *_rib(answers)]
    protocols = {
        label: read(answers) for label, (command, read) in _READERS.items() if answers.has(command)
    }
    return Survey(protocols=protocols, pending=tuple(pending), routes=frozenset(_chosen(answers)))


def _watchdog(answers: Answers) -> Iterator[str]:
    for daemon, state in _DOWN.findall(answers.texts["show watchfrr"]):
        yield f"{daemon} is {state.lower()}"


def _links(answers: Answers) -> Iterator[str]:
    for name, one in answers.values("show interface json").items():
        has_carrier = answers.carriers.get(name)
        if has_carrier is not None and has_carrier != (one.get("operationalStatus") == "up"):
            yield f"zebra has not noticed that {name} is {'up' if has_carrier else 'down'}"


def _rib(answers: Answers) -> Iterator[str]:
    for prefix, entry in _entries(answers):
        if entry.get("queued") or (entry.get("selected") and not entry.get("installed")):
            yield f"the route to {prefix} ({entry['protocol']}) is not in the kernel yet"


def _chosen(answers: Answers) -> Iterator[tuple[str, ...]]:
    for prefix, entry in _entries(answers):
        if entry.get("selected"):
            hops = (f"{h.get('ip', '')}%{h.get('interfaceName', '')}" for h in entry["nexthops"])
            yield prefix, entry["protocol"], *sorted(hops)


def _entries(answers: Answers) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for command in ("show ip route vrf all json", "show ipv6 route vrf all json"):
        for prefix, entries in _prefixes(answers.values(command)):
            for entry in entries:
                yield prefix, entry


def _prefixes(told: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Prefixes to routes, with or without a level of VRFs around them."""
    for key, value in told.items():
        if isinstance(value, list):
            yield key, value
        else:
            yield from _prefixes(value)


def _bgp(answers: Answers) -> Iterator[str]:
    command = "show bgp vrf all neighbors json"
    if not answers.has(command):
        return
    interfaces = answers.values("show interface json")
    for vrf in answers.values(command).values():
        for name, peer in vrf.items():
            if isinstance(peer, dict) and "bgpState" in peer and not peer.get("adminShutDown"):
                yield from _session(name, peer, _interface_to(name, interfaces), answers)


def _session(
    name: str, peer: Mapping[str, Any], interface: str | None, answers: Answers
) -> Iterator[str]:
    is_up = peer["bgpState"] == "Established"
    if interface is not None and not answers.carriers.get(interface, True):
        if is_up:
            yield f"bgpd has not noticed that {interface}, to {name}, is down"
        return
    if not is_up:
        yield f"BGP with {name}: {peer['bgpState']}"
        return
    stats = peer.get("messageStats", {})
    if stats.get("depthInq") or stats.get("depthOutq"):
        yield f"BGP with {name}: there are messages in the queue"
    capabilities = peer.get("neighborCapabilities", {})
    if capabilities.get("gracefulRestart") != "advertisedAndReceived":
        return  # RFC 4724: who does not say this does not say when it has told all
    heard = peer.get("gracefulRestartInfo", {}).get("endOfRibRecv", {})
    for family, state in capabilities.get("multiprotocolExtensions", {}).items():
        if state.get("advertisedAndReceived") and not heard.get(family):
            yield f"BGP with {name}: its first routes of {family} have not all come"


def _interface_to(peer: str, interfaces: Mapping[str, Any]) -> str | None:
    """The interface that a session goes through, where it is with a neighbour."""
    if peer in interfaces:
        return peer
    try:
        address = ip_address(peer)
    except ValueError:
        return None
    for name, one in interfaces.items():
        for own in one.get("ipAddresses", ()):
            if address in ip_interface(own["address"]).network:
                return name
    return None


#: protocol to a command that is asked only where it runs, and who reads the answers
_READERS: Mapping[str, tuple[str, Callable[[Answers], Protocol]]] = {
    "OSPF": ("show ip ospf json", ospf),
    "OSPFv3": ("show ipv6 ospf6 json", ospf6),
    "IS-IS": ("show isis summary json", isis),
}
