"""Dynamic routing, by BIRD 2 from Debian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_carthage.model.machine import Condition
from pytest_carthage.model.role import Role
from pytest_carthage.model.task import machine_task
from pytest_carthage.roles.named import check_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_carthage.planning.plan import Plan, PlannedLink, PlannedMachine
    from pytest_carthage.roles.served import Served

__all__ = ["OspfRouter", "ospf_neighbours"]

#: where birdc(8) looks, and bird(8) keeps, its control socket
FOLDER = "/run/bird"

_BFD_MS = 100  # with a multiplier of 3, a silent neighbour is noticed within 0.3 s


@dataclass(frozen=True, slots=True, kw_only=True)
class OspfRouter(Role):
    """Forwards packets, and learns the routes by OSPF (v2, and v3 for IPv6) from BIRD.

    Routers greet each other by link-local addresses in version 3 (RFC 5340): it runs on all links
    that speak IPv6 as soon as one router of the layout has an IPv6 address. On networks with no
    other such router it only tells that the network is there. The times are those of a test, not
    of production: OSPF counts in whole seconds.
    """

    packages = ("bird2",)
    programs = MappingProxyType({"bird": "bird2", "birdc": "bird2"})

    #: whether it forwards packets between its links
    forward: bool = True

    #: interfaces that take part; empty: all
    interfaces: tuple[str, ...] = ()
    #: interface to what a way through it costs
    costs: Mapping[str, int] = field(default_factory=dict)
    #: between two greetings of a neighbour, from 1
    hello_s: int = 1
    #: a neighbour that was silent for so long is gone; more than ``hello_s``
    dead_s: int = 4
    #: notice a silent neighbour in a fraction of a second (RFC 5880)
    bfd: bool = False
    #: tell the others of the way out: this machine's own default route
    default_route: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.hello_s < self.dead_s:
            raise ValueError(
                f"OspfRouter: hello_s={self.hello_s} is not from 1 to below "
                f"dead_s={self.dead_s}; try: hello_s=1, dead_s=4"
            )

    @machine_task("start BIRD")
    async def start(self, machine: Served) -> None:
        """Start BIRD; returns when ``birdc`` answers, which is before it has found anybody."""
        await self._run(machine)

    async def refresh(self, machine: Served) -> None:
        """Have it know the routers that there are now."""
        await self._run(machine)

    async def _run(self, machine: Served) -> None:
        await machine.run(["mkdir", "-p", FOLDER])
        text = configuration(machine.surroundings.plan, machine.planned, self)
        await machine.write_text(f"{FOLDER}/bird.conf", text)
        await machine.run(_START_OR_TELL)


# bird(8) goes to the background when it has read its configuration and has its control socket.
_START_OR_TELL = f"""\
birdc -s {FOLDER}/bird.ctl configure >&- 2>&- && exit
exec bird -c {FOLDER}/bird.conf -s {FOLDER}/bird.ctl -P {FOLDER}/bird.pid
"""


def ospf_neighbours(number: int) -> Condition:
    """This many neighbours of an :class:`OspfRouter` have told it all that they know.

    Give it to ``machine.wait_for``; in ``Machine(wait_for=...)`` it would wait for machines
    that are not there yet only if these are built *after* the machine.
    """
    return Condition("command", f"test $(birdc show ospf neighbors | grep -c Full) -ge {number}")


def configuration(plan: Plan, machine: PlannedMachine, role: OspfRouter) -> str:
    """Text of bird.conf.

    :raises LayoutError: the role names an interface that there is not.
    """
    own = [link.interface for link in machine.links]
    check_named(plan, machine, "OspfRouter(interfaces=...)", role.interfaces, own)
    check_named(plan, machine, "OspfRouter(costs=...)", role.costs, own)
    return "".join(f"{line}\n" for line in _configuration(plan, machine, role))


def _configuration(plan: Plan, machine: PlannedMachine, role: OspfRouter) -> Iterator[str]:
    chosen = [
        link
        for link in machine.links
        if link.network and (not role.interfaces or link.interface in role.interfaces)
    ]
    by_family = {
        4: [link for link in chosen if any(one.version == 4 for one in link.addresses)],
        6: [link for link in chosen if link.ipv6] if _has_ipv6(plan) else [],
    }
    yield 'log "/proc/1/fd/1" all;'  # the machine's log
    yield f"router id {_router_id(plan, machine)};"
    yield "protocol device { scan time 5; }"
    # its own networks: better than what others say of them, and in the kernel already
    yield "protocol direct { ipv4; ipv6; }"
    if role.bfd:
        links = [link for link in chosen if link in by_family[4] or link in by_family[6]]
        names = ", ".join(f'"{link.interface}"' for link in links)
        yield "protocol bfd {"
        yield f"  interface {names} {{ interval {_BFD_MS} ms; multiplier 3; }};"
        yield "}"
    for version, family in (("v2", 4), ("v3", 6)):
        if by_family[family]:
            yield from _protocols(plan, machine, role, by_family[family], version, family)


def _has_ipv6(plan: Plan) -> bool:
    """Whether there is anything to tell of IPv6."""
    routers = [
        machine
        for machine in plan.machines.values()
        if any(isinstance(role, OspfRouter) for role in machine.roles)
    ]
    addresses = [one.ip for machine in routers for link in machine.links for one in link.addresses]
    addresses += [own for machine in routers for own in machine.loopback]
    return any(address.version == 6 for address in addresses)


def _protocols(
    plan: Plan,
    machine: PlannedMachine,
    role: OspfRouter,
    links: list[PlannedLink],
    version: str,
    family: int,
) -> Iterator[str]:
    way_out = "0.0.0.0/0" if family == 4 else "::/0"
    # what the machine was given is in the kernel already, and stays
    learned = "source ~ [RTS_OSPF, RTS_OSPF_IA, RTS_OSPF_EXT1, RTS_OSPF_EXT2]"
    yield f"protocol kernel kernel{family} {{"
    yield f"  ipv{family} {{ import {_own_default(way_out, role)}; export where {learned}; }};"
    yield "  learn; scan time 1;"
    yield "}"
    yield f"protocol ospf {version} ospf{family} {{"
    yield f"  ipv{family} {{ import all; export {_own_default(way_out, role)}; }};"
    yield "  tick 1;"
    yield "  area 0 {"
    for own in machine.loopback:
        if own.version == family:  # version 3 takes no interface without a link-local address
            yield f"    stubnet {own}/{own.max_prefixlen};"
    for link in links:
        yield f'    interface "{link.interface}" {{'
        yield from (f"      {line}" for line in _interface(plan, machine, role, link))
        yield "    };"
    yield "  };"
    yield "}"


def _own_default(way_out: str, role: OspfRouter) -> str:
    return f"where net = {way_out} && source = RTS_INHERIT" if role.default_route else "none"


def _interface(
    plan: Plan, machine: PlannedMachine, role: OspfRouter, link: PlannedLink
) -> Iterator[str]:
    cost = role.costs.get(link.interface)
    if cost is not None:
        yield f"cost {cost};"
    neighbours = [
        other
        for other in plan.machines.values()
        if other.name != machine.name
        and any(isinstance(one, OspfRouter) for one in other.roles)
        and any(end.network == link.network for end in other.links)
    ]
    if not neighbours:
        yield "stub;"
        return
    # two of them need not choose who speaks for the network, which takes as long as dead_s
    yield f"type {'ptp' if len(neighbours) == 1 else 'broadcast'};"
    yield f"hello {role.hello_s}; dead {role.dead_s}; wait {role.hello_s + 1};"
    if role.bfd:
        yield "bfd yes;"


def _router_id(plan: Plan, machine: PlannedMachine) -> str:
    """An address of its own, as is the custom; or else its number among the machines."""
    addresses = [*machine.loopback, *(one.ip for link in machine.links for one in link.addresses)]
    for address in addresses:
        if address.version == 4:
            return str(address)
    number = list(plan.machines).index(machine.name) + 1
    return f"0.0.{number // 256}.{number % 256}"
