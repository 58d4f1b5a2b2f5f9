"""From a layout to a plan: pure functions, no I/O.

:func:`make_plan` plans a layout class, :func:`extend_plan` and :func:`reduce_plan` plan a machine
that joins or leaves a live one, :func:`waves` gives the order of building.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_interface
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_carthage.errors import LayoutError
from pytest_carthage.model.fault import Fault
from pytest_carthage.model.graph import batches
from pytest_carthage.model.image import Image
from pytest_carthage.model.machine import Machine
from pytest_carthage.model.network import Address, Network
from pytest_carthage.model.rules import Decided, Neighbourhood, decide
from pytest_carthage.planning.naming import bridge_name, mac_address, port_name
from pytest_carthage.planning.plan import (
    Interface,
    Plan,
    PlannedLink,
    PlannedMachine,
    PlannedNetwork,
    PlannedRoute,
)

if TYPE_CHECKING:
    from pytest_carthage.model.layout import Layout

__all__ = ["extend_plan", "make_plan", "reduce_plan", "waves"]

#: target of a machine without an image: its root file system is the host's
IMAGELESS = "netns"
#: target of a machine with an image
IMAGEFUL = "podman"

_SYSTEMD_PACKAGES = ("dbus", "systemd-sysv")


def make_plan(
    layout: type[Layout],
    *,
    target: str | None = None,
    known_targets: Collection[str] | None = None,
) -> Plan:
    """Plan a layout.

    :param target: realises the machines that do not choose (``on=``); None: what the layout says.
    :param known_targets: kinds of the providers that there are; None: any.
    :raises LayoutError: a target is unknown, or cannot realise a machine.
    """
    known = None if known_targets is None else tuple(sorted(known_targets))
    chosen = target or layout.target
    if chosen is not None and known is not None and chosen not in known:
        raise LayoutError(
            f"layout {layout.__name__!r}: target {chosen!r} is unknown;"
            f" try: one of {', '.join(known)}"
        )
    plan = Plan(
        layout=layout.__name__,
        networks=_plan_networks(layout.networks()),
        machines=MappingProxyType({}),
        images=MappingProxyType({}),
        target=chosen,
        known_targets=known,
    )
    return _with_machines(plan, layout.machines(), layout.decided())


def extend_plan(plan: Plan, name: str, machine: Machine) -> tuple[Plan, PlannedMachine]:
    """Plan one more machine; what is planned already stays as it is.

    :raises LayoutError: the declaration is wrong, or does not fit.
    """
    around = _neighbourhood(plan)
    if name in plan.machines:
        raise around.error(
            name,
            "the layout has a machine of this name already",
            f'name="{name}-2"',
            machine.place,
        )
    extended = _with_machines(plan, {name: machine}, decide({name: machine}, around))
    return extended, extended.machines[name]


def reduce_plan(plan: Plan, name: str) -> Plan:
    """Plan without a machine; its addresses and names are free again.

    :raises KeyError: there is no such machine.
    """
    if name not in plan.machines:
        raise KeyError(name)
    kept = {other: planned for other, planned in plan.machines.items() if other != name}
    return replace(plan, machines=MappingProxyType(kept))


def waves(plan: Plan) -> list[list[str]]:
    """Names of machines in batches, each to be built when the earlier ones are ready."""
    return batches({name: machine.after for name, machine in plan.machines.items()})


def _plan_networks(networks: Mapping[str, Network]) -> Mapping[str, PlannedNetwork]:
    planned: dict[str, PlannedNetwork] = {}
    for name, network in networks.items():
        taken = {other.bridge for other in planned.values()}
        planned[name] = PlannedNetwork(
            name=name, subnet=network.subnet, bridge=bridge_name(name, taken), mtu=network.mtu
        )
    return MappingProxyType(planned)


def _neighbourhood(plan: Plan) -> Neighbourhood:
    """What a machine that joins finds."""

    def network_of(network: Network) -> str | None:
        planned = plan.networks.get(network.name)
        return planned.name if planned and planned.subnet == network.subnet else None

    def machine_of(machine: Machine) -> Sequence[str]:
        return ()

    around = Neighbourhood(
        layout=plan.layout,
        networks={name: network.subnet for name, network in plan.networks.items()},
        network_of=network_of,
        machine_of=machine_of,
    )
    for name, machine in plan.machines.items():
        around.names[machine.hostname.lower()] = name
        around.names[name.lower()] = name
        around.after[name] = machine.after
        for link in machine.links:
            around.macs.setdefault(link.network, {})[link.mac] = name
            if link.address is not None:
                around.addresses.setdefault(link.network, {})[link.address.ip] = name
    return around


def _with_machines(
    plan: Plan, machines: Mapping[str, Machine], decided: Mapping[str, Decided]
) -> Plan:
    planned = dict(plan.machines)
    images = dict(plan.images)
    links = [link for machine in planned.values() for link in machine.links]
    names = {network.bridge for network in plan.networks.values()} | {link.port for link in links}
    macs = {link.mac for link in links}
    macs |= {
        link.mac for one in decided.values() for link in one.links.values() if link.mac is not None
    }
    for name, machine in machines.items():
        target = _target(plan, name, machine)
        image = _image(machine, target)
        planned[name] = PlannedMachine(
            name=name,
            hostname=decided[name].hostname,
            target=target,
            image=image,
            links=_plan_links(plan, name, decided[name], names, macs),
            routes=tuple(
                PlannedRoute(destination=route.destination, via=route.via)
                for route in decided[name].routes
            ),
            roles=machine.roles,
            command=machine.command,
            init=machine.init,
            env=machine.env,
            forward=decided[name].forward,
            wait_for=machine.wait_for,
            ready_timeout_s=machine.ready_timeout_s,
            limits=machine.limits,
            groups=_groups(machine),
            variables=machine.variables,
            after=decided[name].after,
        )
        if image is not None:
            images.setdefault(image.key, image)
    return replace(plan, machines=MappingProxyType(planned), images=MappingProxyType(images))


def _plan_links(
    plan: Plan, name: str, decided: Decided, names: set[str], macs: set[str]
) -> tuple[PlannedLink, ...]:
    """The links, with names and hardware addresses that are added to those taken."""
    planned: list[PlannedLink] = []
    for interface, link in decided.links.items():
        network = plan.networks[link.network]
        port = port_name(name, interface, names)
        mac = link.mac or mac_address(plan.layout, name, interface, macs)
        names.add(port)
        macs.add(mac)
        planned.append(
            PlannedLink(
                interface=interface,
                network=link.network,
                bridge=network.bridge,
                port=port,
                address=_on(network, link.address),
                gateway=link.gateway,
                mac=mac,
                mtu=link.mtu or network.mtu,
                masquerade=interface in decided.masquerade,
            )
        )
    return tuple(planned)


def _on(network: PlannedNetwork, address: Address | None) -> Interface | None:
    if address is None:
        return None
    return ip_interface((address, network.subnet.prefixlen))


def _target(plan: Plan, name: str, machine: Machine) -> str:
    target = machine.on or plan.target or (IMAGEFUL if machine.image else IMAGELESS)

    def refuse(what: str, remedy: str) -> LayoutError:
        fault = Fault(what=what, remedy=remedy, place=machine.place)
        return fault.error(f"machine {name!r} of layout {plan.layout!r}")

    if plan.known_targets is not None and target not in plan.known_targets:
        raise refuse(f"target {target!r} is unknown", f"one of {', '.join(plan.known_targets)}")
    if target == IMAGELESS and machine.init == "systemd":
        raise refuse(
            f"target {IMAGELESS!r} cannot run systemd: its machines share the host's file system",
            f'on="{IMAGEFUL}" with an image, or leave init= out',
        )
    if target == IMAGEFUL and machine.image is None:
        raise refuse(
            f"target {IMAGEFUL!r} needs an image, and the machine has none",
            f'Machine(Image.debian("bookworm"), ...), or on="{IMAGELESS}"',
        )
    return target


def _groups(machine: Machine) -> tuple[str, ...]:
    by_roles = (group for role in machine.roles for group in role.groups)
    return tuple(dict.fromkeys([*machine.groups, *by_roles]))


def _image(machine: Machine, target: str) -> Image | None:
    """The image with what the machine's roles and init need; None where the host's is used."""
    if machine.image is None or target == IMAGELESS:
        return None
    if machine.image.kind != "debian":
        return machine.image
    packages = [package for role in machine.roles for package in role.packages]
    if machine.init == "systemd":
        packages.extend(_SYSTEMD_PACKAGES)
    return machine.image.with_packages(*packages)
