"""From what an author wrote for one family of addresses to what it means."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, TypeVar

from pytest_carthage.model.addresses.addressing import locate
from pytest_carthage.model.addresses.ipconfig import (
    Address,
    AnyNetwork,
    Computed,
    IpConfig,
    LinkContext,
)
from pytest_carthage.model.mistakes.culprit import described
from pytest_carthage.model.mistakes.value import Unreadable, readable

__all__ = [
    "Interface",
    "PlannedAddressing",
    "PlannedSecondary",
    "PlannedSubnet",
    "PlannedUnderlay",
    "Range",
    "ResolvedLink",
    "WrongValue",
    "compute",
    "highest_free",
    "is_domain",
    "is_special",
    "parse_network",
    "pool_of",
    "resolve_link",
    "resolve_subnet",
    "with_prefix",
]

Interface = IPv4Interface | IPv6Interface
Range = tuple[Address, Address]
C = TypeVar("C", bound=IpConfig)

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
#: this host, loopback, multicast (RFC 6890)
_SPECIAL = tuple(map(ip_network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "::/127", "ff00::/8")))
_LARGEST_METRIC = 2**32 - 1  # RTA_PRIORITY is a 32-bit number


class WrongValue(ValueError):
    """A value that makes no sense: what was seen, and what to write instead."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSubnet:
    """What a network has in one family of addresses."""

    network: AnyNetwork
    #: next hop of links that say nothing else
    gateway: Address | None = None
    #: first and last address of what a DHCP server gives to whoever asks
    dhcp_ranges: tuple[Range, ...] = ()
    #: first and last address of what ``"auto"`` takes from; empty: all that is not in a range
    pool: tuple[Range, ...] = ()
    dns_servers: tuple[Address, ...] = ()
    domains: tuple[str, ...] = ()
    #: hosts derive their addresses from what a router advertises (RFC 4862); IPv6 only
    slaac: bool = False
    #: addresses of what is not part of the layout
    external_addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSecondary:
    """A further address of a link, and the one it is known by behind a NAT."""

    address: Interface
    public: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedUnderlay:
    """Between which addresses a tunnel runs."""

    local: Address
    remotes: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAddressing:
    """What a link has in one family of addresses; all that is inherited is in it."""

    network: AnyNetwork
    #: with ``dhcp``, what the server gives; None: an address that is not known before
    address: Interface | None = None
    #: next hop of the default route through this link
    gateway: Address | None = None
    dhcp: bool = False
    #: the address follows from the hardware address and what a router advertises
    slaac: bool = False
    #: the machine sets it by itself: nobody gives it
    sets_itself: bool = False
    #: it was said before that the machine would; else it was seen on the live machine
    is_expected: bool = False
    secondary_addresses: tuple[PlannedSecondary, ...] = ()
    public_address: Address | None = None
    dns_servers: tuple[Address, ...] = ()
    domains: tuple[str, ...] = ()
    #: of the default route; the lowest of a machine's is taken
    metric: int | None = None
    masquerade: bool = False
    #: addresses on the network of what is not part of the layout
    external_addresses: tuple[Address, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether the address comes from a server or a router on the network."""
        return self.dhcp or self.slaac

    @property
    def configured(self) -> tuple[Interface, ...]:
        """Addresses that the machine is given without asking."""
        if self.sets_itself:
            return ()
        own = () if self.asks or self.address is None else (self.address,)
        return (*own, *(secondary.address for secondary in self.secondary_addresses))


def compute(config: C, context: LinkContext) -> C:
    """Replace the functions in a configuration by what they give.

    :raises WrongValue: a function failed.
    """
    computed: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if callable(value):
            computed[field.name] = _called(field.name, value, context)
    return replace(config, **computed) if computed else config


def _called(name: str, function: Computed, context: LinkContext) -> Any:
    """What a function of an author's gives for a value of a configuration.

    :raises WrongValue: it failed.
    """
    try:
        return readable(function(context))
    except Unreadable as error:
        raise WrongValue(
            f"the function for {name} gave something else: {error}",
            f"a function of a LinkContext that gives the {name}",
        ) from error.__cause__
    except Exception as error:
        raise WrongValue(
            f"the function for {name} failed: {described(error, function)}",
            f"a function of a LinkContext that gives the {name}",
        ) from error


def parse_network(written: object, *, version: int | None = None) -> AnyNetwork:
    """The subnet that was written.

    :raises WrongValue: it is none, is for special addresses only, or of the other family.
    """
    example = "fd00::/64" if version == 6 else "10.0.0.0/24"
    if not isinstance(written, str | IPv4Network | IPv6Network):
        raise WrongValue(
            f"subnet {written!r} is not text and not an ipaddress network",
            f'Network("{example}")',
        )
    if isinstance(written, str) and "/" not in written:
        raise _without_prefix(written, example)
    try:
        parsed = ip_network(written)
    except ValueError:
        raise _no_subnet(str(written), example) from None
    if parsed.is_multicast or parsed.is_loopback:
        kind = "multicast" if parsed.is_multicast else "loopback"
        raise WrongValue(
            f"subnet {parsed} is for {kind} addresses only",
            f'an ordinary subnet, such as Network("{example}")',
        )
    special = next(
        (one for one in _SPECIAL if one.version == parsed.version and one.overlaps(parsed)), None
    )
    if special is not None:
        raise WrongValue(
            f"subnet {parsed} has addresses that no machine can have: those of {special}",
            "an ordinary subnet, such as "
            + ('Network("fd00::/64")' if parsed.version == 6 else 'Network("10.0.0.0/24")'),
        )
    if version is not None and parsed.version != version:
        raise WrongValue(
            f"subnet {parsed} is of IPv{parsed.version}",
            f"V{parsed.version}Config(network={str(parsed)!r})",
        )
    return parsed


def is_special(address: Address) -> bool:
    """Whether no machine can have this address: multicast, loopback, unspecified, link-local."""
    return address.is_link_local or any(
        address.version == one.version and address in one for one in _SPECIAL
    )


def _without_prefix(written: str, example: str) -> WrongValue:
    try:
        address = ip_address(written)
    except ValueError:
        return _no_subnet(written, example)
    meant = ip_network(f"{address}/{24 if address.version == 4 else 64}", strict=False)
    return WrongValue(f"subnet {written!r} has no prefix length", f'Network("{meant}")')


def _no_subnet(written: str, example: str) -> WrongValue:
    try:
        meant = ip_network(written, strict=False)
    except ValueError:
        return WrongValue(f"{written!r} is not a subnet", f'Network("{example}")')
    return WrongValue(f"subnet {written!r} has host bits set", f'Network("{meant}")')


def is_domain(written: object) -> bool:
    """Whether this is a domain name, as hosts have (RFC 1123)."""
    return isinstance(written, str) and len(written) <= 253 and bool(_DOMAIN.fullmatch(written))


class _Reading:
    """Reads the values of one configuration, whose subnet is known."""

    def __init__(
        self, config: IpConfig, subnet: AnyNetwork, *, where: str = "", network: str = ""
    ) -> None:
        self.config = config
        self.subnet = subnet
        #: as in `` of interface 'eth0'``, for messages
        self.where = where
        self.network = network

    def address(self, name: str, written: object) -> Address:
        """An address in the subnet."""
        if not isinstance(written, str | IPv4Address | IPv6Address):
            raise WrongValue(
                f"{name} {written!r}{self.where} is not text and not an ipaddress address",
                f'{name} ".1"',
            )
        try:
            return locate(written, self.subnet)
        except ValueError as error:
            raise WrongValue(
                f"{name} {str(written)!r}{self.where} {error} network {self._named()}",
                f'{name} "{self._first()}"',
            ) from None

    def any_address(self, name: str, written: object) -> Address:
        """An address of this family, wherever it is; endings are in the subnet."""
        if isinstance(written, str) and written.startswith("."):
            return self.address(name, written)
        try:
            parsed = ip_address(written)  # type: ignore[arg-type]
        except ValueError:
            parsed = None
        is_no_address = isinstance(written, int | IPv4Interface | IPv6Interface)
        if parsed is None or parsed.version != self.subnet.version or is_no_address:
            raise WrongValue(
                f"{name} {written!r}{self.where} is not an IPv{self.subnet.version} address",
                f"{name}={str(self._first())!r}",
            )
        return parsed

    def _named(self) -> str:
        return f"{self.network!r} ({self.subnet})" if self.network else str(self.subnet)

    def _first(self) -> Address:
        return self.subnet[1 if self.subnet.num_addresses > 2 else 0]

    def flag(self, name: str) -> bool:
        value = getattr(self.config, name)
        if value is not None and not isinstance(value, bool):
            raise WrongValue(
                f"{name}={value!r}{self.where} is neither True nor False", f"{name}=True"
            )
        return bool(value)

    def gateway(self) -> Address | None:
        given = self.config.gateway
        return None if given is None or given is False else self.address("gateway", given)

    def _range(self, name: str, pair: object) -> Range:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise WrongValue(
                f"{name} has {pair!r}{self.where} instead of a first and a last address",
                f'{name}=[(".100", ".199")]',
            )
        low, high = (self.address(name, end) for end in pair)
        if int(low) > int(high):
            raise WrongValue(
                f"{name} from {low} to {high}{self.where} is backwards",
                f'{name}=[("{high}", "{low}")]',
            )
        return low, high

    def _ranges(self, name: str) -> tuple[Range, ...]:
        given: object = getattr(self.config, name)
        if given is None:
            return ()
        if (isinstance(given, str) and "/" in given) or isinstance(
            given, IPv4Network | IPv6Network
        ):
            part = parse_network(given)
            if part.version != self.subnet.version or not part.subnet_of(self.subnet):  # type: ignore[arg-type]
                raise WrongValue(
                    f"{name} {part}{self.where} is outside network {self._named()}",
                    f"a part of {self.subnet}",
                )
            first, last = part[0], part[-1]
            if part.num_addresses > 2:
                first += first == self.subnet.network_address
                last -= part.version == 4 and last == self.subnet.broadcast_address
            return ((first, last),)
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise WrongValue(
                f"{name}={given!r}{self.where} is no list of address pairs",
                f'{name}=[(".100", ".199")]',
            )
        is_pair = len(given) == 2 and not any(
            isinstance(end, Sequence) and not isinstance(end, str) for end in given
        )
        ranges = tuple(self._range(name, pair) for pair in ([given] if is_pair else given))
        self._apart(name, ranges, name, ranges)
        return ranges

    def _apart(
        self, name: str, ranges: tuple[Range, ...], other_name: str, others: tuple[Range, ...]
    ) -> None:
        for number, (low, high) in enumerate(ranges):
            for position, (start, end) in enumerate(others):
                if name == other_name and position <= number:
                    continue
                if int(low) <= int(end) and int(start) <= int(high):
                    raise WrongValue(
                        f"{name} {low} to {high} and {other_name} {start} to {end}{self.where}"
                        " overlap",
                        "ranges that are apart",
                    )

    def ranges(self) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
        """The DHCP ranges and the pool."""
        given, pool = self._ranges("dhcp_ranges"), self._ranges("pool")
        self._apart("dhcp_ranges", given, "pool", pool)
        return given, pool

    def several(self, name: str) -> tuple[Any, ...]:
        given: object = getattr(self.config, name)
        if given is None:
            return ()
        if isinstance(given, str | IPv4Address | IPv6Address):
            return (given,)
        if not isinstance(given, Iterable):
            raise WrongValue(f"{name}={given!r}{self.where} is no list", f"{name}=[...]")
        return tuple(given)

    def dns_servers(self) -> tuple[Address, ...]:
        return tuple(self.any_address("dns_servers", one) for one in self.several("dns_servers"))

    def domains(self) -> tuple[str, ...]:
        domains = self.several("domains")
        for domain in domains:
            if not is_domain(domain):
                raise WrongValue(
                    f"domains has {domain!r}{self.where}, which is no domain name",
                    'domains=["prod.example"]',
                )
        return domains

    def metric(self) -> int | None:
        given: object = self.config.metric
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int):
            raise WrongValue(f"metric {given!r}{self.where} is not a number", "metric=100")
        if not 0 <= given <= _LARGEST_METRIC:
            raise WrongValue(
                f"metric {given}{self.where} is not from 0 to {_LARGEST_METRIC}", "metric=100"
            )
        return given

    def external(self) -> tuple[Address, ...]:
        return tuple(
            self.address("external_addresses", one) for one in self.several("external_addresses")
        )

    def secondary(self) -> tuple[PlannedSecondary, ...]:
        given: object = self.config.secondary_addresses
        if isinstance(given, tuple) and len(given) == 2 and not _has_pair(given):
            raise WrongValue(
                f"secondary_addresses={given!r}{self.where} can be two addresses"
                " or one with its public one",
                f"secondary_addresses=[{given!r}] for a pair,"
                f" secondary_addresses={list(given)!r} for two",
            )
        secondaries: list[PlannedSecondary] = []
        for entry in self.several("secondary_addresses"):
            is_pair = isinstance(entry, tuple | list) and len(entry) == 2
            private, public = entry if is_pair else (entry, None)
            secondaries.append(
                PlannedSecondary(
                    address=self.on(self.address("secondary_addresses", private)),
                    public=None
                    if public is None
                    else self.any_address("secondary_addresses", public),
                )
            )
        return tuple(secondaries)

    def public(self) -> Address | None:
        given = self.config.public_address
        return None if given is None else self.any_address("public_address", given)

    def on(self, address: Address) -> Interface:
        """The address with the subnet's prefix length."""
        return with_prefix(address, self.subnet)

    def slaac(self) -> bool:
        asked = getattr(self.config, "slaac", None)
        if asked is None:
            return False
        if self.flag("slaac") and self.subnet.prefixlen != 64:
            raise WrongValue(
                f"slaac{self.where} needs a prefix of 64 bits, {self.subnet} has"
                f" {self.subnet.prefixlen} (RFC 4862)",
                "a /64 network, or dhcp=True",
            )
        return self.flag("slaac")


def _has_pair(given: Iterable[object]) -> bool:
    return any(isinstance(one, tuple | list) for one in given)


def with_prefix(address: Address, subnet: AnyNetwork) -> Interface:
    """An address with the subnet's prefix length."""
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, subnet.prefixlen))
    return IPv6Interface((address, subnet.prefixlen))


