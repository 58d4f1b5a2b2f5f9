"""From a layout to a plan: pure functions, no I/O.

:func:`make_plan` plans a layout class, :func:`extend_plan` and :func:`reduce_plan` plan a machine
that joins or leaves a live one, :func:`waves` gives the order of building.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pytest_carthage.errors import CarthageError
from pytest_carthage.model.addresses.hardware import digests
from pytest_carthage.model.image import Image
from pytest_carthage.model.machine import Machine
from pytest_carthage.model.mistakes.declaring import unforeseen
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.names import inventory_name
from pytest_carthage.model.network import Network, NetworkLink
from pytest_carthage.model.on import On
from pytest_carthage.model.packages import Packages
from pytest_carthage.model.role import several
from pytest_carthage.planning.images import name_images
from pytest_carthage.planning.naming import bridge_name, port_name
from pytest_carthage.planning.order import batches
from pytest_carthage.planning.plan import (
    Plan,
    PlannedForward,
    PlannedLink,
    PlannedMachine,
    PlannedNetwork,
    PlannedRoute,
    PlannedVlan,
)
from pytest_carthage.planning.rules import Decided, Neighbourhood, decide
from pytest_carthage.planning.stations import Control, control, link_to, with_links
from pytest_carthage.planning.targets import Targets, check_target, choose, installed
from pytest_carthage.planning.traits import Traits

if TYPE_CHECKING:
    from pytest_carthage.model.role import Role
    from pytest_carthage.planning.declaration import Declaration

__all__ = ["extend_plan", "make_plan", "plan_control", "plan_station", "reduce_plan", "waves"]

_SYSTEMD_PACKAGES = ("dbus", "systemd-sysv")
_SYSTEMD_COMMANDS = (
    "/sbin/init",
    "/usr/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
)


def make_plan(
    layout: type[Declaration],
    *,
    target: str | None = None,
    targets: Targets | None = None,
) -> Plan:
    """Plan a layout.

    :param target: realises the machines that do not choose (``on=``); None: what the layout says.
    :param targets: what there is to choose from; None: what is installed.
    :raises LayoutError: a target is unknown, or cannot realise a machine.
    """
    try:
        return _plan(layout, target, targets)
    except CarthageError:
        raise
    except Exception as error:
        place = layout.__carthage_place__
        raise unforeseen(f"layout {layout.__name__!r}", error, place) from error


def _plan(layout: type[Declaration], target: str | None, targets: Targets | None) -> Plan:
    available = installed() if targets is None else MappingProxyType(dict(targets))
    chosen = target or layout.target
    if chosen is not None:
        place = None if target else layout.__carthage_place__
        check_target(layout.__name__, chosen, available, place)
    plan = Plan(
        layout=layout.__name__,
        networks=_plan_networks(layout.networks()),
        machines=MappingProxyType({}),
        images=MappingProxyType({}),
        declared=layout.images(),
        target=chosen,
        targets=available,
        packages=Packages.of(layout.packages),
    )
    return _with_machines(plan, layout.machines(), layout.decided())


def extend_plan(plan: Plan, name: str, machine: Machine) -> tuple[Plan, PlannedMachine]:
    """Plan one more machine; what is planned already stays as it is.

    :raises LayoutError: the declaration is wrong, or does not fit.
    """
    around = _neighbourhood(plan)
    for given, kind, remedy in (
        (machine, Machine, "add(Machine(...), name=...)"),
        (name, str, 'name="till-2"'),
    ):
        if not issubclass(type(given), kind):  # whatever it says that its class is
            what = f"{shown(given)} is no {'machine' if kind is Machine else 'name of a machine'}"
            mistake = Mistake(what=what, remedy=remedy, place=Place.of_author())
            raise mistake.error(f"layout {plan.layout!r}")
    if name in plan.machines:
        raise around.error(
            name,
            "the layout has a machine of this name already",
            f'name="{name}-2"',
            machine.place,
        )
    try:
        extended = _with_machines(plan, {name: machine}, decide({name: machine}, around))
    except CarthageError:
        raise
    except Exception as error:
        who = f"machine {name!r} of layout {plan.layout!r}"
        raise unforeseen(who, error, machine.place) from error
    return extended, extended.machines[name]


def reduce_plan(plan: Plan, name: str) -> Plan:
    """Plan without a machine; its addresses and names are free again, and nobody waits for it.

    :raises KeyError: there is no such machine.
    """
    if name not in plan.machines:
        raise KeyError(name)
    kept = {
        other: replace(planned, after=tuple(waited for waited in planned.after if waited != name))
        if name in planned.after
        else planned
        for other, planned in plan.machines.items()
        if other != name
    }
    return replace(plan, machines=MappingProxyType(kept))


def plan_station(plan: Plan, network: str) -> tuple[Plan, PlannedLink]:
    """Plan a place on a network for programs of the host; a network has one at most.

    :raises LookupError: there is no such network, or no address is left in it.
    """
    if network in plan.stations:
        return plan, plan.stations[network]
    link = link_to(plan, network, _neighbourhood(plan), key=network, ports=_port_names(plan))
    return with_links(plan, {network: link}), link


def plan_control(plan: Plan) -> Control:
    """Plan the place that the layout's Ansible works from; the same one, however often."""
    return control(plan, _neighbourhood(plan), _port_names(plan))


