"""Links by kind: what the fabric makes of each, and what is made inside the machine.

Its kind is one of *bridged*, *macvlan*, *bond*, *trunk*, *vlan*, *vxlan* and *gre*. A cable leads
into a network namespace (a veth), or to whoever opens the other end (a tap, see :mod:`.taps`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from pytest_carthage.fabric import netlink

if TYPE_CHECKING:
    from pytest_carthage.fabric.spec import LinkSpec, MachineSpec, RouteSpec

T = TypeVar("T")

#: what is made in the machine, of cables that are there
_IN_MACHINE = frozenset({"bond", "gre", "vlan", "vxlan"})


def ports(link: LinkSpec) -> list[str]:
    """The fabric's ends of a link: none, where it stands on another link or shares a cable."""
    if link["kind"] == "bond":
        return [member["port"] for member in link["members"]]
    return [link["port"]] if link["kind"] in ("bridged", "trunk") else []


def lowest_first(links: Iterable[LinkSpec]) -> list[LinkSpec]:
    """Links in an order in which none comes before what it stands on.

    :raises ValueError: they stand on each other in a circle, or on nothing.
    """
    waiting = list(links)
    done: list[LinkSpec] = []
    while waiting:
        there = {link["interface"] for link in done}
        possible = [link for link in waiting if there.issuperset(link["over"])]
        if not possible:
            stuck = ", ".join(
                f"{link['interface']} over {' and '.join(link['over'])}" for link in waiting
            )
            raise ValueError(f"links stand on interfaces that are never there: {stuck}")
        done += possible
        waiting = [link for link in waiting if link not in possible]
    return done


def those_down(links: Iterable[LinkSpec]) -> set[str]:
    """Interfaces that are not set up when their machine starts.

    The kernel sets up an 802.1Q sub-interface only when what it stands on is up, and then with it.
    """
    down: set[str] = set()
    for link in lowest_first(links):
        rests = link["kind"] == "vlan" and not down.isdisjoint(link["over"])
        if rests or not link["up"]:
            down.add(link["interface"])
    return down


# the fabric's side


def connect(
    batch: netlink.Batch, link: LinkSpec, *, namespace_fd: int, bridge_index: Callable[[str], int]
) -> None:
    """Make the cables of a link that have an end in the machine, to a new machine's namespace."""
    if link["kind"] == "bond":
        for member in link["members"]:
            batch.veth(
                member["port"],
                bridge_index=bridge_index(link["bridge"]),
                peer=member["interface"],
                peer_namespace_fd=namespace_fd,
                mac=None,  # the bond's, once it is a member
                mtu=link["mtu"],
            )
    elif link["kind"] in ("bridged", "trunk"):
        batch.veth(
            link["port"],
            bridge_index=bridge_index(link["bridge"]) if link["kind"] == "bridged" else 0,
            peer=link["interface"],
            peer_namespace_fd=namespace_fd,
            mac=link["mac"],
            mtu=link["mtu"],
        )


def complete(
    batch: netlink.Batch,
    link: LinkSpec,
    *,
    namespace_fd: int,
    bridge_index: Callable[[str], int],
    parent_index: Callable[[str], int],
    is_wire: Callable[[str], bool],
) -> None:
    """Make what needs those cables to be there."""
    kind = link["kind"]
    if kind == "trunk":
        carrier = netlink.index_of(link["port"])
        for vlan in link["vlans"]:
            batch.vlan(
                vlan["port"],
                parent_index=carrier,
                vlan_id=vlan["id"],
                bridge_index=bridge_index(vlan["bridge"]),
            )
    elif kind == "macvlan":
        batch.macvlan(
            link["interface"],
            parent_index=parent_index(link["bridge"]),
            namespace_fd=namespace_fd,
            mac=link["mac"],
            mtu=link["mtu"],
        )
    elif kind == "bridged" and is_wire(link["bridge"]):
        batch.wire_port(link["port"])


# the machine's side


def build(links: Iterable[LinkSpec]) -> None:
    """Make what a machine's links need in its own namespace, in which the caller is.

    :raises ValueError: as :func:`lowest_first`.
    :raises OSError: the kernel refused, named in the message.
    """
    for link in lowest_first(links):
        kind = link["kind"]
        if kind not in _IN_MACHINE:
            continue
        batch = netlink.Batch()
        _create(batch, link)
        batch.commit()
        batch = netlink.Batch()
        if kind == "bond":
            for member in link["members"]:
                batch.enslave(member["interface"], link["interface"])
        elif kind == "vxlan":
            for remote in link["remotes"]:
                batch.flood(link["interface"], remote)
        batch.commit()


def _create(batch: netlink.Batch, link: LinkSpec) -> None:
    name, kind, mtu = link["interface"], link["kind"], link["mtu"]
    over = next(iter(link["over"]), None)
    if kind == "bond":
        batch.bond(name, mac=link["mac"], mtu=mtu)
    elif kind == "vlan":
        batch.vlan(
            name,
            parent_index=netlink.index_of(over or ""),
            vlan_id=_given(link, "vlan", link["vlan"]),
            mac=link["mac"],
            mtu=mtu,
        )
    elif kind == "vxlan":
        batch.vxlan(
            name,
            vni=_given(link, "vni", link["vni"]),
            local=link["local"],
            over=over,
            mac=link["mac"],
            mtu=mtu,
        )
    else:
        local = _given(link, "local", link["local"])
        batch.gre(name, local=local, remote=link["remotes"][0], over=over, mtu=mtu)


def _given(link: LinkSpec, name: str, value: T | None) -> T:
    if value is None:
        raise ValueError(f"link {link['interface']!r} of kind {link['kind']}: no {name}")
    return value


def _switch(interface: str, name: str, value: str) -> None:
    with open(f"/proc/sys/net/ipv6/conf/{interface}/{name}", "w") as file:
        file.write(value)


def configure(
    batch: netlink.Batch, link: LinkSpec, *, up: bool, forward: bool, again: bool = False
) -> None:
    """Give a link of the namespace that the caller is in its addresses, and set it up.

    Addresses are there at once (no duplicate address detection, RFC 4862, section 5.4: the plan
    has ruled that out). A link that speaks no IPv6 has it switched off; one that speaks it has a
    link-local address, and takes no address from a router unless its plan says so.

    :param again: it was up before, and has lost what a link loses with that.
    """
    interface = link["interface"]
    try:
        # 2: also on a router, which else would not listen to others (ip-sysctl)
        accepts = ("2" if forward else "1") if link["accept_ra"] else "0"
        _switch(interface, "accept_ra", accepts)
        _switch(interface, "disable_ipv6", "0" if link["ipv6"] else "1")
        if link["ipv6"]:
            _switch(interface, "accept_dad", "0")
        batch.link_local(interface, wanted=link["ipv6"])
    except FileNotFoundError:
        pass  # a kernel without IPv6
    if up:
        batch.up(interface)
    for address in link["addresses"]:
        batch.address(interface, address, again=again)


def routes(spec: MachineSpec) -> list[RouteSpec]:
    """Routes of a machine that can be set: those by links that are set down cannot."""
    from ipaddress import ip_address, ip_interface

    down = those_down(spec["links"])
    if not down:
        return spec["routes"]

    def leads_down(route: RouteSpec) -> bool:
        if route["interface"] or route["via"] is None:
            return route["interface"] in down
        hop = ip_address(route["via"])
        reachable = [
            link["interface"] not in down
            for link in spec["links"]
            for address in link["addresses"]
            if hop in ip_interface(address).network
        ]
        return bool(reachable) and not any(reachable)

    return [route for route in spec["routes"] if not leads_down(route)]
