"""Who is there, and how those who can reach each other again find each other at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import memory, netlink

if TYPE_CHECKING:
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.population import Population


def there(ports: Iterable[str]) -> list[str]:
    """Those of these ports that there are."""
    names = []
    for port in ports:
        try:
            netlink.index_of(port)
        except OSError:
            continue  # it went with its machine
        names.append(port)
    return names


def meet_again(population: Population, home: Home, neighbours: Mapping[str, Any]) -> None:
    """Spare machines the second until the kernel asks again for those whom it now reaches.

    :param neighbours: ``hardware``: network to addresses to hardware addresses;
        ``machines``: name to networks.
    """
    for name, networks in neighbours["machines"].items():
        macs = {k: v for network in networks for k, v in neighbours["hardware"][network].items()}
        try:
            with home.visit(population.find(name).place.namespace):
                memory.meet_again(macs)
        except (LookupError, OSError):
            continue  # it is off, was removed, or has a kernel of its own
