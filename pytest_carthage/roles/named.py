"""Names in a role's arguments, and names that others have for its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.roles.served import Served

__all__ = ["check_named", "known_names"]


def check_named(
    plan: Plan,
    machine: PlannedMachine,
    argument: str,
    names: Collection[str],
    known: Collection[str],
) -> None:
    """Refuse names that there are not.

    :param argument: as in ``"DhcpServer(networks=...)"``.
    :raises LayoutError: with those that there are.
    """
    wrong = [name for name in names if name not in known]
    if wrong:
        raise LayoutError(
            f"machine {machine.name!r} of layout {plan.layout!r}: {argument} names "
            f"{', '.join(map(repr, wrong))}, which it does not have; "
            f"try: one of {', '.join(known) or 'none'}"
        )


def known_names(machine: Served) -> list[str]:
    """Names, then addresses, by which others reach a machine: as the layout's DNS has them."""
    from pytest_carthage.roles.dhcp_dns import DnsServer

    planned, plan = machine.planned, machine.surroundings.plan
    names = [planned.hostname, planned.name]
    names += [link.dns_name for link in planned.links if link.dns_name]
    roles = [role for one in plan.machines.values() for role in one.roles]
    domains = [role.domain for role in roles if isinstance(role, DnsServer) and role.domain]
    names += [f"{name}.{domain}" for domain in domains for name in list(names)]
    addresses = [str(one.ip) for link in planned.links for one in link.addresses]
    return list(dict.fromkeys([*names, *addresses, *machine.addresses.values()]))
