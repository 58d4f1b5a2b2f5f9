"""Networks, and the links that machines have to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from pytest_carthage.model.addresses.expectation import Expected, expected
from pytest_carthage.model.addresses.ipconfig import (
    Address,
    AnyNetwork,
    IpConfig,
    LinkContext,
    V4Config,
    V6Config,
    Written,
)
from pytest_carthage.model.addresses.resolution import (
    PlannedSubnet,
    WrongValue,
    is_domain,
    parse_network,
    resolve_subnet,
)
from pytest_carthage.model.mistakes.declaring import declaring
from pytest_carthage.model.mistakes.member import Member
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.names import host_mistake

__all__ = [
    "Address",
    "AnyNetwork",
    "LinkKind",
    "Network",
    "NetworkConfig",
    "NetworkKind",
    "NetworkLink",
    "trunk",
]

#: what a network is made of: a bridge; a wire between two machines; a tunnel over other networks;
#: or something that is there already
NetworkKind: TypeAlias = Literal["bridged", "point-to-point", "vxlan", "gre", "external"]
#: what an interface is
LinkKind: TypeAlias = Literal[
    "bridged", "macvlan", "bond", "trunk", "vlan", "gre", "vxlan", "external"
]

_NETWORK_KINDS = ("bridged", "point-to-point", "vxlan", "gre")
_LARGEST_MTU = 65535  # the kernel's limit for veth
_SMALLEST_MTU = {4: 576, 6: 1280}  # RFC 791 (what every host takes), RFC 8200
_LAST_VLAN, _LAST_VNI = 4094, 2**24 - 1  # IEEE 802.1Q; RFC 7348
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)


def mtu_mistake(mtu: object, versions: Sequence[int]) -> WrongValue | None:
    """What is wrong with an MTU where these versions of IP are used."""
    least = max((_SMALLEST_MTU[version] for version in versions), default=_SMALLEST_MTU[4])
    if mtu is None or (type(mtu) is int and least <= mtu <= _LARGEST_MTU):
        return None
    why = " (IPv6 needs 1280)" if 6 in versions else ""
    return WrongValue(
        f"mtu {mtu!r} is not a number from {least} to {_LARGEST_MTU}{why}",
        "mtu=1500, or leave it out",
    )


def _number_mistake(name: str, value: object, last: int) -> WrongValue | None:
    if value is None or (type(value) is int and 1 <= value <= last):
        return None
    return WrongValue(f"{name} {value!r} is not a number from 1 to {last}", f"{name}=10")


def _ipv6_mistake(ipv6: object, config: V6Config | None) -> WrongValue | None:
    if not isinstance(ipv6, bool):
        return WrongValue(f"ipv6={ipv6!r} is neither True nor False", "ipv6=False")
    if ipv6 or config is None:
        return None
    said = "a v6= configuration" if config.network is None else f"the subnet {config.network}"
    return WrongValue(f"ipv6=False beside {said}", "leave one of them out")


def _external_mistakes(external: object, made: Mapping[str, object]) -> Iterator[WrongValue]:
    """What is wrong with a network that exists.

    :param made: arguments by which the others are made.
    """
    if not (isinstance(external, str) and external.strip() and external.isprintable()):
        yield WrongValue(
            f"external={shown(external)} is no text of one line that says where it is",
            'external="rack 4, VLAN 12"',
        )
    usual = {"kind": "bridged", "ipv6": True}
    for name, value in made.items():
        if value != usual.get(name):
            yield WrongValue(
                f"{name}={shown(value)} beside external=: a network that exists is as it is",
                "leave one of them out",
            )


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Network(Member):
    """One network of a layout: machines with a link to it reach each other, nobody else does.

    :param subnets: text such as ``"10.0.0.0/24"`` or ``"fd00::/64"``, or ``ipaddress`` networks;
        at most one of IPv4 and one of IPv6. Without any, the network has frames alone. It may be
        one that the host itself uses: the two never meet.
    :param v4: what its links inherit for IPv4, see :class:`V4Config`.
    :param v6: what its links inherit for IPv6, see :class:`V6Config`.
    :param kind: ``"bridged"``; ``"point-to-point"``, a wire between two machines; ``"vxlan"`` or
        ``"gre"``, a tunnel between machines, whose links stand ``over`` other interfaces.
    :param vlan_id: 802.1Q number, 1 to 4094, by which a trunk tells it from others.
    :param vni: VXLAN network identifier, 1 to 16777215.
    :param mtu: bytes, of all its links.
    :param ipv6: False: its interfaces speak no IPv6 at all (``disable_ipv6`` of ip-sysctl). Else
        each has a link-local address, also where there is no subnet of IPv6.
    :param external: where a network is that exists, as in ``"rack 4, VLAN 12"``: nothing is made
        of it, and nobody of the layout reaches it. Links to it say which addresses hosts have that
        exist, too (:class:`Ssh`); it may have addresses that other networks of the layout have.
    """

    #: the member's name in its layout; empty as long as it is in none
    name: str
    kind: NetworkKind
    mtu: int | None
    vlan_id: int | None
    vni: int | None
    #: whether its interfaces speak IPv6, be it by link-local addresses alone
    ipv6: bool
    #: where it is, of one that exists
    external: str | None
    #: what its links inherit
    v4: V4Config | None
    v6: V6Config | None
    place: Place = field(compare=False)
    mistakes: tuple[Mistake, ...]
    _resolved: tuple[PlannedSubnet | None, PlannedSubnet | None]

    @declaring("network", own=1)
    def __init__(
        self,
        *subnets: str | AnyNetwork,
        v4: V4Config | None = None,
        v6: V6Config | None = None,
        kind: NetworkKind = "bridged",
        vlan_id: int | None = None,
        vni: int | None = None,
        mtu: int | None = None,
        ipv6: bool = True,
        external: str | None = None,
    ) -> None:
        place = Place.of_author()
        wrong_values: list[WrongValue] = []
        if external is not None:
            made = {"v4": v4, "v6": v6, "kind": kind, "vlan_id": vlan_id, "vni": vni, "mtu": mtu}
            wrong_values += _external_mistakes(external, {**made, "ipv6": ipv6})
            kind = "external"
        configs: dict[int, Any] = {4: v4, 6: v6}
        for version, kind_of in ((4, V4Config), (6, V6Config)):
            if not isinstance(configs[version], kind_of | None):
                wrong_values.append(
                    WrongValue(
                        f"v{version}={configs[version]!r} is no {kind_of.__name__}",
                        f"v{version}={kind_of.__name__}(...)",
                    )
                )
                configs[version] = None
        try:
            for written in subnets:
                _take_subnet(written, configs, place)
        except WrongValue as mistake:
            wrong_values.append(mistake)
        resolved: list[PlannedSubnet | None] = []
        for version in (4, 6):
            resolved.append(None)
            if configs[version] is None:
                continue
            try:
                if configs[version].network is None:
                    example = "10.0.0.0/24" if version == 4 else "fd00::/64"
                    raise WrongValue(
                        f"v{version} has no network", f'V{version}Config(network="{example}")'
                    )
                resolved[-1] = resolve_subnet(configs[version])
            except WrongValue as mistake:
                wrong_values.append(mistake)
        if kind not in _NETWORK_KINDS and external is None:
            wrong_values.append(
                WrongValue(f"kind {kind!r} is unknown", f"one of {', '.join(_NETWORK_KINDS)}")
            )
        versions = [subnet.network.version for subnet in resolved if subnet is not None]
        for wrong_value in (
            mtu_mistake(mtu, versions),
            _number_mistake("vlan_id", vlan_id, _LAST_VLAN),
            _number_mistake("vni", vni, _LAST_VNI),
            _ipv6_mistake(ipv6, configs[6]),
        ):
            wrong_values.extend([wrong_value] if wrong_value is not None else [])
        mistakes = tuple(
            Mistake(what=one.what, remedy=one.remedy, place=place) for one in wrong_values
        )
        for name, value in {
            "name": "",
            "kind": kind,
            "mtu": mtu,
            "vlan_id": vlan_id,
            "vni": vni,
            "ipv6": ipv6,
            "external": external,
            "v4": configs[4],
            "v6": configs[6],
            "place": place,
            "mistakes": mistakes,
            "_resolved": (resolved[0], resolved[1]),
        }.items():
            object.__setattr__(self, name, value)

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:
            object.__setattr__(self, "name", name)

    @property
    def _called(self) -> str:
        return f"network {self.name!r}" if self.name else repr(self)

    @property
    def subnets(self) -> tuple[PlannedSubnet | None, PlannedSubnet | None]:
        """What it has of IPv4 and of IPv6.

        :raises LayoutError: the declaration is faulty.
        """
        if self.mistakes:
            raise self.mistakes[0].error(f"network {self.name!r}")
        return self._resolved

    @property
    def subnet(self) -> AnyNetwork:
        """Its addresses: those of IPv4 where it has both.

        :raises LayoutError: the declaration is faulty.
        :raises ValueError: it has none.
        """
        for planned in self.subnets:
            if planned is not None:
                return planned.network
        raise ValueError(f"network {self.name!r} has no subnet")

    def config(self, version: int) -> IpConfig | None:
        """What its links inherit in one family."""
        return self.v4 if version == 4 else self.v6

    @declaring("link", own=1)
    def at(
        self,
        *addresses: Written | None,
        gateway: Written | Literal[False] | None = None,
        dhcp: bool | None = None,
        slaac: bool | None = None,
        masquerade: bool | None = None,
        public_address: str | Address | None = None,
        secondary_addresses: Sequence[Any] | Callable[[LinkContext], Any] | None = None,
        metric: int | None = None,
        v4: V4Config | None = None,
        v6: V6Config | None = None,
        mac: str | None = None,
        mtu: int | None = None,
        kind: LinkKind | None = None,
        over: str | Sequence[str] = (),
        bond: Sequence[str] = (),
        required: bool = True,
        admin_up: bool = True,
        dns_name: str | None = None,
        expects: Expected | Sequence[Expected] | None = None,
    ) -> NetworkLink:
        """A link to this network, for ``Machine(links={"eth0": lan.at(".1")})``.

        An address is how it ends (``".1"``, ``".2.1"``; ``"::1"`` for IPv6), or a whole one, or
        ``"auto"`` for the first of the pool that nobody has, or a function of a
        :class:`LinkContext`; at most one of IPv4 and one of IPv6. Nothing means ``"auto"`` in
        every family that the network has; None means an interface without addresses.

        :param gateway: next hop of the default route, another machine's address on this network;
            False: none, whatever the network says.
        :param dhcp: ask a DHCP server for the address.
        :param slaac: derive it from what a router advertises (IPv6).
        :param masquerade: hide what leaves by this link behind its address.
        :param v4: all of these and more for IPv4; what is given here as an argument goes first.
        :param v6: the same for IPv6.
        :param mac: text such as ``"02:00:00:00:00:01"``; without it, derived from the names.
        :param kind: ``"macvlan"`` for an interface that has no port of its own on the bridge.
        :param over: the trunk, or the interface under a tunnel, that this one stands on.
        :param bond: names of the interfaces that it is bonded of.
        :param required: the machine is ready only when this link is.
        :param admin_up: False: the interface stays down until somebody sets it up.
        :param dns_name: a name of its own in the DNS.
        :param expects: beside ``None``: addresses that the machine sets by itself (a routing
            daemon, NetworkManager, a script), at most one of each family, as ``".1"`` or
            ``"10.0.0.1/24"``. Nobody else gets them, names and captures know them, and the machine
            is ready when it has them.
        """
        wrong_values: list[WrongValue] = []
        configs = self._spread(
            addresses,
            {
                "gateway": gateway,
                "public_address": public_address,
                "secondary_addresses": secondary_addresses,
            },
            {"dhcp": dhcp, "slaac": slaac, "masquerade": masquerade, "metric": metric},
            {4: v4, 6: v6},
            wrong_values,
        )
        if addresses == (None,) and (useless := _says_anything(configs[4], configs[6])):
            wrong_values.append(
                WrongValue(
                    f"{useless}= beside None, which means no addresses", "leave one of them out"
                )
            )
        if expects is not None:
            if addresses != (None,):
                wrong_values.append(
                    WrongValue(
                        f"expects={expects!r} beside an address that the layout sets",
                        "at(None, expects=...) where the machine sets it, or leave it out",
                    )
                )
            configs = expected(expects, wrong_values)
        return NetworkLink(
            network=self,
            v4=configs[4],
            v6=configs[6],
            bare=addresses == (None,),
            sets_itself=expects is not None,
            mac=mac,
            mtu=mtu,
            kind=_kind_of(self, kind, over, bond),
            over=_interfaces("over", over, wrong_values),
            bond=_interfaces("bond", bond, wrong_values),
            required=required,
            admin_up=admin_up,
            dns_name=dns_name,
            wrong_values=tuple(wrong_values),
        )

    def _spread(
        self,
        addresses: tuple[Any, ...],
        by_form: Mapping[str, Any],
        for_all: Mapping[str, Any],
        configs: dict[int, Any],
        wrong_values: list[WrongValue],
    ) -> dict[int, Any]:
        """Short arguments into the configuration of the family that they are for."""
        values: dict[int, dict[str, Any]] = {4: {}, 6: {}}
        having = [version for version in (4, 6) if self.config(version) is not None]
        for address in addresses or ("auto",):
            versions: Sequence[int | None] = [_version_of(address)]
            if address == "auto" or callable(address):
                versions = having
            if address is None and len(addresses) > 1:
                wrong_values.append(WrongValue("None beside other addresses", "leave it out"))
            for version in versions:
                if version is None:
                    continue
                if "address" in values[version]:
                    wrong_values.append(
                        WrongValue(
                            f"address {str(address)!r} is a second one of IPv{version}",
                            f"secondary_addresses=[{str(address)!r}]",
                        )
                    )
                values[version]["address"] = address
                asks = for_all["dhcp"] or (version == 6 and for_all["slaac"])
                if not addresses and (
                    asks or _says_address(configs[version], self.config(version))
                ):
                    del values[version]["address"]
        used = [version for version in (4, 6) if "address" in values[version]] or having
        for name, value in by_form.items():
            if value is None:
                continue
            formed = _version_of(value)
            for version in [formed] if formed in (4, 6) else used:
                values[version][name] = value
        for name, value in for_all.items():
            for version in [6] if name == "slaac" else used:
                if value is not None:
                    values[version][name] = value
        made: dict[int, Any] = {}
        for version, kind in ((4, V4Config), (6, V6Config)):
            given = configs[version]
            if not isinstance(given, kind | None):
                wrong_values.append(
                    WrongValue(
                        f"v{version}={given!r} is no {kind.__name__}",
                        f"v{version}={kind.__name__}(...)",
                    )
                )
                given = None
            if values[version]:
                given = replace(given or kind(), **values[version])
            made[version] = given
        return made

    def __repr__(self) -> str:
        if self.mistakes:
            return "Network(faulty)"
        shown = [repr(str(one.network)) for one in self._resolved if one is not None]
        if self.external is not None:
            shown.append(f"external={self.external!r}")
        elif self.kind != "bridged":
            shown.append(f"kind={self.kind!r}")
        if not self.ipv6:
            shown.append("ipv6=False")
        return f"Network({', '.join(shown)})"


def _says_address(own: IpConfig | None, inherited: IpConfig | None) -> bool:
    """Whether a configuration tells an address, or how to get one, by itself."""
    return any(
        getattr(config, name, None) is not None
        for config in (own, inherited)
        if isinstance(config, IpConfig)
        for name in ("address", "dhcp", "slaac")
    )


#: more than anybody bundles; one that never ends is no list of names either
_MOST_INTERFACES = 1000


def _interfaces(argument: str, given: object, wrong_values: list[WrongValue]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if isinstance(names, Iterable):
        names = tuple(islice(names, _MOST_INTERFACES))
        if len(names) < _MOST_INTERFACES and all(isinstance(one, str) for one in names):
            return names
    wrong_values.append(
        WrongValue(f"{argument}={shown(given)} is no name of an interface", f'{argument}="eth0"')
    )
    return ()


def _says_anything(*configs: IpConfig | None) -> str | None:
    """The name of a value that is set, and asks for something."""
    return next(
        (
            one.name
            for config in configs
            if config is not None
            for one in fields(config)
            # a gateway without an address is refused with better words
            if one.name not in ("place", "gateway")
            and getattr(config, one.name) not in (None, False)
        ),
        None,
    )


def _version_of(written: object) -> int | None:
    """The family that an address is of, by its form; None where that cannot be told."""
    if isinstance(written, IPv4Address | IPv6Address):
        return written.version
    if isinstance(written, str) and written:
        return 6 if ":" in written else 4
    if isinstance(written, tuple | list) and written:
        return _version_of(written[0])
    return None if written is None or isinstance(written, bool) or callable(written) else 4


def _take_subnet(written: object, configs: dict[int, Any], place: Place) -> None:
    """Put a subnet where its family's configuration is.

    :raises WrongValue: it is none, or the family has one already.
    """
    parsed = parse_network(written)
    config = configs[parsed.version]
    if config is not None and config.network is not None:
        raise WrongValue(
            f"{parsed} is a second subnet of IPv{parsed.version}",
            "a network for each, or secondary_addresses= on the links",
        )
    kind = V4Config if parsed.version == 4 else V6Config
    configs[parsed.version] = replace(config or kind(place=place), network=parsed)


def _kind_of(
    network: Network, kind: LinkKind | None, over: str | Sequence[str], bond: Sequence[str]
) -> LinkKind:
    if kind is not None:
        return kind
    if network.kind in ("vxlan", "gre", "external"):
        return network.kind
    if bond:
        return "bond"
    return "vlan" if over else "bridged"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NetworkLink:
    """One interface's connection to a network, as declared; made by :meth:`Network.at`."""

    #: None: a trunk, which carries several
    network: Network | None
    v4: V4Config | None = None
    v6: V6Config | None = None
    #: the interface gets no address, whatever its network says
    bare: bool = False
    #: what it has is set by the machine itself
    sets_itself: bool = False
    mac: str | None = None
    mtu: int | None = None
    kind: LinkKind = "bridged"
    over: tuple[str, ...] = ()
    bond: tuple[str, ...] = ()
    #: what a trunk carries
    carries: tuple[Network, ...] = ()
    required: bool = True
    admin_up: bool = True
    dns_name: str | None = None
    wrong_values: tuple[WrongValue, ...] = field(default=(), repr=False, compare=False)
    place: Place = field(default_factory=Place.of_author, compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.mac, str):
            object.__setattr__(self, "mac", self.mac.lower().replace("-", ":"))

    def __repr__(self) -> str:
        networks = self.carries if self.network is None else (self.network,)
        leads = ", ".join(one.name or repr(one) for one in networks)
        return f"<NetworkLink to {leads}>"

    def config(self, version: int) -> IpConfig | None:
        """What it says for one family, without what it inherits."""
        return self.v4 if version == 4 else self.v6

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """What is wrong with it, whatever its network is."""
        wrong_values = list(self.wrong_values)
        if self.mac is not None and not _is_unicast_mac(self.mac):
            wrong_values.append(
                WrongValue(
                    f"mac {self.mac!r} is not a unicast hardware address",
                    'mac="02:00:00:00:00:01", or leave it out',
                )
            )
        if (wrong := mtu_mistake(self.mtu, ())) is not None:
            wrong_values.append(wrong)
        for name in ("required", "admin_up"):
            if not isinstance(getattr(self, name), bool):
                wrong_values.append(
                    WrongValue(
                        f"{name}={getattr(self, name)!r} is neither True nor False", f"{name}=True"
                    )
                )
        called = self.dns_name
        if called is not None and (not is_domain(called) or host_mistake(called) is not None):
            wrong_values.append(
                WrongValue(
                    f"dns_name {called!r} is no name for the DNS", 'dns_name="www.prod.example"'
                )
            )
        wrong_values += self._kind_mistakes()
        return tuple(
            Mistake(what=one.what, remedy=one.remedy, place=self.place) for one in wrong_values
        )

    def _kind_mistakes(self) -> Iterator[WrongValue]:
        network = self.network
        if network is not None and network.kind == "external":
            yield from self._external_mistakes(network)
            return
        kinds = ("bridged", "macvlan", "bond", "trunk", "vlan", "gre", "vxlan")
        if self.kind not in kinds:
            yield WrongValue(f"kind {self.kind!r} is unknown", 'kind="macvlan", or leave it out')
            return
        if self.kind == "trunk" and network is not None:
            yield WrongValue(
                "kind 'trunk' is for interfaces that carry several networks",
                "trunk(lan, dmz), and over= on the links to them",
            )
        tunnel = network is not None and network.kind in ("gre", "vxlan")
        if tunnel and len(self.over) != 1:
            yield WrongValue(
                f"a link to a network of kind {network.kind!r} has to stand on one interface",  # type: ignore[union-attr]
                'over="eth0", an interface of the machine that reaches the other ends',
            )
        if tunnel and (self.bond or self.kind not in ("gre", "vxlan")):
            yield WrongValue(
                f"a tunnel's link cannot be of kind {self.kind!r}", "leave kind= and bond= out"
            )
        if not tunnel and self.kind in ("gre", "vxlan"):
            yield WrongValue(
                f"kind {self.kind!r} is one of networks",
                f'Network(..., kind="{self.kind}"), and over= on its links',
            )
        for carried in self.carries:
            if carried.vlan_id is None:
                yield WrongValue(
                    f"{_called(carried)} on a trunk has no vlan_id", "Network(..., vlan_id=10)"
                )
            if carried.kind != "bridged":
                yield WrongValue(
                    f"{_called(carried)} on a trunk is of kind {carried.kind!r}",
                    "a bridged network",
                )
        if self.kind == "vlan" and len(self.over) != 1:
            yield WrongValue("a link of kind 'vlan' stands on one trunk", 'over="eth0"')
        if self.kind in ("bridged", "macvlan", "bond") and self.over:
            yield WrongValue(
                f"over={list(self.over)} is not for kind {self.kind!r}", "leave it out"
            )
        if self.kind == "bond" and not 1 <= len(self.bond) <= 8:
            yield WrongValue(f"a bond of {len(self.bond)} interfaces", 'bond=("eth0", "eth1")')
        if len(set(self.bond)) < len(self.bond):
            yield WrongValue(f"bond={list(self.bond)} has an interface twice", "each once")
        if self.bond and self.kind != "bond":
            yield WrongValue(f"bond= is not for kind {self.kind!r}", "leave one of them out")
        if network is not None and network.kind == "point-to-point" and self.kind != "bridged":
            yield WrongValue(
                f"kind {self.kind!r} is not possible on a point-to-point network",
                "leave it out",
            )

    def _external_mistakes(self, network: Network) -> Iterator[WrongValue]:
        """What a link says beside the addresses that a host has."""
        said = {
            "kind": self.kind if self.kind not in ("bridged", "external") else None,
            "expects": "..." if self.sets_itself else None,
            **{name: getattr(self, name) for name in ("mac", "mtu", "over", "bond", "dns_name")},
            "required": None if self.required else False,
            "admin_up": None if self.admin_up else False,
        }
        for version in (4, 6):
            config = self.config(version)
            for each in fields(config) if config is not None else ():
                if each.name not in ("place", "network", "address", "secondary_addresses"):
                    said.setdefault(each.name, getattr(config, each.name))
            if config is not None and config.address == "auto":
                yield WrongValue(
                    f"an address is to be chosen on {_called(network)}, which is external:"
                    " hosts have theirs already",
                    'at(".10"), the address that the host has, or at(None)',
                )
        for name, value in said.items():
            if value is not None and value != ():
                yield WrongValue(
                    f"{name}={shown(value)} on {_called(network)}, which is external:"
                    " nothing is set there",
                    "leave it out",
                )