def waves(plan: Plan) -> list[list[str]]:
    """Names of machines in batches, each to be built when the earlier ones are ready."""
    return batches({name: machine.after for name, machine in plan.machines.items()})


def _plan_networks(networks: Mapping[str, Network]) -> Mapping[str, PlannedNetwork]:
    planned: dict[str, PlannedNetwork] = {}
    for name, network in networks.items():
        taken = {other.bridge for other in planned.values() if other.bridge}
        v4, v6 = network.subnets
        planned[name] = PlannedNetwork(
            name=name,
            kind=network.kind,
            bridge=bridge_name(name, taken) if network.external is None else "",
            v4=v4,
            v6=v6,
            mtu=network.mtu,
            vlan_id=network.vlan_id,
            vni=(network.vni or _vni(name)) if network.kind == "vxlan" else network.vni,
            ipv6=network.ipv6,
            external=network.external,
        )
    return MappingProxyType(planned)


def _vni(network: str) -> int:
    """A VXLAN network identifier, the same every time (24 bits, RFC 7348)."""
    return int.from_bytes(next(digests("vni", network))[:3], "big") or 1


def _neighbourhood(plan: Plan) -> Neighbourhood:
    """What a machine that joins finds."""

    def network_of(network: Network) -> tuple[str, Network] | None:
        planned = plan.networks.get(network.name)
        if planned is None or (planned.v4, planned.v6) != network.subnets:
            return None
        return planned.name, network

    def machine_of(machine: Machine) -> Sequence[str]:
        return ()

    around = Neighbourhood(
        layout=plan.layout,
        networks=plan.networks,
        network_of=network_of,
        machine_of=machine_of,
        sealed_tunnels=frozenset(
            name for name, network in plan.networks.items() if network.kind in ("gre", "vxlan")
        ),
    )
    for name, network in plan.networks.items():
        for subnet in network.subnets:
            around.external.setdefault(name, set()).update(subnet.external_addresses)
    for link in plan.stations.values():
        name = link.network
        for address in link.addresses:
            around.addresses.setdefault(name, {})[address.ip] = f"station on {name}"
        around.macs.setdefault(name, {})[link.mac] = f"station on {name}"
        if plan.networks[name].kind == "point-to-point":
            around.ends.setdefault(name, []).append(f"station on {name}")
    for name, machine in plan.machines.items():
        around.names[machine.hostname.lower()] = name
        around.names[name.lower()] = name
        around.names[machine.inventory_hostname.lower()] = name
        around.after[name] = machine.after
        around.loopbacks.update(dict.fromkeys(machine.loopback, name))
        for link in machine.links:
            if link.mac:
                around.macs.setdefault(link.network, {})[link.mac] = name
            if link.dns_name:
                around.dns_names[link.dns_name.lower()] = name, link.interface
            for address in link.addresses:
                around.addresses.setdefault(link.network, {})[address.ip] = name
            for addressing in link.addressings:
                around.external.setdefault(link.network, set()).update(
                    addressing.external_addresses
                )
            leads = plan.networks.get(link.network)
            if leads is not None and leads.kind in ("point-to-point", "gre"):
                around.ends.setdefault(link.network, []).append(f"{name}.{link.interface}")
            if any(role.serves_dhcp for role in machine.roles):
                around.servers.setdefault(link.network, []).append(name)
        for service in dict.fromkeys(one for role in machine.roles for one in several(role.offers)):
            around.offers.setdefault(service, []).append(name)
    return around


def _with_machines(
    plan: Plan, machines: Mapping[str, Machine], decided: Mapping[str, Decided]
) -> Plan:
    planned: dict[str, PlannedMachine] = {}
    names = _port_names(plan)
    for name, machine in machines.items():
        target = choose(
            plan.layout,
            name,
            machine,
            wanted=plan.target,
            targets=plan.targets,
            boots=_init(machine) == "systemd",
            networks={
                interface: plan.networks[link.network]
                for interface, link in decided[name].links.items()
                if link.network
            },
        )
        traits = plan.targets[target].of(has_image=machine.image is not None)
        image = _image(machine, traits)
        planned[name] = PlannedMachine(
            name=name,
            hostname=decided[name].hostname,
            target=target,
            on=machine.on if isinstance(machine.on, On) else None,
            traits=traits,
            image=image,
            links=_plan_links(plan, name, machine, decided[name], names),
            loopback=machine.loopback,
            routes=tuple(
                PlannedRoute(destination=route.destination, via=route.via)
                for route in decided[name].routes
            ),
            forwards=tuple(
                PlannedForward(
                    interface=one.interface,
                    protocol=one.protocol,
                    port=one.port,
                    to=one.to,
                    to_port=one.to_port,
                )
                for one in decided[name].forwards
            ),
            roles=machine.parts,
            built_roles=_keys(image.roles) if image is not None else frozenset(),
            command=machine.command if image is None else _command(machine),
            restart=machine.restart,
            init=machine.init if image is None else _init(machine),
            env=machine.env,
            forward=decided[name].forward,
            wait_for=machine.wait_for,
            ready_timeout_s=machine.ready_timeout_s,
            limits=machine.limits,
            strict_settings=machine.strict_settings,
            privileges=machine.privileges,
            groups=_groups(machine),
            variables=machine.variables,
            inventory_hostname=inventory_name(name, machine.inventory_hostname),
            after=decided[name].after,
        )
    origins = {name: machine.image for name, machine in machines.items() if machine.image}
    named, images = name_images(planned, origins, plan)
    return replace(
        plan,
        machines=MappingProxyType({**plan.machines, **named}),
        images=MappingProxyType(images),
    )


