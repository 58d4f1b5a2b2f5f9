"""Protocols that find their neighbours by themselves: what has been done, and what is left."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_carthage.roles.frr.answers import Answers

__all__ = ["Protocol", "isis", "ospf", "ospf6"]

_INTERFACE = re.compile(r"^interface (\S+)\n((?:[ \t].*\n)*)", re.MULTILINE)
_LSP = re.compile(r"^(\S+)\.[0-9a-f]{2}-[0-9a-f]{2} +\*? +\d", re.MULTILINE)
_HOSTNAME = re.compile(r"^[* \d]+ ([0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}) +(\S+)", re.MULTILINE)
_REACHES = re.compile(r"^ +(?:Extended|MT) Reachability: (\S+)\.00 ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A protocol that finds its neighbours by itself."""

    #: interfaces on which it greets
    active: frozenset[str]
    #: interface to the number of neighbours with whom nothing is left to do
    settled: Mapping[str, int]
    #: what it is about to do, in words
    pending: tuple[str, ...]


def ospf(answers: Answers) -> Protocol:
    """OSPF, version 2."""
    interfaces = answers.values("show ip ospf interface json").get("interfaces", {})
    state = answers.values("show ip ospf json")
    pending = list(
        _unnoticed("ospfd", {n: bool(i.get("ifUp")) for n, i in interfaces.items()}, answers)
    )
    active = {
        name
        for name, one in interfaces.items()
        if one.get("ospfEnabled")
        and one.get("ifUp")
        and one.get("networkType") != "LOOPBACK"
        and not one.get("timerPassiveIface")
    }
    settled: Counter[str] = Counter()
    near = []
    neighbours = answers.values("show ip ospf neighbor json").get("neighbors", {})
    for router, entries in neighbours.items():
        for entry in entries:
            name, words = entry["ifaceName"].partition(":")[0], entry["nbrState"]
            lists = ("linkStateRetransmission", "linkStateRequest", "databaseSummary")
            waiting = sum(entry.get(f"{one}ListCounter", 0) for one in lists)
            if waiting:
                pending.append(f"OSPF with {router} on {name}: {waiting} LSAs are on their way")
            elif words.startswith("Full") or words == "2-Way/DROther":
                settled[name] += 1
            else:
                pending.append(f"OSPF with {router} on {name}: {words}")
            if words.startswith("Full"):
                near.append((name, router))
    pending += [
        f"OSPF on {name}: it has not chosen a designated router yet"
        for name in sorted(active)
        if interfaces[name].get("state") == "Waiting"
    ]
    own = state.get("routerId", "")
    database = answers.values("show ip ospf database router json")
    wires = [
        router
        for name, router in near
        if "POINT" in interfaces.get(name, {}).get("networkType", "")
    ]
    pending += _untold("OSPF", own, wires, _links(database, "point-to-point", "neighborRouterId"))
    told = _links(database, "Transit", "designatedRouterAddress")
    for name, router in near:
        network = interfaces.get(name, {}).get("drAddress")
        for teller in (own, router) if network and router not in wires else ():
            if network not in told.get(teller, ()):
                pending.append(f"OSPF on {name}: {teller} has not told of this network yet")
    if "spfTimerDueInMsecs" in state:
        pending.append("OSPF: it is about to compute its routes")
    return Protocol(active=frozenset(active), settled=settled, pending=tuple(pending))


def _links(database: Any, kind: str, end: str) -> dict[str, list[str]]:
    """Routers to the ends of their links of a kind, by what they have told everybody."""
    told: dict[str, list[str]] = {}
    for lsa in _having("routerLinks", database):
        told.setdefault(lsa["advertisingRouter"], []).extend(
            link[end] for link in lsa["routerLinks"].values() if kind in link["linkType"]
        )
    return told


def ospf6(answers: Answers) -> Protocol:
    """OSPF, version 3."""
    interfaces = answers.values("show ipv6 ospf6 interface json")
    state = answers.values("show ipv6 ospf6 json")
    states = {name: one.get("status") == "up" for name, one in interfaces.items()}
    pending = list(_unnoticed("ospf6d", states, answers))
    passive = _passive(answers.texts["show running-config ospf6d"], "ipv6 ospf6 passive")
    active = {
        name
        for name, one in interfaces.items()
        if one.get("attachedToArea")
        and states[name]
        and one.get("ospf6InterfaceState", "Down") not in ("Down", "Loopback")
        and name not in passive
    }
    for name, one in interfaces.items():
        if one.get("pendingLsaLsUpdateCount"):
            pending.append(f"OSPFv3 on {name}: LSAs are on their way")
        if name in active and one.get("ospf6InterfaceState") == "Waiting":
            pending.append(f"OSPFv3 on {name}: it has not chosen a designated router yet")
    settled: Counter[str] = Counter()
    near = []
    for entry in answers.values("show ipv6 ospf6 neighbor json").get("neighbors", ()):
        router, name, words = entry["neighborId"], entry["interfaceName"], entry["state"]
        is_apart = words == "Twoway" and entry.get("ifState") == "DROther"
        if words == "Full" or is_apart:
            settled[name] += 1
        else:
            pending.append(f"OSPFv3 with {router} on {name}: {words}")
        if words == "Full" and interfaces.get(name, {}).get("operatingAsType", "")[:5] == "POINT":
            near.append(router)
    told: dict[str, list[str]] = {}
    database = answers.values("show ipv6 ospf6 database router detail json")
    for lsa in _having("lsaDescription", database):
        told.setdefault(lsa["advertisingRouter"], []).extend(
            link["neighborRouterId"]
            for link in lsa["lsaDescription"]
            if link.get("type") == "Point-To-Point"
        )
    pending += _untold("OSPFv3", state.get("routerId", ""), near, told)
    if state.get("spfTimerActive"):
        pending.append("OSPFv3: it is about to compute its routes")
    return Protocol(active=frozenset(active), settled=settled, pending=tuple(pending))


