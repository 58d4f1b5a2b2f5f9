"""What a machine's resolver is told: the text of its ``/etc/resolv.conf``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_carthage.planning.plan import PlannedMachine

__all__ = ["resolv_conf"]


def resolv_conf(
    machine: PlannedMachine,
    *,
    dns_servers: Iterable[object] = (),
    domains: Iterable[str] = (),
) -> str:
    """Text of resolv.conf(5): what the links say, in their order, and then what was learned.

    Without DNS servers a machine asks itself, and hears nothing unless it is one.
    """
    addressings = [one for link in machine.links for one in link.addressings]
    searched = dict.fromkeys([*(name for one in addressings for name in one.domains), *domains])
    planned = [str(address) for one in addressings for address in one.dns_servers]
    servers = dict.fromkeys([*planned, *map(str, dns_servers)])
    lines = [f"search {' '.join(searched)}"] if searched else []
    lines += [f"nameserver {address}" for address in servers]
    if not servers:
        lines.append("# a machine of a sealed layout: no DNS server")
    return "".join(f"{line}\n" for line in lines)
