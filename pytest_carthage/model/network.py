"""Networks, and the links that machines have to them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

from pytest_carthage.model.fault import Fault
from pytest_carthage.model.place import Place

__all__ = ["Address", "AnyNetwork", "Link", "Network"]

Address: TypeAlias = IPv4Address | IPv6Address
AnyNetwork: TypeAlias = IPv4Network | IPv6Network

_SMALLEST_MTU, _LARGEST_MTU = 68, 65535  # RFC 791; the kernel's limit for veth
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)


def _mtu_fault(mtu: object, place: Place) -> Fault | None:
    if mtu is None:
        return None
    if type(mtu) is int and _SMALLEST_MTU <= mtu <= _LARGEST_MTU:
        return None
    return Fault(
        what=f"mtu {mtu!r} is not a number from {_SMALLEST_MTU} to {_LARGEST_MTU}",
        remedy="mtu=1500, or leave it out",
        place=place,
    )


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Network:
    """One network of a layout: machines with a link to it reach each other, nobody else does.

    ``subnet`` is text such as ``"10.0.0.0/24"`` or ``"fd00::/64"``, or an ``ipaddress`` network.
    It may be one that the host itself uses: the two never meet.
    """

    #: the member's name in its layout; empty as long as it is in none
    name: str
    mtu: int | None
    place: Place = field(compare=False)
    faults: tuple[Fault, ...]
    _subnet: AnyNetwork | None

    def __init__(self, subnet: str | AnyNetwork, *, mtu: int | None = None) -> None:
        place = Place.of_author()
        faults: list[Fault] = []
        parsed: AnyNetwork | None = None
        given: object = subnet
        if isinstance(given, str | IPv4Network | IPv6Network):
            try:
                parsed = ip_network(given)
            except ValueError:
                faults.append(_subnet_fault(str(given), place))
        else:
            faults.append(
                Fault(
                    what=f"subnet {given!r} is not text and not an ipaddress network",
                    remedy='Network("10.0.0.0/24")',
                    place=place,
                )
            )
        if parsed is not None and (parsed.is_multicast or parsed.is_loopback):
            faults.append(
                Fault(
                    what=f"subnet {parsed} is for {_special(parsed)} addresses only",
                    remedy='an ordinary subnet, such as Network("10.0.0.0/24")',
                    place=place,
                )
            )
        if (fault := _mtu_fault(mtu, place)) is not None:
            faults.append(fault)
        object.__setattr__(self, "name", "")
        object.__setattr__(self, "mtu", mtu)
        object.__setattr__(self, "place", place)
        object.__setattr__(self, "faults", tuple(faults))
        object.__setattr__(self, "_subnet", parsed)

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:
            object.__setattr__(self, "name", name)

    @property
    def subnet(self) -> AnyNetwork:
        """The addresses of this network.

        :raises LayoutError: the declaration is faulty.
        """
        if self._subnet is None:
            raise self.faults[0].error(f"network {self.name!r}")
        return self._subnet

    def at(
        self,
        address: str | Address | None = "auto",
        *,
        gateway: str | Address | None = None,
        mac: str | None = None,
        mtu: int | None = None,
    ) -> Link:
        """A link to this network, for ``Machine(links={"eth0": lan.at(".1")})``.

        ``address`` is how the address ends (``".1"``, ``".2.1"``; ``"::1"`` for IPv6), or a whole
        address, or ``"auto"`` for the first that nobody has, or None for an interface without one.
        ``gateway``, written in the same way, becomes the next hop of the default route; it must be
        the address of another machine on this network. ``mac`` is text such as
        ``"02:00:00:00:00:01"``; without it, one is derived from the names.
        """
        return Link(network=self, address=address, gateway=gateway, mac=mac, mtu=mtu)

    def __repr__(self) -> str:
        return f"Network({str(self._subnet)!r})" if self._subnet else "Network(faulty)"


def _subnet_fault(text: str, place: Place) -> Fault:
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        return Fault(
            what=f"{text!r} is not a subnet",
            remedy='Network("10.0.0.0/24")',
            place=place,
        )
    return Fault(
        what=f"subnet {text!r} has host bits set",
        remedy=f'Network("{meant}")',
        place=place,
    )


def _special(subnet: AnyNetwork) -> str:
    return "multicast" if subnet.is_multicast else "loopback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface's connection to a network, as declared; made by :meth:`Network.at`."""

    network: Network
    address: str | Address | None
    gateway: str | Address | None = None
    mac: str | None = None
    mtu: int | None = None
    place: Place = field(default_factory=Place.of_author, compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.mac, str):
            object.__setattr__(self, "mac", self.mac.lower().replace("-", ":"))

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with it, whatever the network's subnet."""
        found: list[Fault] = []
        given: dict[str, object] = {"address": self.address, "gateway": self.gateway}
        for what, value in given.items():
            if not isinstance(value, str | IPv4Address | IPv6Address | None):
                found.append(
                    Fault(
                        what=f"{what} {value!r} is not text and not an ipaddress address",
                        remedy=f'{what} ".1"',
                        place=self.place,
                    )
                )
        if self.mac is not None and not _is_unicast_mac(self.mac):
            found.append(
                Fault(
                    what=f"mac {self.mac!r} is not a unicast hardware address",
                    remedy='mac="02:00:00:00:00:01", or leave it out',
                    place=self.place,
                )
            )
        if (fault := _mtu_fault(self.mtu, self.place)) is not None:
            found.append(fault)
        return tuple(found)


def _is_unicast_mac(mac: object) -> bool:
    if not isinstance(mac, str) or not _MAC.fullmatch(mac):
        return False
    return not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00"