def isis(answers: Answers) -> Protocol:
    """IS-IS."""
    passive = _passive(answers.texts["show running-config isisd"], "isis passive")
    active, wires = set(), set()
    for circuit in _circuits(answers.values("show isis interface json")):
        one = circuit.get("interface", {})
        name, kind = one.get("name"), one.get("type")
        is_up = one.get("state") == "Up" and answers.carriers.get(name, True)
        if is_up and kind != "loopback" and name not in passive:
            active.add(name)
            if kind == "p2p":
                wires.add(name)
    # some tables have names, others system identifiers
    named = {
        name: number for number, name in _HOSTNAME.findall(answers.texts["show isis hostname"])
    }
    pending, near = [], []
    neighbours: dict[str, set[str]] = {}
    for circuit in _circuits(answers.values("show isis neighbor json")):
        if "adj" not in circuit:
            continue
        name, router = circuit["interface"], circuit["adj"]
        if circuit["state"] == "Up":  # on a LAN there may be one for each level
            neighbours.setdefault(name, set()).add(router)
            near += [named.get(router, router)] if name in wires else []
        else:
            pending.append(f"IS-IS with {router} on {name}: {circuit['state']}")
    state = answers.values("show isis summary json")
    told = _reached(answers.texts["show isis database detail"], named)
    pending += _untold("IS-IS", state.get("system-id", ""), near, told)
    for area in state.get("areas", ()):
        if any(level.get("spf", "no pending") != "no pending" for level in area["levels"]):
            pending.append("IS-IS: it is about to compute its routes")
    settled = {name: len(having) for name, having in neighbours.items()}
    return Protocol(active=frozenset(active), settled=settled, pending=tuple(pending))


def _reached(text: str, named: Mapping[str, str]) -> dict[str, list[str]]:
    """System identifier to those of its neighbours, by the database."""
    told: dict[str, list[str]] = {}
    found = list(_LSP.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    for match, end in zip(found, ends, strict=False):
        reached = _REACHES.findall(text[match.end() : end])
        router = named.get(match[1], match[1])
        told.setdefault(router, []).extend(named.get(one, one) for one in reached)
    return told


def _untold(label: str, own: str, near: list[str], told: Mapping[str, list[str]]) -> Iterator[str]:
    """What the two ends of a link have not told everybody of each other yet.

    Only when both have, is the link used; and each tells no sooner than some seconds after what it
    told before (RFC 2328, MinLSInterval).
    """
    for neighbour in near:
        if neighbour not in told.get(own, ()):
            yield f"{label}: it has not told of its neighbour {neighbour} yet"
        elif own not in told.get(neighbour, ()):
            yield f"{label}: its neighbour {neighbour} has not told of it yet"
    for gone in set(told.get(own, ())) - set(near):
        yield f"{label}: it still tells of {gone}, which is no neighbour any more"


def _unnoticed(daemon: str, up: Mapping[str, bool], answers: Answers) -> Iterator[str]:
    """Interfaces of which a daemon thinks otherwise than the kernel."""
    for name, is_up in up.items():
        if answers.carriers.get(name, is_up) != is_up:
            yield f"{daemon} has not noticed that {name} is {'down' if is_up else 'up'}"


def _passive(configuration: str, line: str) -> set[str]:
    """Interfaces on which a protocol only listens."""
    return {
        name
        for name, body in _INTERFACE.findall(configuration)
        if line in (one.strip() for one in body.splitlines())
    }


def _having(key: str, told: Any) -> Iterator[dict[str, Any]]:
    """What has this key, at any depth: versions of FRR put it below others."""
    if isinstance(told, dict):
        if key in told:
            yield told
        told = list(told.values())
    if isinstance(told, list):
        for one in told:
            yield from _having(key, one)


def _circuits(told: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for area in told.get("areas", ()):
        yield from area.get("circuits", ())
