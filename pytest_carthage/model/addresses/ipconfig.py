"""What a network or a link has in one family of addresses, as declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, ClassVar, Literal, Self, TypeAlias

from pytest_carthage.model.mistakes.declaring import declared
from pytest_carthage.model.mistakes.place import Place

__all__ = ["Address", "AnyNetwork", "IpConfig", "LinkContext", "V4Config", "V6Config", "Written"]

Address: TypeAlias = IPv4Address | IPv6Address
AnyNetwork: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkContext:
    """What a value of a link's configuration can be computed from, when it is a function."""

    layout: str
    machine: str
    hostname: str
    interface: str
    #: name of the network
    network: str
    #: the link's addresses in the family that is asked for; None while they are being computed
    subnet: AnyNetwork | None
    #: hardware address
    mac: str


Computed: TypeAlias = Callable[[LinkContext], Any]
#: an address: whole text, how it ends (``".7"``, ``"::7"``), an object, or a function
Written: TypeAlias = str | Address | Computed
Pair: TypeAlias = tuple[str | Address, str | Address]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class IpConfig:
    """What :class:`V4Config` and :class:`V6Config` have in common.

    None means: as the network says. On a link, what is set goes before what its network says.
    Each value may be a function of a :class:`LinkContext`, called when the layout is made and when
    it is planned; it must give the same every time.
    """

    version: ClassVar[Literal[4, 6]]

    #: the subnet, with its prefix length
    network: str | AnyNetwork | Computed | None = None
    #: the link's address, or ``"auto"`` for one from the pool
    address: Written | None = None
    #: next hop of the default route; False: explicitly none
    gateway: Written | Literal[False] | None = None
    #: the link asks a DHCP server, which gives it ``address`` where that is known
    dhcp: bool | Computed | None = None
    #: first and last address of what a server on this network gives to whoever asks
    dhcp_ranges: Sequence[Pair] | Computed | None = None
    #: where ``"auto"`` takes from: first and last address, several such pairs, or a subnet
    pool: str | AnyNetwork | Pair | Sequence[Pair] | Computed | None = None
    #: further addresses of the link, each with the one it is known by outside, or without
    secondary_addresses: Sequence[str | Address | Pair] | Computed | None = None
    #: what the link's address is known by behind a NAT; it need not lie in any network here
    public_address: str | Address | Computed | None = None
    #: resolvers that the machine asks
    dns_servers: Sequence[str | Address] | Written | None = None
    #: domains in which the machine looks for names without a dot
    domains: Sequence[str] | str | Computed | None = None
    #: of the default route: of several, the lowest is taken
    metric: int | Computed | None = None
    #: hide what leaves by this link behind its address
    masquerade: bool | Computed | None = None
    #: addresses on this network that belong to something outside of the layout
    external_addresses: Sequence[str | Address] | Computed | None = None
    place: Place = field(default_factory=Place.of_author, compare=False, repr=False)

    def __repr__(self) -> str:
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}
        shown = [f"{name}={value!r}" for name, value in values.items() if value is not None]
        return f"{type(self).__name__}({', '.join(shown)})"

    def over(self, inherited: Self | None) -> Self:
        """This configuration, completed by what it inherits."""
        if inherited is None:
            return self
        values = {
            one.name: own
            if (own := getattr(self, one.name)) is not None
            # a field that is not set
            else getattr(inherited, one.name)
            for one in fields(self)
        }
        return type(self)(**{**values, "place": self.place})


@declared("V4Config")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class V4Config(IpConfig):
    """IPv4 of a network or a link."""

    version = 4


@declared("V6Config")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class V6Config(IpConfig):
    """IPv6 of a network or a link."""

    version = 6

    #: the address follows from the hardware address and what a router advertises (RFC 4862)
    slaac: bool | Computed | None = None