def _port_names(plan: Plan) -> set[str]:
    """Names that are taken in the fabric."""
    links = [link for machine in plan.machines.values() for link in machine.links]
    ports = {port for link in (*links, *plan.stations.values()) for port in _ports(link)}
    bridges = {network.bridge for network in plan.networks.values()}
    return {name for name in ports | bridges if name}


def _ports(link: PlannedLink) -> list[str]:
    """Names that a link has taken in the fabric."""
    return [link.port, *(vlan.port for vlan in link.vlans), *(port for _, port in link.members)]


def _plan_links(
    plan: Plan, name: str, machine: Machine, decided: Decided, names: set[str]
) -> tuple[PlannedLink, ...]:
    """The links, with names in the fabric that are added to those taken."""

    def port(interface: str) -> str:
        made = port_name(name, interface, names)
        names.add(made)
        return made

    planned: list[PlannedLink] = []
    for interface, link in _lowest_first(machine.links):
        decided_link = decided.links[interface]
        network = plan.networks.get(decided_link.network)
        planned.append(
            PlannedLink(
                interface=interface,
                network=decided_link.network,
                kind=link.kind,
                bridge=network.bridge if network is not None else "",
                port="" if link.kind == "external" else port(interface),
                mac=decided_link.mac,
                mtu=decided_link.mtu,
                v4=decided_link.v4,
                v6=decided_link.v6,
                over=link.over,
                underlay=decided_link.underlay,
                vlans=tuple(
                    PlannedVlan(
                        vlan_id=carried.vlan_id or 0,
                        network=carried.name,
                        bridge=plan.networks[carried.name].bridge,
                        port=port(f"{interface}.{carried.vlan_id}"),
                    )
                    for carried in link.carries
                ),
                members=tuple((member, port(member)) for member in link.bond),
                vlan_id=network.vlan_id if network is not None and link.kind == "vlan" else None,
                vni=network.vni if network is not None and link.kind == "vxlan" else None,
                required=link.required,
                admin_up=link.admin_up,
                ipv6=network is None or network.ipv6,
                dns_name=link.dns_name,
            )
        )
    return tuple(planned)


def _lowest_first(links: Mapping[str, NetworkLink]) -> list[tuple[str, NetworkLink]]:
    """Links in their order, but none before what it stands on."""
    done: list[tuple[str, NetworkLink]] = []
    waiting = list(links.items())
    while waiting:
        names = {interface for interface, _ in waiting}
        now = [pair for pair in waiting if not names & set(pair[1].over)] or waiting
        done += now
        waiting = [pair for pair in waiting if pair not in now]
    return done


def _groups(machine: Machine) -> tuple[str, ...]:
    by_roles = (group for role in machine.parts for group in several(role.groups))
    return tuple(dict.fromkeys([*machine.groups, *by_roles]))


def _image(machine: Machine, traits: Traits) -> Image | None:
    """The image with what the machine's roles and init need; None where nothing of it is used."""
    image = machine.image
    if image is None or traits.root != "image":
        return None
    has = _keys(image.roles)
    missing = [role for role in machine.parts if role.key not in has]
    packages = [package for role in missing for package in several(role.packages)]
    if _init(machine) == "systemd" and image.kind == "debian":
        packages.extend(_SYSTEMD_PACKAGES)
    return image.with_packages(*packages)


def _keys(roles: Iterable[Role]) -> frozenset[str]:
    return frozenset(role.key for role in roles)


def _init(machine: Machine) -> Literal["systemd"] | None:
    """What the machine's first process is to be, where its image says so."""
    if machine.init is not None or machine.image is None or machine.command is not None:
        return machine.init
    command = machine.image.config.command
    is_systemd = command is not None and command[0] in _SYSTEMD_COMMANDS
    return "systemd" if is_systemd else None


def _command(machine: Machine) -> tuple[str, ...] | None:
    if machine.command is not None or machine.image is None or _init(machine) is not None:
        return machine.command
    return machine.image.config.command