def _called(network: Network) -> str:
    """A network in a message: in the class body that makes it, it has no name yet."""
    return f"network {network.name!r}" if network.name else repr(network)


@declaring("trunk")
def trunk(*networks: Network, mac: str | None = None, mtu: int | None = None) -> NetworkLink:
    """An interface that carries several networks, told apart by their ``vlan_id`` (802.1Q).

    The machine's other links stand ``over`` it::

        links={"eth0": trunk(lan, dmz), "lan0": lan.at(".1", over="eth0")}
    """
    wrong_values: list[WrongValue] = []
    given: tuple[object, ...] = networks
    for network in given:
        if not isinstance(network, Network):
            wrong_values.append(WrongValue(f"a trunk of {network!r}", "trunk(lan, dmz)"))
        elif sum(network is one for one in given) > 1:
            wrong_values.append(
                WrongValue(f"{_called(network)} is on the trunk twice", "trunk(lan, dmz)")
            )
    if not networks:
        wrong_values.append(WrongValue("a trunk of no networks", "trunk(lan, dmz)"))
    return NetworkLink(
        network=None,
        kind="trunk",
        bare=True,
        carries=tuple(one for one in given if isinstance(one, Network)),
        mac=mac,
        mtu=mtu,
        wrong_values=tuple(wrong_values),
    )


class NetworkConfig(Mapping[str, NetworkLink]):
    """Interface name to link: what a machine has, or several machines have alike.

    ``NetworkConfig({"eth0": lan.at()}, wan0=world.at(".1"))`` is taken wherever ``links=`` is;
    ``config | {"eth1": ...}`` makes another one.
    """

    __slots__ = ("_links",)

    @declaring("network configuration", own=1)
    def __init__(
        self, links: Mapping[str, NetworkLink] = MappingProxyType({}), /, **more: NetworkLink
    ) -> None:
        self._links = MappingProxyType({**links, **more})

    def __getitem__(self, interface: str) -> NetworkLink:
        return self._links[interface]

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def __or__(self, other: Mapping[str, NetworkLink]) -> NetworkConfig:
        return NetworkConfig({**self._links, **other})

    def __repr__(self) -> str:
        return f"NetworkConfig({dict(self._links)!r})"


def _is_unicast_mac(mac: object) -> bool:
    if not isinstance(mac, str) or not _MAC.fullmatch(mac):
        return False
    return not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00"