def resolve_subnet(
    config: IpConfig, network: AnyNetwork | None = None, *, where: str = "", name: str = ""
) -> PlannedSubnet:
    """What a network's configuration means; functions in it are left to its links.

    :param network: the subnet, where it is known already.
    :raises WrongValue: a value makes no sense.
    """
    subnet = network or parse_network(config.network, version=config.version)
    plain: dict[str, Any] = {
        one.name: None for one in fields(config) if callable(getattr(config, one.name))
    }
    reading = _Reading(replace(config, **plain), subnet, where=where, network=name)
    ranges, pool = reading.ranges()
    reading.flag("dhcp")
    reading.flag("masquerade")
    reading.metric()
    return PlannedSubnet(
        network=subnet,
        gateway=reading.gateway(),
        dhcp_ranges=ranges,
        pool=pool,
        dns_servers=reading.dns_servers(),
        domains=reading.domains(),
        slaac=reading.slaac(),
        external_addresses=reading.external(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedLink:
    """What a link's configuration means in one family, before it has its address."""

    addressing: PlannedAddressing
    #: the network as this link sees it
    subnet: PlannedSubnet
    #: the address that the author chose
    fixed: Address | None
    #: whether it gets one from the pool
    auto: bool
    #: whether the gateway is the link's own, and not its network's
    own_gateway: bool


def resolve_link(
    own: IpConfig | None, inherited: IpConfig | None, context: LinkContext, *, name: str
) -> ResolvedLink | None:
    """What a link has in one family; None: nothing.

    :param name: of the network, for messages.
    :raises WrongValue: a value makes no sense.
    """
    given = own.over(inherited) if own is not None else inherited
    if given is None:
        return None
    where = f" of interface {context.interface!r}"
    network = given.network
    if callable(network):
        network = _called("network", network, context)
    if network is None:
        name_of, value = next(
            (one.name, value)
            for one in fields(given)
            if (value := getattr(given, one.name)) is not None
        )
        subject = f"{name_of} {value!s}" if name_of != "place" else "a configuration"
        raise WrongValue(
            f"{subject}{where} is of IPv{given.version}, of which network {name!r} has no subnet",
            f"another subnet in {name} = Network(...)",
        )
    subnet = parse_network(network, version=given.version)
    config = compute(given, replace(context, subnet=subnet))
    planned_subnet = resolve_subnet(config, subnet, where=where, name=name)
    reading = _Reading(config, subnet, where=where, network=name)
    fixed: Address | None = None
    auto = config.address == "auto"
    if config.address is not None and not auto:
        fixed = reading.address("address", config.address)
    addressing = PlannedAddressing(
        network=subnet,
        gateway=planned_subnet.gateway,
        dhcp=reading.flag("dhcp"),
        slaac=planned_subnet.slaac,
        secondary_addresses=reading.secondary(),
        public_address=reading.public(),
        dns_servers=planned_subnet.dns_servers,
        domains=planned_subnet.domains,
        metric=reading.metric(),
        masquerade=reading.flag("masquerade"),
        external_addresses=planned_subnet.external_addresses,
    )
    if addressing.dhcp and addressing.slaac:
        raise WrongValue(f"both dhcp and slaac{where}", "one of them")
    if addressing.slaac and (fixed is not None or auto):
        raise WrongValue(
            f"address {str(config.address)!r}{where}: with slaac, the address follows from the"
            " hardware address",
            "leave the address out, or slaac=False",
        )
    return ResolvedLink(
        addressing=addressing,
        subnet=planned_subnet,
        fixed=fixed,
        auto=auto,
        own_gateway=own is not None and own.gateway is not None,
    )


def pool_of(subnet: PlannedSubnet) -> Iterator[Address]:
    """The addresses that ``"auto"`` may take, lowest first."""
    network = subnet.network
    first, last = int(network[0]), int(network[-1])
    if network.num_addresses > 2:
        first += 1
        last -= network.version == 4
    kind = type(network.network_address)
    for low, high in sorted(
        ((int(low), int(high)) for low, high in subnet.pool or ((network[0], network[-1]),))
    ):
        number = max(low, first)
        while number <= min(high, last):
            served = next(
                (end for start, end in subnet.dhcp_ranges if int(start) <= number <= int(end)), None
            )
            if served is None:
                yield kind(number)
                number += 1
            else:
                number = int(served) + 1


def highest_free(subnet: PlannedSubnet, taken: Collection[Address]) -> Address | None:
    """The highest address that nobody has and no server gives; None: there is none."""
    network = subnet.network
    first, last = int(network[0]), int(network[-1])
    if network.num_addresses > 2:
        first += 1
        last -= network.version == 4
    kind = type(network.network_address)
    while last >= first:
        served = next(
            (low for low, high in subnet.dhcp_ranges if int(low) <= last <= int(high)), None
        )
        if served is not None:
            last = int(served) - 1
        elif kind(last) not in taken:
            return kind(last)
        else:
            last -= 1
    return None
